"""The forms a file of answers may have: CSV, JSON lines, and Parquet, which is made of lines when all are there."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tellapart.data.sources.listing import shown
from tellapart.errors import TellapartError, UsageError
from tellapart.files import flush, writable
from tellapart.workflow.predict import Guess, Picture

KINDS = (".csv", ".jsonl", ".parquet")
PIECE, GROUP = 1 << 18, 16
"""Cells of a table that are read at once, and how many times as many are written together, about 34 MB."""


@dataclass(frozen=True)
class Answers:
    """A file of answers: CSV, a column for each of `classes`, or JSON lines, an object a picture with those of `top`.

    In CSV, what a table would compute with stands behind a quote, and what cannot stand in one line is written as its
    escape, so that each picture has one line; JSON lines keep every name as it is. Parquet has the columns of CSV,
    numbers as numbers and nothing as null, and names as they are but for bytes that are no UTF-8.
    """

    path: Path
    classes: tuple[str, ...]

    @property
    def lines(self) -> Path:
        """Where the lines are: in the file; or beside a Parquet file until it is made, for none can be added to."""
        return self.path.with_name(f"{self.path.name}.part") if self.path.suffix == ".parquet" else self.path

    @property
    def columns(self) -> tuple[str, ...]:
        """What they are called, in CSV and Parquet."""
        return ("path", "class", "probability", "doubt", "error", *(f"p: {name}" for name in self.classes))

    @property
    def first(self) -> str:
        """The line above all others: the names of the columns, or nothing."""
        return _csv(self.columns) if self.path.suffix == ".csv" else ""

    def line(self, guess: Guess) -> str:
        """What is written of one picture. Raises nothing for any name."""
        if self.path.suffix == ".jsonl":
            top = [{"class": name, "index": number, "probability": share} for name, number, share in guess.top]
            said = {"path": guess.path, "top": top, "doubt": guess.doubt or None, "error": guess.error or None}
            several = {} if guess.said is None else {"said": [name for name, _, _ in guess.said]}
            return json.dumps({**said, **several}) + "\n"
        cells = self._cells(guess)
        if self.path.suffix == ".csv":
            return _csv(cells)
        return json.dumps([shown(one) if isinstance(one, str) else one for one in cells]) + "\n"

    def _cells(self, guess: Guess) -> list[Any]:
        """A row of the table; None for nothing."""
        shares = {number: share for _, number, share in guess.top}
        best = guess.top[0] if guess.top else (None, 0, None)
        if guess.said is not None:  # of several classes, or none, no single probability is that of the answer
            best = ("; ".join(name for name, _, _ in guess.said) or None, 0, None)
        every = (shares.get(number) for number in range(len(self.classes)))
        return [guess.path, best[0], best[2], guess.doubt or None, guess.error or None, *every]

    def read(self, line: str) -> tuple[str, str]:
        """Which picture a line is of, as it stands there, and what became of it."""
        if self.path.suffix == ".jsonl":
            path, doubt, error = (json.loads(line)[key] for key in ("path", "doubt", "error"))
        else:
            path, _, _, doubt, error, *_ = next(csv.reader([line])) if self.path.suffix == ".csv" else json.loads(line)
        return path, outcome(doubt or "", error or "")

    def named(self, picture: Picture) -> str:
        """What `read` gives for the line of this picture."""
        return self.read(self.line(Guess(path=str(picture), error="?")))[0]


def outcome(doubt: str, error: str) -> str:
    """One word for what became of a picture."""
    return "unreadable" if error else doubt.partition(":")[0] or "answered"


def _csv(cells: Iterable[object]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(_inert(one) if isinstance(one, str) else one for one in cells)
    return out.getvalue()


def _inert(text: str) -> str:
    """A cell that no table computes with, on one line, that can be written."""
    plain = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", lambda found: f"\\x{ord(found[0]):02x}", shown(text))
    return f"'{plain}" if plain.startswith(("=", "+", "-", "@")) else plain


def need(path: Path) -> None:
    """Raises UsageError for a name that ends in none of KINDS, and where the library is missing that writes it."""
    if path.suffix not in KINDS:
        raise UsageError(f"{shown(path)} ends in none of {', '.join(KINDS)}.", "Name it answers.csv, for example.")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            said = f"{shown(path)} is to be a Parquet file, and pyarrow is not installed."
            raise UsageError(said, "python3 -m pip install 'tellapart[parquet]', or name a .csv.") from error


def make_parquet(answers: Answers, asked: Callable[[], TellapartError | None]) -> None:
    """Make the Parquet file of the lines, whole or not at all, and remove them. Raises the ending that is asked for."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    kinds = [pyarrow.float64() if n == 2 or n > 4 else pyarrow.string() for n in range(len(answers.columns))]
    schema = pyarrow.schema(list(zip(map(shown, answers.columns), kinds, strict=True)))
    staged = answers.path.with_name(f".{answers.path.name}.tmp")
    with writable(answers.path), _gone_if_broken(staged), answers.lines.open(encoding="utf-8", newline="\n") as lines:
        with ParquetWriter(staged, schema) as writer:
            tables = (_table(some, schema) for some in _pieces(lines, len(kinds)))
            while group := list(islice(tables, GROUP)):
                writer.write_table(pyarrow.concat_tables(group), row_group_size=1 << 30)
                if ending := asked():
                    raise ending
        flush(staged)
        os.replace(staged, answers.path)
        flush(answers.path.parent)
    answers.lines.unlink()


def _pieces(lines: Iterable[str], columns: int) -> Iterator[list[str]]:
    coming = iter(lines)
    return iter(lambda: list(islice(coming, max(1, PIECE // columns))), [])


def _table(lines: list[str], schema: Any) -> Any:
    import pyarrow

    columns = zip(*map(json.loads, lines), strict=True)
    arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pyarrow.Table.from_arrays(arrays, schema=schema)


@contextmanager
def _gone_if_broken(staged: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def lines_of_parquet(path: Path) -> Iterator[str]:
    """The lines that a Parquet file was made of, without numbers. Raises UsageError where it cannot be read."""
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["path", "doubt", "error"]):
                for name, doubt, error in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield json.dumps([name, None, None, doubt, error]) + "\n"
    except (OSError, ValueError, LookupError) as error:  # pyarrow's own are among them
        raise UsageError(f"{shown(path)} is there already, and is damaged.", "Name another file for --out.") from error
