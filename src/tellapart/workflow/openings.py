"""The ledger of openings: which runs opened which test pictures before, so that it can stand beside the number."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data import identity
from tellapart.data.index import Index
from tellapart.errors import StorageError
from tellapart.files import read_text, writable, write_atomically
from tellapart.names import PARTS
from tellapart.run import Run, json_object, now


def noted(run: Run, index: Index) -> tuple[list[str], int]:
    """Write down, before the seal is opened, that `run` opens the test part of `index`, unless that stands there.

    Gives the runs that opened any of these pictures before it, oldest first, and how many of the pictures they saw.
    """
    digests, part = _digests(index), identity.test_part(index)
    before = opened_before(run, part, digests)
    if has_opened(run, part):
        return before
    folder = run.home / ".openings"
    with writable(folder):
        folder.mkdir(exist_ok=True)
    write_atomically(folder / f"{part}.digests", digests.tobytes())
    own = {"test_part": part, "run": run.name, "id": run.status().get("id"), "extended": _extended(run)}
    line = {**own, "time": now(), "n": len(digests)}
    _append(run.home / "openings.jsonl", json.dumps(line) + "\n")
    return before


def opened_before(run: Run, test_part: str, digests: NDArray[np.void] | None = None) -> tuple[list[str], int]:
    """The runs that opened any of these pictures before `run` did, and how many of the pictures they saw together.

    A run that was extended is among them when it had opened them before that: its model is another one since.
    """
    entries = _entries(run)
    keys = [(entry.get("id"), entry.get("test_part"), entry.get("extended", 0)) for entry in entries]
    own = run.status().get("id"), test_part, _extended(run)
    earlier = entries[: keys.index(own)] if own in keys else entries
    mine = {one.tobytes() for one in (digests if digests is not None else _kept(run.home, test_part))}
    shared = {part: _shared(run.home, part, mine) for part in {str(e.get("test_part")) for e in earlier}}
    seen = set[bytes]().union(*shared.values())
    names = [str(e.get("run", "a run without a name")) for e in earlier if shared[str(e.get("test_part"))]]
    return names, len(seen)


def has_opened(run: Run, test_part: str) -> bool:
    """Whether the ledger says that `run`, as it is since it was extended last, has opened this test part."""
    own = {"id": run.status().get("id"), "test_part": test_part, "extended": _extended(run)}
    return bool(own["id"]) and any({"extended": 0, **entry}.items() >= own.items() for entry in _entries(run))


def _entries(run: Run) -> list[dict[str, Any]]:
    """The openings that the ledger beside a run tells of, oldest first."""
    ledger = run.home / "openings.jsonl"
    lines = read_text(ledger).splitlines() if ledger.is_file() else []
    return [entry for entry in map(json_object, lines) if entry]


def known(run: Run, digests: Iterable[str]) -> Counter[str]:
    """How many of these pictures, by the hex of their digests, are in which part of the run; '' is none of them."""
    path = run.folder / "split.csv"
    rows = csv.DictReader(io.StringIO(read_text(path, errors="surrogateescape") if path.is_file() else ""))
    part_of = {row.get("digest"): row["part"] for row in rows if row.get("part") in PARTS}  # a copy that left is none
    return Counter(part_of.get(one, "") for one in digests if one)  # a file that cannot be read has none


def looked(run: Run, digests: Iterable[str]) -> list[str]:
    """What to say of pictures that a model of the run was shown without their labels.

    A look at the sealed part is no opening, for nothing is scored; the log of the run keeps that it happened.
    """
    found = known(run, digests)
    of = f"of these {found.total():,} pictures"
    notes = [f"{found[part]:,} {of} were in the {part} part of {run.name}" for part in PARTS if found[part]]
    if not found["test"] or run.predictions("test").is_file():
        return notes
    note = f"{found['test']:,} {of} are in the sealed test part of {run.name}"
    try:
        run.append("log.txt", f"{now()} predict: {note}")
    except StorageError as error:
        return [*notes[:-1], f"{note}; that could not be written into its log: {error.message}"]
    return [*notes[:-1], f"{note}: its log keeps that they were looked at; choose nothing by them"]


def _extended(run: Run) -> int:
    """How often the run was extended."""
    return len(run.status().get("extended", []))


def _digests(index: Index) -> NDArray[np.void]:
    """The digests (n) of the test rows, 16 bytes each."""
    if index.digests is None:
        raise ValueError("the digests are filled in by the first pass")
    return np.ascontiguousarray(index.digests[index.rows("test")]).view("V16").ravel()


def _kept(runs: Path, test_part: str) -> NDArray[np.void]:
    """The digests that an opening wrote down; none when the file is gone."""
    path = runs / ".openings" / f"{test_part}.digests"
    return np.frombuffer(path.read_bytes(), "V16") if path.is_file() else np.empty(0, "V16")


def _shared(runs: Path, test_part: str, mine: set[bytes]) -> set[bytes]:
    if len(test_part) != 32 or not set(test_part) <= set("0123456789abcdef"):  # no identity: no part of a file name
        return set()
    return {one.tobytes() for one in _kept(runs, test_part)} & mine


def _append(ledger: Path, line: str) -> None:
    with writable(ledger):
        handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
