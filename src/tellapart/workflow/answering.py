"""Predict at scale: pictures as they come, their answers to a file as they come, and on from where it was stopped."""

import csv
import glob
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tellapart.data.sources.listing import shown
from tellapart.data.sources.shards import COMPRESSED, members, packing
from tellapart.errors import DataError, Interrupted, StorageError, TellapartError, Terminated, UsageError
from tellapart.files import alone, read_text, readable, writable, write_atomically
from tellapart.models.bundle import Bundle
from tellapart.workflow.answers import Answers, lines_of_parquet, outcome
from tellapart.workflow.predict import Guess, Picture, Stored

BESIDE = ".made-by.json"
"""What is added to the name of a file of answers, for the note of what it was made by."""
ANOTHER = "Name another file for --out."
LIST = "-"
LONGEST = 1 << 20
"""Bytes of one path in a list."""
ARCHIVES = (".tar", ".zip", ".tgz", ".tbz2", ".txz", *(f".tar{end}" for end in COMPRESSED))
"""How names end of what may be an archive."""
FIELDS = (".cls", ".json", ".txt")
"""How names end of what WebDataset keeps beside a picture in a tar: labels and captions."""
Read = Callable[[int], bytes]
"""The next bytes of a list, at most so many."""
Asked = Callable[[], TellapartError | None]
"""The ending that was asked for, if any."""


def asked_for(words: Sequence[str], stdin: Read) -> Iterator[Picture]:
    """Every picture that the words name, in an order that is the same each time, without keeping them: files, folders,
    globs, tar files that are not packed, and `-`, a list of paths on standard input, each ended by a newline or, where
    there is one in its first part, by a zero byte.

    Raises UsageError for a word that names nothing.
    """
    for word in words:
        if word != LIST and not (word and (os.path.lexists(word) or (glob.has_magic(word) and _some(word)))):
            raise UsageError(
                f"There is no file or folder '{shown(word)}'.", "Check the spelling and the folder you are in."
            )
    return (one for word in words for one in _of_word(word, stdin))


def _some(word: str) -> bool:
    return next(glob.iglob(word, recursive=True), None) is not None


def _of_word(word: str, stdin: Read) -> Iterator[Picture]:
    if word == LIST:
        return _of_list(stdin)
    if not os.path.lexists(word):
        return (one for path in sorted(glob.iglob(word, recursive=True)) for one in _of_path(path))
    return _of_path(word)


def _of_path(path: str) -> Iterator[Picture]:
    """What a path stands for; a folder or an archive that holds nothing stands for itself, with the reason."""
    if os.path.isdir(path):
        inside, empty = _of_folder(path), "The folder holds no files."
    elif path.lower().endswith(ARCHIVES) and os.path.isfile(path):
        inside, empty = _of_archive(path), "The archive holds no pictures."
    else:
        inside, empty = iter((path,)), ""
    yield next(inside, None) or Stored(path, path, 0, 0, empty)
    yield from inside


def _of_folder(path: str) -> Iterator[Picture]:
    closed: list[str] = []
    for folder, inner, files in os.walk(path, onerror=lambda error: closed.append(error.filename)):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        linked = (name for name in inner if os.path.islink(os.path.join(folder, name)))  # they are named, not entered
        every = sorted([*(name for name in files if not name.startswith(".")), *linked])
        yield from (os.path.join(folder, name) for name in every)
    yield from closed


def _of_archive(path: str) -> Iterator[Picture]:
    """The pictures of a tar, whatever its name ends in; what is packed or damaged is named, with the reason."""
    with readable(shown(path)), open(path, "rb") as file:
        head = file.read(512)
        tar, kind = head[257:262] == b"ustar", packing(head)
        if kind:
            yield Stored(path, path, 0, 0, f"It is packed by {kind}: unpack it, and name the folder or a plain .tar.")
        elif not tar and not path.lower().endswith(".tar"):
            yield path  # a picture may be called anything
        else:
            file.seek(0)
            yield from _of_tar(file, path)


def _of_tar(file: BinaryIO, path: str) -> Iterator[Picture]:
    """Its members as a folder's files are taken: all but hidden ones, whatever their names end in, and but labels."""
    try:
        for member in members(file, path):
            hidden = any(name.startswith(".") and name.strip(".") for name in member.name.split("/"))
            if not (hidden or member.isdir() or member.name.lower().endswith(FIELDS)):
                why = "" if member.isreg() and not member.issparse() else "It is not a regular file."
                if member.islnk() or member.issym():
                    why = "It is a link in the archive; its picture lies elsewhere."
                yield Stored(f"{path}/{member.name}", path, member.offset_data, member.size, why)
    except DataError as error:  # what stands before the damage is answered
        yield Stored(path, path, 0, 0, error.message)


def _of_list(stdin: Read) -> Iterator[str]:
    rest = stdin(1 << 16)
    end = b"\0" if b"\0" in rest else b"\n"
    while rest:
        *whole, rest = rest.split(end)
        yield from (os.fsdecode(one.removesuffix(b"\r")) for one in whole if one.strip())
        if len(rest) > LONGEST:
            raise DataError("The list on standard input is no list of paths.", "One path a line, or `find … -print0`.")
        if not (more := stdin(1 << 16)):
            yield from [os.fsdecode(rest.removesuffix(b"\r"))] if rest.strip() else []
            return
        rest += more


