"""The rows of a table on disk (CSV, TSV, JSON-lines, a list of files), one by one, each with its line number."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tellapart.data.sources.listing import is_picture, shown
from tellapart.errors import DataError
from tellapart.files import readable

MOST_LINE = 1 << 20
"""No line of a table is longer than this, in bytes; a longer one is not text, or has lost its line ends."""
DELIMITERS = (",", ";", "\t", "|")
Row = tuple[int, Sequence[str]]
ENTRY = "\x1f"
"""What stands before each entry of a cell that is a list; no class may hold it."""


@dataclass(frozen=True)
class Format:
    """How a kind of table is read. header: its columns by name. rows: line number and cells of the columns named.

    Both raise DataError that names the line when a row is malformed, StorageError when the file cannot be read.
    """

    header: Callable[[Path], list[str]]
    rows: Callable[[Path, Sequence[str]], Iterator[Row]]
    word: str = "line"


def place(path: Path, line: int, word: str = "line") -> str:
    """Where in a table: `labels.csv, line 7`."""
    return f"{shown(path.name)}, {word} {line:,}"


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text (with or without a byte order mark), with their ends, counted from 1."""
    with readable(path, "Check the permissions."), path.open("rb") as file:
        first = file.read(3)
        file.seek(3 if first == b"\xef\xbb\xbf" else 0)
        for number, raw in enumerate(iter(lambda: file.readline(MOST_LINE), b""), 1):
            yield number, _text(raw, path, number)


def _text(raw: bytes, path: Path, number: int) -> str:
    if len(raw) == MOST_LINE:
        raise DataError(f"{place(path, number)} has more than {MOST_LINE:,} bytes.", "Is it a text with line ends?")
    if b"\0" in raw:
        raise DataError(
            f"{place(path, number)} holds a zero byte, which no text has.",
            "Save it as UTF-8 (it may be UTF-16, as some spreadsheets write it).",
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{place(path, number)} is not UTF-8.", "Save the file as UTF-8.") from error


def _cells(path: Path) -> Iterator[Row]:
    """The header of a CSV or TSV and then its rows; the delimiter is the one that cuts the header into most columns.

    Raises DataError at the first row that is malformed or not as wide as the header.
    """
    lines, head = (line for _, line in lines_of(path)), [""]
    while not head[-1].strip() and (line := next(lines, "")):
        head.append(line)
    width = number = 0
    try:
        delimiter = max(DELIMITERS, key=lambda mark: len(next(csv.reader(head[-1:], delimiter=mark), [])))
        reader = csv.reader(chain(head[1:], lines), delimiter=delimiter, strict=True)
        for cells in reader:
            number = reader.line_num
            if len(cells) < 2 and not "".join(cells).strip():
                continue  # an empty line
            width = width or len(cells)
            if len(cells) != width:
                raise DataError(
                    f"{place(path, number)} has {len(cells)} cells; the header has {width}.",
                    "Put a cell that holds the delimiter in double quotes.",
                )
            yield number, cells
    except csv.Error as error:
        hint = "Is a double quote left open, or is the line end of another system?"
        raise DataError(f"{place(path, number + 1)} cannot be cut into cells: {error}.", hint) from error


def _csv_rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    rows = _cells(path)
    header = [name.strip() for name in next(rows)[1]]
    at = [header.index(name) for name in names]
    return ((number, [cells[n].strip() for n in at]) for number, cells in rows)


def _objects(path: Path) -> Iterator[tuple[int, dict]]:
    """The objects of a JSON-lines file, one a line."""
    for number, line in lines_of(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place(path, number)} is not JSON: {error}.", "Each line is one JSON object.") from error
        if not isinstance(value, dict):
            raise DataError(
                f"{place(path, number)} is not a JSON object.", 'Each line is like {"path": …, "label": …}.'
            )
        yield number, value


def _json_rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    for number, value in _objects(path):
        yield number, [cell(value.get(name), f"{place(path, number)}, '{shown(name)}'") for name in names]


def cell(value: object, where: str) -> str:
    """A text, a whole number, nothing, or a list of these as the text of a cell. Raises DataError for anything else."""
    if value is None:
        return ""
    if isinstance(value, list) and not any(isinstance(one, list) for one in value):
        return "".join(ENTRY + cell(one, where) for one in value) or ENTRY
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{where} is {type(value).__name__}: {str(value)[:40]!a}.", "Give a text or a whole number.")
    return str(value)


def _list_header(path: Path) -> list[str]:
    first = next((line.strip() for _, line in lines_of(path) if line.strip()), "")
    return ["path", "folder" if _is_path_alone(first) else "label"]


def _is_path_alone(line: str) -> bool:
    return is_picture(line) or not line.split()[1:]


def _list_rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    """A path and its class from each line: after a TAB or the last space; '' for paths alone, whose folders tell it."""
    holds = {True: "a path alone", False: "a path and a class"}
    alone = "folder" in names
    for number, line in lines_of(path):
        text = line.strip()
        if text and alone != _is_path_alone(text):
            raise DataError(
                f"{place(path, number)} holds {holds[not alone]}; the first line holds {holds[alone]}.",
                "Write all lines in one way: PATH, or PATH and a TAB and the class.",
            )
        if text:
            cells = (text, "") if alone else text.split("\t", 1) if "\t" in text else text.rsplit(None, 1)
            yield number, [cells[name != "path"].strip() for name in names]


CSV = Format(lambda path: [name.strip() for name in next(_cells(path), (0, []))[1]], _csv_rows)
JSON_LINES = Format(lambda path: list(next(_objects(path), (0, {}))[1]), _json_rows)
LIST = Format(_list_header, _list_rows)
