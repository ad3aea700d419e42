"""Hugging Face data sets as an Index: by name from the Hub, or from a local folder. Pictures are decoded by us."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import Ignored, Index, Strings
from tellapart.data.official import expanded, read_bytes
from tellapart.data.sources.assembled import Coded, assembled
from tellapart.data.sources.layout import PART_NAMES
from tellapart.data.sources.listing import shown
from tellapart.data.sources.roles import roles_of
from tellapart.data.sources.rows import cell
from tellapart.errors import DataError, UsageError


@dataclass(frozen=True)
class ArrowStore:
    """The bytes of pictures in one column of the splits. starts (K + 1): the first row of each split, and the end."""

    splits: tuple[Any, ...]
    column: str
    starts: NDArray[np.int64]

    def stamps(self, rows: NDArray[np.int64]) -> None:
        """Nothing tells for sure whether a picture has changed: some lie in files of their own. So none is kept."""

    def read(self, row: int, most: int = -1) -> bytes:
        """The bytes of one picture. Raises DataError when the row holds none; StorageError when its file is gone."""
        split = int(np.searchsorted(self.starts, row, "right")) - 1
        value = self.splits[split][row - int(self.starts[split])][self.column] or {}
        if value.get("bytes") is None and not value.get("path"):
            raise DataError("The row holds no picture.")
        return read_bytes(Path(value["path"])) if value.get("bytes") is None else value["bytes"]


def huggingface(name: str, columns: Mapping[str, str] | None = None, *, several: str = "") -> Index:
    """The pictures of `NAME`, `NAME:CONFIGURATION` or a local folder, split by split; keys `train/000017`.

    columns: role (path, label, group) to the name of a column; others are told by their type, else guessed. Splits that
    are no part's name are left out and named. several: as for a table; labels may be lists. A name is fetched by the
    library `datasets` into its own cache.
    Raises UsageError when that library is not installed, DataError for what cannot be opened or is not classification.
    """
    name = name.removeprefix("hf:")
    opened = _opened(name)
    roles = _roles(next(iter(opened.values())).features, columns or {}, name)
    why = {split: _why_unused(split, data, roles["label"]) for split, data in opened.items()}
    kept = {split: data for split, data in opened.items() if not why[split]}
    ignored = tuple(Ignored(key=f"{split}/", reason=reason) for split, reason in why.items() if reason)
    if not kept:
        raise DataError(f"{shown(name)} has no labelled split called {', '.join(PART_NAMES)}: {', '.join(opened)}.")
    return _index(name, kept, roles, ignored, several)


def _library() -> Any:
    try:
        return import_module("datasets")
    except ImportError as error:
        hint = "python3 -m pip install 'tellapart[huggingface]'"
        raise UsageError("Hugging Face data sets need the library datasets, which is not installed.", hint) from error


def _opened(name: str) -> dict[str, Any]:
    """The splits by name; '' for a data set without splits."""
    datasets = _library()
    if not name.partition(":")[0].strip():
        raise DataError("hf: is without the name of a data set.", "For example hf:mnist, or hf:FOLDER.")
    folder = expanded(name)
    if name.startswith((".", "/", "~")) and not folder.is_dir():
        raise DataError(f"There is no folder {shown(folder)}.", "Check the path.")
    saved = any((folder / file).is_file() for file in ("dataset_info.json", "dataset_dict.json"))
    words = (str(folder),) if folder.is_dir() else tuple(filter(None, name.partition(":")[::2]))
    offline = datasets.config.HF_HUB_OFFLINE
    try:
        # without a Hub what was fetched before is opened, or refused at once and not after six tries in half a minute
        datasets.config.HF_HUB_OFFLINE = offline or not (folder.is_dir() or _answers(words[0], datasets.config))
        found = datasets.load_from_disk(words[0]) if saved else datasets.load_dataset(*words)
    except Exception as error:  # the library and what it rests on raise nearly every kind
        reason = str(error).strip().split("\n")[0].rstrip(".")[:300]
        raise DataError(
            f"The Hugging Face data set {shown(name)} cannot be opened: {reason or type(error).__name__}.",
            "Check its name, and the connection unless it is a folder or was fetched before.",
        ) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    return dict(found) if isinstance(found, dict) else {"": found}


def _answers(name: str, config: Any) -> bool:
    """Whether the Hub answers when it is asked for a data set, be it that there is none."""
    hub = import_module("huggingface_hub")
    try:
        hub.HfApi(endpoint=config.HF_ENDPOINT).dataset_info(name, timeout=5)
    except hub.errors.HfHubHTTPError as error:
        return error.response.status_code < 500
    except Exception as error:  # of whatever makes the connection; a ValueError is about the name
        return isinstance(error, ValueError)
    return True


def _roles(features: Any, asked: Mapping[str, str], name: str) -> dict[str, str]:
    """The columns of the pictures (`path`), the label and perhaps the group: asked for, by their type, or guessed."""
    datasets = _library()
    images = [one for one, kind in features.items() if isinstance(kind, datasets.Image)]
    if asked.get("path"):
        images = [one for one in images if one == asked["path"]]
    if len(images) != 1:
        raise DataError(
            f"{shown(name)} has {len(images) or 'no'} columns of pictures among {', '.join(features)}.",
            'Say which with --columns "path=…".',
        )
    labels = [one for one, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    typed = {"label": labels[0]} if len(labels) == 1 else {}
    header = [one for one in features if one not in images]
    roles = roles_of(header, {**typed, **asked, "path": "", "split": ""}, where=shown(name), needed=("label",))
    return {"path": images[0], **roles}


def _texts(data: Any, column: str) -> list[str]:
    values = data.select_columns([column]).with_format("arrow")[:].column(column).to_pylist()
    return [cell(value, f"'{shown(column)}'") for value in values]


def _why_unused(split: str, data: Any, label: str) -> str:
    """Why a split is left out, or ''."""
    if split and split.casefold() not in PART_NAMES:
        return f"a split of {len(data):,} rows that is not called as a part"
    return f"a split of {len(data):,} rows without labels" if set(_texts(data, label)) <= {"", "-1"} else ""


def _index(name: str, kept: dict[str, Any], roles: dict[str, str], ignored: tuple[Ignored, ...], several: str) -> Index:
    datasets = _library()
    keys, columns = [], {role: Coded() for role in ("label", "group", "split") if role in roles or role == "split"}
    for split, data in kept.items():
        keys += [f"{split or 'rows'}/{row:06d}" for row in range(len(data))]
        for role, column in columns.items():
            for text in [split] * len(data) if role == "split" else _texts(data, roles[role]):
                column.add(text)
    sets = [data.select_columns([roles["path"]]) for data in kept.values()]
    raw = tuple(data.with_format(None).cast_column(roles["path"], datasets.Image(decode=False)) for data in sets)
    kind = next(iter(kept.values())).features[roles["label"]]
    known = getattr(getattr(kind, "feature", kind), "names", None) or ()  # of a list, those of its entries
    taken = ", ".join(f"{'pictures' if role == 'path' else role} from '{shown(one)}'" for role, one in roles.items())
    return assembled(
        os.path.basename(name.rstrip("/")) or "pictures",
        Strings.of(keys),
        columns,
        ArrowStore(raw, roles["path"], np.cumsum([0, *map(len, raw)], dtype=np.int64)),
        lambda _: keys.__getitem__,
        known=known,
        ignored=ignored,
        said=(f"Hugging Face data set {shown(name)}: {taken}.",),
        several=several,
    )