def identity(bundle: Bundle) -> str:
    """A digest of what the answers of a model rest on: its weights, its network, its contract and its bounds."""
    rest = (bundle.architecture.to_json(), bundle.preprocess.to_json(), bundle.classes, bundle.temperature)
    found = hashlib.sha256(repr((*rest, bundle.known, sorted(bundle.promises.items()), bundle.thresholds)).encode())
    for name in sorted(bundle.state):
        found.update(name.encode() + bundle.state[name].numpy().tobytes())
    return found.hexdigest()


def held(answers: Answers) -> AbstractContextManager[None]:
    """Hold the file while it is written. Raises BusyError when another process holds it."""
    path = Path(os.path.realpath(answers.path))
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder '{shown(path.parent)}'.", "Make it first, or choose another for --out.")
    return alone(path.with_name(f".{path.name}.lock"), shown(answers.path))


def engine_of(answers: Answers) -> str:
    """What computes the answers of a file that was begun; '' for one that was not."""
    there = answers.path.exists() or answers.lines.exists()
    return str(_note(answers.path.with_name(answers.path.name + BESIDE)).get("engine", "")) if there else ""


def begun(answers: Answers, made_by: Mapping[str, Any]) -> None:
    """Make the file, or prove that it was begun by the same, and cut off a last line that was torn.

    Raises UsageError for a file that is there already and of another model, of other pictures or other options.
    """
    note = answers.path.with_name(answers.path.name + BESIDE)
    there = answers.path if answers.path.exists() else answers.lines
    if there.exists():
        before = _note(note)
        if odd := [key for key in made_by if before.get(key) != made_by[key]]:
            why = f"is of another {odd[0]}" if before else "was not begun by predict"
            raise UsageError(f"{shown(there)} is there already, and {why}.", ANOTHER)
        if there != answers.lines:  # a Parquet file that is whole
            answers.lines.unlink(missing_ok=True)
            return
        with writable(there), there.open("r+b") as file:
            file.truncate(_whole(file))
            if file.seek(0, 2):
                return
    write_atomically(note, json.dumps(made_by, indent=1))
    with writable(answers.lines):
        answers.lines.write_text(answers.first, encoding="utf-8")


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


def left(
    answers: Answers, pictures: Iterator[Picture], counts: Counter[str], *, batch: int, asked: Asked
) -> Iterator[Picture]:
    """The pictures that have no line yet; those that have one are counted by what became of them.

    Lines behind the last whole batch are cut off where pictures are left, so that every batch holds the pictures that
    it would have held without a stop: the last digits of an answer may depend on them.
    Raises UsageError when the lines are of other pictures than these, in this order, and the ending that is asked for.
    """
    again: list[tuple[Picture, str]] = []
    lines = _lines(answers)
    end = whole = len(next(lines)) if answers.first else 0
    for number, line in enumerate(lines, 1):
        if ending := asked():
            raise ending
        again.append(_compared(answers, number, line, next(pictures, None)))
        counts[again[-1][1]] += 1
        end += len(line)
        if number % batch == 0:
            whole, again = end, []
    picture = next(pictures, None)
    if picture is None:
        return
    if not answers.lines.exists():
        raise UsageError(f"{shown(answers.path)} is whole, and there are more pictures now.", ANOTHER)
    with writable(answers.lines):
        os.truncate(answers.lines, whole)
    counts.subtract(became for _, became in again)
    yield from (*(one for one, _ in again), picture)
    yield from pictures


def _lines(answers: Answers) -> Iterator[bytes]:
    if answers.lines.exists():
        with readable(shown(answers.path)), answers.lines.open("rb") as file:
            yield from file
    else:
        yield from (line.encode() for line in lines_of_parquet(answers.path))


def _compared(answers: Answers, number: int, line: bytes, picture: Picture | None) -> tuple[Picture, str]:
    """The picture that a line is of, and what became of it."""
    try:
        path, became = answers.read(line.decode())
    except (ValueError, KeyError, TypeError, StopIteration, csv.Error):
        path, became = "", ""
    if picture is None or path != answers.named(picture):
        now = "there are fewer" if picture is None else f"{str(picture)!a} is there"
        said = f"{shown(answers.path)} has {path or 'nothing'!a} as its picture {number:,}, and now {now}."
        raise UsageError(said, f"The pictures have changed since: {ANOTHER[0].lower()}{ANOTHER[1:]}")
    return picture, became


def write(
    answers: Answers, guesses: Iterator[Guess], counts: Counter[str], *, batch: int, asked: Asked
) -> Iterator[str]:
    """Write a line for each guess as it comes, and give the digests of its pixels; after each batch all are with the
    system, and it ends there when an ending is asked for.
    """
    with writable(answers.lines), answers.lines.open("a", encoding="utf-8", newline="\n") as file:
        with suppress(Interrupted, Terminated):  # while a list was waited for
            for number, guess in enumerate(guesses, 1):
                file.write(answers.line(guess))
                counts[outcome(guess.doubt, guess.error)] += 1
                yield guess.digest
                if number % batch == 0:
                    file.flush()
                    if asked():
                        break
        file.flush()
        os.fsync(file.fileno())
