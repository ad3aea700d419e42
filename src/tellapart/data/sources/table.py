"""A table of pictures and their labels as an Index: CSV, TSV, JSON-lines, Parquet, or a list of files."""

import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tellapart.data.index import NO_PART, Ignored, Index, Store, Strings
from tellapart.data.sources import parquet
from tellapart.data.sources.assembled import Coded, Place, assembled, lists_noted
from tellapart.data.sources.below import Below
from tellapart.data.sources.folder import FileStore
from tellapart.data.sources.layout import place_of
from tellapart.data.sources.listing import few, is_picture, shown
from tellapart.data.sources.roles import roles_of
from tellapart.data.sources.rows import CSV, JSON_LINES, LIST, Format, place
from tellapart.errors import DataError, UsageError

FORMATS = {
    ".csv": CSV, ".tsv": CSV, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES,
    ".parquet": parquet.FORMAT, ".txt": LIST, ".list": LIST,
}  # fmt: skip


@dataclass
class _Read:
    """The rows of a table: the line, the key and the other columns (by role) of each; what was left out and said."""

    path: Path
    roles: dict[str, str]
    word: str
    lines: array
    keys: Sequence[str]
    coded: dict[str, Coded]
    ignored: Sequence[Ignored] = ()
    said: Sequence[str] = ()

    def at(self, role: str) -> Place:
        """Where the cells of a role stand: `labels.csv, line 7, column 'breed'`."""
        column = f", column '{shown(self.roles[role])}'" if role in self.roles else ""
        return lambda row: place(self.path, self.lines[row], self.word) + column


