"""A save may be cut off anywhere, by death, by the disk or by the power: old or new is found, whole, and goes on.

The same sweeps must catch four ways of saving that are known to be bad.
"""

import errno
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from crashes import cut_anywhere, first_removed, in_place, run_before, sweep, unflushed
from disk import Dead, refused

from tellapart.errors import StorageError
from tellapart.files import flush
from tellapart.training import checkpoint as saving
from tellapart.workflow import keeping


@pytest.fixture
def before() -> Iterator[Path]:
    """A run that has saved the steps 10 to 30; in memory where there is such a place, because every flush counts."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield run_before(Path(folder))


def test_death_at_every_call_of_a_save_leaves_old_or_new(before: Path) -> None:
    calls, said, wrong = sweep(before, Dead)
    assert wrong == []
    assert set(said) == {"dead"}
    assert {"open", "write", "fsync", "close", "rename", "replace", "mkdir", "unlink", "rmdir"} == set(calls)
    assert len(calls) > 60


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=lambda number: errno.errorcode[number])
def test_an_error_of_the_disk_at_every_call_is_said_and_damages_nothing(before: Path, number: int) -> None:
    calls, said, wrong = sweep(before, lambda: refused(number))
    assert wrong == []
    cleaning = [call for call, words in zip(calls, said, strict=True) if not words]
    assert set(cleaning) <= {"open", "close", "unlink", "rmdir"}  # of what was thrown away: the next save does it
    for words in filter(None, said):
        assert str(before.with_name("try")) in words
        assert "could not be written" in words or "cannot be written: " in words


@pytest.mark.parametrize("bad", [in_place, first_removed])
def test_the_sweep_catches_ways_that_are_known_to_be_bad(
    before: Path, monkeypatch: pytest.MonkeyPatch, bad: Callable[..., Path]
) -> None:
    monkeypatch.setattr(keeping, "save_checkpoint", bad)
    assert sweep(before, Dead)[2]


def test_a_power_cut_after_every_call_leaves_old_or_new(before: Path) -> None:
    looked, wrong = cut_anywhere(before, states=5)
    assert wrong == []
    assert looked > 300


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_power_cut_catches_a_save_that_flushes_too_little(
    before: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "file":
        monkeypatch.setattr(saving, "write_flushed", unflushed)
    else:
        monkeypatch.setattr(saving, "flush", lambda path: None if path.is_dir() else flush(path))
    assert cut_anywhere(before, states=3)[1]


def test_what_is_not_ours_is_left_alone(before: Path) -> None:
    folder = before / "checkpoints"
    (folder / "step-000030-copy").mkdir()
    (folder / "notes.txt").write_text("mine")
    saving.keep_only(folder, {"step-000020"})
    assert sorted(one.name for one in folder.iterdir()) == ["notes.txt", "step-000020", "step-000030-copy"]
    assert [one.name for one in saving.newest_first(folder)] == ["step-000020"]


def test_changed_bits_and_cut_files_are_never_read_in_silence(before: Path) -> None:
    whole, chance = before / "checkpoints/step-000030", random.Random(0)
    right, files = saving.load_checkpoint(whole), sorted(whole.iterdir())
    refused_, same = 0, 0
    for _ in range(1000):
        file = chance.choice(files)
        raw = file.read_bytes()
        at = chance.randrange(len(raw))
        flipped = bytes([*raw[:at], raw[at] ^ 1 << chance.randrange(8), *raw[at + 1 :]])
        file.write_bytes(chance.choice((flipped, raw[:at])))
        try:
            same += equal(saving.load_checkpoint(whole), right)
        except StorageError:
            refused_ += 1
        file.write_bytes(raw)
    assert (refused_ + same, refused_ > 950) == (1000, True)  # a few bits of the manifest's blanks mean nothing


def equal(one: saving.Checkpoint, other: saving.Checkpoint) -> bool:
    """Whether two checkpoints hold the same."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in saving.TENSORS]
    return one.position == other.position and all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in pairs
    )
