"""The text of the exported script: its template, for pictures of one class each or of several, and values as source."""

import tomllib
from importlib import resources
from string import Template

from tellapart.data.sources.labels import pairs
from tellapart.errors import UsageError
from tellapart.recipe import Data


def template(kind: str) -> Template:
    """`script.py.txt` with the passages of `script.toml` that are for one class each ("one"), or for "several"."""
    folder = resources.files("tellapart.shipping")
    whole, passages = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("script.py.txt", "script.toml"))
    return Template(Template(whole).safe_substitute(tomllib.loads(passages)[kind]))


def columns(data: Data) -> dict[str, str]:
    """How the columns of a table are called, and the sign between the classes in a cell.

    Raises UsageError for a column of groups: a script keeps none together.
    """
    named = {"path": "path", "label": "labels", "split": "part", **pairs(data.columns, flag="--columns")}
    if "group" in named:
        said = "A plain script has no words for a column of groups."
        raise UsageError(said, "Give the parts in a column, and export from a run of that.")
    sign = data.several.strip()
    pieces = {"path": named["path"], "labels": named["label"], "part": named["split"]}
    return {**{key: quoted(name) for key, name in pieces.items()}, "sign": quoted(sign) if sign else "None"}


def quoted(text: str) -> str:
    """The repr, in double quotes where it holds none: then it holds no single quote either."""
    plain = repr(text)
    return plain if '"' in plain else f'"{plain[1:-1]}"'


def listed(names: tuple[str, ...]) -> str:
    """The names as a list, on as many lines as they need."""
    lines = [""]
    for name in map(quoted, names):
        if len(lines[-1]) + len(name) > 105:
            lines.append("")
        lines[-1] += f"{name}, "
    indent = "\n" + " " * len("CLASSES = [")
    return f"[{indent.join(line.rstrip() for line in lines).removesuffix(',')}]"
