"""Predict at scale: pictures as they come, their answers to a file as they come, and on from where it was stopped."""

import csv
import glob
import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tellapart.data.sources.listing import is_picture, shown
from tellapart.data.sources.shards import members
from tellapart.errors import DataError, StorageError, UsageError
from tellapart.files import read_text, readable, writable, write_atomically
from tellapart.models.bundle import Bundle
from tellapart.workflow.predict import Guess, Picture, Stored

KINDS = (".csv", ".jsonl")
BESIDE = ".made-by.json"
"""What is added to the name of a file of answers, for the note of what it was made by."""
LIST, OFTEN = "-", 64
LONGEST = 1 << 20
"""Bytes of one path in a list."""


def asked_for(words: Sequence[str], stdin: BinaryIO) -> Iterator[Picture]:
    """Every picture that the words name, in an order that is the same each time, without keeping them: files, folders,
    globs, plain tar files, and `-`, a list of paths on standard input, each ended by a newline or, where there is one
    in its first part, by a zero byte.

    Raises UsageError for a word that names nothing, DataError for a tar file that is damaged.
    """
    for word in words:
        if word != LIST and not (word and (os.path.lexists(word) or (glob.has_magic(word) and _some(word)))):
            raise UsageError(
                f"There is no file or folder '{shown(word)}'.", "Check the spelling and the folder you are in."
            )
    return (one for word in words for one in _of_word(word, stdin))


def _some(word: str) -> bool:
    return next(glob.iglob(word, recursive=True), None) is not None


def _of_word(word: str, stdin: BinaryIO) -> Iterator[Picture]:
    if word == LIST:
        return _of_list(stdin)
    if not os.path.lexists(word):
        return (one for path in sorted(glob.iglob(word, recursive=True)) for one in _of_path(path))
    return _of_path(word)


def _of_path(path: str) -> Iterator[Picture]:
    if os.path.isdir(path):
        for folder, inner, files in os.walk(path):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            yield from (os.path.join(folder, name) for name in sorted(files) if not name.startswith("."))
    elif path.lower().endswith(".tar") and os.path.isfile(path):
        with readable(shown(path)), open(path, "rb") as file:
            for member in members(file, path):
                if member.isreg() and is_picture(member.name):  # beside pictures there are labels
                    yield Stored(f"{path}/{member.name}", path, member.offset_data, member.size)
    else:
        yield path


def _of_list(stdin: BinaryIO) -> Iterator[str]:
    rest = stdin.read(1 << 16)
    end = b"\0" if b"\0" in rest else b"\n"
    while rest:
        *whole, rest = rest.split(end)
        yield from (os.fsdecode(one.removesuffix(b"\r")) for one in whole if one.strip())
        if len(rest) > LONGEST:
            raise DataError("The list on standard input is no list of paths.", "One path a line, or `find … -print0`.")
        if not (more := stdin.read(1 << 16)):
            yield from [os.fsdecode(rest.removesuffix(b"\r"))] if rest.strip() else []
            return
        rest += more


@dataclass(frozen=True)
class Answers:
    """A file of answers: CSV, a column for each of `classes`, or JSON lines, an object a picture with those of `top`.

    In CSV, what a table would compute with stands behind a quote, and what cannot stand in one line is written as its
    escape, so that each picture has one line; JSON lines keep every name as it is.
    """

    path: Path
    classes: tuple[str, ...]

    @property
    def first(self) -> str:
        """The line above all others: the names of the columns, or nothing."""
        named = ("path", "class", "probability", "doubt", "error", *(f"p: {name}" for name in self.classes))
        return _csv(named) if self.path.suffix == ".csv" else ""

    def line(self, guess: Guess) -> str:
        """What is written of one picture. Raises nothing for any name."""
        if self.path.suffix != ".csv":
            top = [{"class": name, "index": number, "probability": share} for name, number, share in guess.top]
            said = {"path": guess.path, "top": top, "doubt": guess.doubt or None, "error": guess.error or None}
            several = {} if guess.said is None else {"said": [name for name, _, _ in guess.said]}
            return json.dumps({**said, **several}) + "\n"
        shares = {number: share for _, number, share in guess.top}
        best = guess.top[0] if guess.top else ("", 0, "")
        if guess.said is not None:  # of several classes, or none, no single probability is that of the answer
            best = ("; ".join(name for name, _, _ in guess.said), 0, "")
        every = (shares.get(number, "") for number in range(len(self.classes)))
        return _csv((guess.path, best[0], best[2], guess.doubt, guess.error, *every))

    def read(self, line: str) -> tuple[str, str]:
        """Which picture a line is of, as it stands there, and what became of it."""
        if self.path.suffix == ".csv":
            path, _, _, doubt, error, *_ = next(csv.reader([line]))
        else:
            path, doubt, error = (json.loads(line)[key] for key in ("path", "doubt", "error"))
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