def table(path: Path, columns: Mapping[str, str], *, several: str = "") -> Index:
    """The pictures that a table names, in the order of its rows; keys are paths below the table's folder.

    columns: role (path, label, split, group) to the name of a column; '' leaves a role out; a role that is not given is
    guessed from usual names. A Parquet file may hold the bytes of the pictures instead of their paths. several: the
    sign between the classes in a cell, where a picture may have several or none.
    Raises DataError that names the line and what it holds; UsageError for a role or column that does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{shown(path)} is not a table that can be read.", f"A table ends in {', '.join(FORMATS)}.")
    form = FORMATS[path.suffix.lower()]
    header = form.header(path)
    images = parquet.pictures(path, columns.get("path", "")) if form is parquet.FORMAT else None
    asked, needed = ({**columns, "path": ""}, ("label",)) if images else (columns, ("path", "label"))
    roles = roles_of(header, asked, where=shown(path.name), needed=needed)
    read = _read(path, form, roles)
    if images:
        read.keys = [f"{path.name}/{row:06d}" for row in range(len(read.lines))]
        store: Store = images
    else:
        below = Below(str(path.parent))
        read = _found(read, below)
        if form is LIST and roles["label"] == "folder":
            read.coded["label"], roles["label"] = _of_folders(read.keys)
        store = FileStore(below.root, Strings.of(read.keys))
    words = _words(path, form, {"pictures": images.column, **roles} if images else roles, columns)
    known = parquet.class_names(path, roles["label"]) if form is parquet.FORMAT else []
    keys = store.keys if isinstance(store, FileStore) else Strings.of(read.keys)
    said = (words, *read.said, *([] if several else lists_noted(read.coded["label"].texts)))
    more = {"known": known, "ignored": read.ignored, "said": said, "several": several}
    return assembled(path.stem, keys, read.coded, store, read.at, **more)


def _read(path: Path, form: Format, roles: dict[str, str]) -> _Read:
    """All rows. The keys are the paths as they stand there."""
    lines, paths = array("q"), []
    coded = {role: Coded() for role in roles if role != "path"}
    adders = [paths.append if role == "path" else coded[role].add for role in roles]
    for line, cells in form.rows(path, list(roles.values())):
        lines.append(line)
        for add, text in zip(adders, cells, strict=True):
            add(text)
    if not lines:
        raise DataError(f"{shown(path.name)} names no picture.", "It needs a row for each picture, below the header.")
    return _Read(path, roles, form.word, lines, paths, coded)


def _words(path: Path, form: Format, roles: Mapping[str, str], asked: Mapping[str, str]) -> str:
    """Which column was taken for what, and which of them were guessed."""
    if form is LIST:
        how = (
            "each with its class" if (kind := roles["label"]) == "label" else f"the class of each is its {kind}'s name"
        )
        return f"{shown(path.name)}: a list of pictures, {how}."
    taken = ", ".join(f"{role} from '{shown(name)}'" for role, name in roles.items())
    guessed = any(role not in asked and role != "pictures" for role in roles)
    return f"{shown(path.name)}: {taken}{' (guessed; --columns says otherwise)' if guessed else ''}."


def _found(read: _Read, below: Below) -> _Read:
    """The rows whose picture is there, once, with its key. Raises DataError for those that are not there or outside."""
    seen: dict[str, int] = {}
    ignored, missing = [], []
    for row, text in enumerate(read.keys):
        key = _key(below, text, row, read)
        if not key:
            missing.append(row)
        elif not is_picture(key):
            ignored.append(Ignored(key=key, reason=f"{os.path.splitext(key)[1] or 'no extension'} is not read"))
        elif seen.setdefault(key, row) != row:
            ignored.append(_again(key, seen[key], row, read))
    if missing:
        _refuse_missing(missing, below, read)
    if not seen:
        raise DataError(f"{shown(read.path.name)} names no picture that is read: {shown(ignored[0].key)} is none.")
    rows = array("q", seen.values())
    coded = {role: column.take(rows) for role, column in read.coded.items()}
    said = [f"Pictures found in {folder}: {count:,}." for folder, count in below.found_in.items()]
    if unnamed := below.unnamed(seen):
        said.append(f"{unnamed:,} picture{'s' * (unnamed > 1)} in the same folders without a row: not read.")
    lines = array("q", (read.lines[row] for row in rows))
    return _Read(read.path, read.roles, read.word, lines, list(seen), coded, ignored, said)


def _of_folders(keys: Sequence[str]) -> tuple[Coded, str]:
    """The class of each path, as in a folder: the first folder that not all have, parts aside; and what to call it."""
    heads, column = [key.rpartition("/")[0] for key in keys], Coded()
    every = list(dict.fromkeys(heads))
    for tops in zip_longest(*[head.split("/") for head in every], fillvalue=""):
        if len(set(tops)) > 1 and any(top and place_of(top) == NO_PART for top in tops):
            break
    else:
        tops = [os.path.basename(os.path.commonpath(every))] * len(every)
    classes = dict(zip(every, tops, strict=True))
    for head in heads:
        column.add(classes[head])
    deep = any(head.rpartition("/")[2] != top for head, top in classes.items())
    return column, "topmost folder" if deep else "folder"


def _key(below: Below, text: str, row: int, read: _Read) -> str:
    try:
        if text:
            return below.find(text)
    except DataError as error:
        raise DataError(f"{read.at('path')(row)}: {error.message}", error.hint) from error
    raise DataError(f"{read.at('path')(row)}: the path is empty.", "Name the picture, or remove the row.")


def _again(key: str, first: int, row: int, read: _Read) -> Ignored:
    """The second row of a picture, which is left out. Raises DataError when it says something else than the first."""
    for role, column in read.coded.items():
        if column.codes[first] != column.codes[row]:
            raise DataError(
                f"{read.at(role)(row)}: {shown(key)} is {column.text(row)!a} here, and {column.text(first)!a} in "
                f"{read.word} {read.lines[first]:,}.",
                "Keep one row for each picture.",
            )
    return Ignored(key=key, reason=f"named again in {read.word} {read.lines[row]:,} (first: {read.lines[first]:,})")


def _refuse_missing(missing: list[int], below: Below, read: _Read) -> None:
    rows = [f"{read.word} {read.lines[row]:,}: {read.keys[row]!a}" for row in missing]
    raise DataError(
        f"{len(missing):,} of {len(read.keys):,} pictures that {shown(read.path.name)} names are not there: "
        f"{few(rows)}.",
        f"They were looked for in {below.where()}.",
    )
