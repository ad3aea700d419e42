"""What `tellapart shape` says, as text, LaTeX, Markdown or JSON."""

import json
import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import click

from tellapart.errors import UsageError
from tellapart.models.sizes import Formula, Layer
from tellapart.models.worked import Place

STYLE = "tellapart.shape.style"
FORMS = {
    "latex": "Print LaTeX for a thesis; it needs no package.",
    "markdown": "Print Markdown, formulas between dollars.",
    "json": "Print one JSON document on standard output.",
}


class Part(NamedTuple):
    """A piece of an answer in each form."""

    text: list[str]
    latex: list[str]
    markdown: list[str]
    json: dict[str, Any]


def formulas(lines: tuple[Formula, ...]) -> Part:
    """Lines of arithmetic."""
    plain, latex = [line.plain for line in lines], [line.latex for line in lines]
    shown = ([rf"\[ {one} \]" for one in latex], [f"$$ {one} $$\n" for one in latex])
    return Part(plain, *shown, {"formulas": plain, "latex": latex})


def facts(layer: Layer) -> Part:
    """What one layer takes, gives and costs, as a table."""
    (weights, biases), before, after = layer.parameters, prod(layer.input[1:]), prod(layer.output[1:])
    rows = {
        "input": layer.input,
        "output": layer.output,
        "weight": layer.weight or "none",
        "bias": layer.bias or "none",
        "parameters": f"weights {weights:,} + biases {biases:,} = {weights + biases:,}",
        "multiply-adds": f"{layer.multiply_adds:,} a picture",
        "values": f"{before:,} become {after:,} a picture (x {after / before:.4g})",
        **({"the same as": layer.same_as} if layer.same_as else {}),
        "in PyTorch": layer.torch,
    }
    table = [rf"{name} & {value} \\".replace("_", r"\_") for name, value in rows.items()]
    return Part(
        [f"{name:<14} {value}" for name, value in rows.items()],
        ["", r"\begin{tabular}{ll}", *table, r"\end{tabular}"],
        ["| what | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())],
        {name: value for name, value in vars(layer).items() if name != "formulas"}
        | {"weights": weights, "biases": biases},
    )


def matrix(title: str, numbers: Sequence[Sequence[float]]) -> Part:
    """Rows of numbers with a title, each number in few digits and all equally wide."""
    width = max(len(f"{number:g}") for row in numbers for number in row)
    rows = [[f"{number:g}".rjust(width) for number in row] for row in numbers]
    columns, body = "r" * len(rows[0]), r" \\ ".join(" & ".join(row) for row in rows)
    array = rf"\mbox{{{title}: }} \left[ \begin{{array}}{{{columns}}} {body} \end{{array}} \right]"
    text = [title, *("  " + " ".join(row) for row in rows)]
    return Part(text, [rf"\[ {array} \]"], [f"$$ {array} $$\n"], {_key(title): numbers})


def trace(title: str, places: list[Place]) -> Part:
    """What is computed at each place."""
    text, items = [], []
    for row, column, work, value in places:
        where = f"row {row + 1}, column {column + 1}"
        latex = re.sub(r"(?<=\d)x(?=\d)", r" \\times ", work).replace("max", r"\max")
        text.append(f"  {where}: {work} = {value:g}")
        items.append(f"{where}: ${latex} = {value:g}$")
    listed = [title + ":", r"\begin{itemize}", *(rf"\item {item}" for item in items), r"\end{itemize}"]
    markdown = [f"{title}:\n", *(f"- {item}" for item in items), ""]
    return Part([title, *text], listed, markdown, {_key(title): [place._asdict() for place in places]})


def _key(title: str) -> str:
    return title.replace(",", "").replace(" ", "_")


def styled(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags that choose the form of an answer; `say` asks which was given."""
    for name, text in FORMS.items():
        option = click.option(f"--{name}", name, is_flag=True, help=text, expose_value=False, callback=_remember)
        command = option(command)
    return command


def _remember(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked and (other := ctx.meta.setdefault(STYLE, param.name)) != param.name:
        raise UsageError(f"--{other} and --{param.name} are two forms of one answer.", "Choose one of them.")


def say(*parts: Part) -> None:
    """Print the parts in the form that was asked for."""
    style = click.get_current_context().meta.get(STYLE, "text")
    if style == "json":
        values = {key: value for part in parts for key, value in part.json.items()}
        return click.echo(json.dumps({"format": 1, **values}, indent=1))
    click.echo("\n".join(line for part in parts for line in getattr(part, style)))