def identity(bundle: Bundle) -> str:
    """A digest of what the answers of a model rest on: its weights, its network, its contract and its bounds."""
    rest = (bundle.architecture.to_json(), bundle.preprocess.to_json(), bundle.classes, bundle.temperature)
    found = hashlib.sha256(repr((*rest, bundle.known, sorted(bundle.promises.items()), bundle.thresholds)).encode())
    for name in sorted(bundle.state):
        found.update(name.encode() + bundle.state[name].numpy().tobytes())
    return found.hexdigest()


def begun(answers: Answers, made_by: Mapping[str, Any]) -> None:
    """Make the file, or prove that it was begun by the same, and cut off a last line that was torn.

    Raises UsageError for a file that is there already and of another model, of other pictures or other options.
    """
    path, note = answers.path, answers.path.with_name(answers.path.name + BESIDE)
    if path.suffix not in KINDS:
        raise UsageError(f"{shown(path)} ends in neither {' nor '.join(KINDS)}.", "Name it answers.csv, for example.")
    if path.exists():
        before = _note(note)
        if odd := [key for key in made_by if before.get(key) != made_by[key]]:
            why = f"is of another {odd[0]}" if before else "was not begun by predict"
            raise UsageError(f"{shown(path)} is there already, and {why}.", "Name another file for --out.")
        with writable(path), path.open("r+b") as file:
            file.truncate(_whole(file))
            if file.seek(0, 2):
                return
    write_atomically(note, json.dumps(made_by, indent=1))
    with writable(path):
        path.write_text(answers.first, encoding="utf-8")


def _note(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except (StorageError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _whole(file: BinaryIO) -> int:
    """How many bytes of the file are whole lines."""
    end = file.seek(0, 2)
    while end:
        start = max(0, end - (1 << 16))
        file.seek(start)
        if (at := file.read(end - start).rfind(b"\n")) >= 0:
            return start + at + 1
        end = start
    return 0


def left(answers: Answers, pictures: Iterator[Picture], counts: Counter[str]) -> Iterator[Picture]:
    """The pictures that have no line yet; those that have one are counted by what became of them.

    Raises UsageError when the lines are of other pictures than these, in this order.
    """
    with readable(shown(answers.path)), answers.path.open(encoding="utf-8", newline="\n") as file:
        file.readline() if answers.first else ""
        for number, line in enumerate(file, 1):
            picture = next(pictures, None)
            try:
                path, became = answers.read(line)
            except (ValueError, KeyError, TypeError, StopIteration):
                path, became = "", ""
            if picture is None or path != answers.named(picture):
                raise UsageError(
                    f"{shown(answers.path)} has {path or 'nothing'!a} as its picture {number:,}, and now "
                    f"{'there are fewer' if picture is None else f'{str(picture)!a} is there'}.",
                    "The pictures have changed since: name another file for --out.",
                )
            counts[became] += 1
    yield from pictures


def write(answers: Answers, guesses: Iterator[Guess], counts: Counter[str]) -> Iterator[str]:
    """Write a line for each guess as it comes, and give the digests of its pixels; often, all are with the system."""
    with writable(answers.path), answers.path.open("a", encoding="utf-8", newline="\n") as file:
        for number, guess in enumerate(guesses, 1):
            file.write(answers.line(guess))
            counts[outcome(guess.doubt, guess.error)] += 1
            if number % OFTEN == 0:
                file.flush()
            yield guess.digest
        file.flush()
        os.fsync(file.fileno())
