"""Stopped, killed, run out of disk: at every moment a sentence, the right exit code, and the same bits after resume."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import process, tellapart, train
from sums import sums

from tellapart.cli import show
from tellapart.errors import BusyError, StorageError
from tellapart.run import Run
from tellapart.training import fit
from tellapart.workflow import final, fitting, keeping
from tellapart.workflow.stopping import Stopping

WORDS = ("digits", "--limit", "90", "--epochs", "3", "--batch-size", "16", "--model", "small")
SET = tuple(w for s in ("train.swa=0.7", "machine.cache=0", "train.log_every=1", "model.width=4") for w in ("--set", s))
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The sums of a training that nobody stopped."""
    return sums(train(tmp_path_factory.mktemp("whole"), "whole", *WORDS, *SET).run("whole").folder)


def before_call(work: Callable[..., Any], do: Callable[[], None], *, number: int) -> Callable[..., Any]:
    """The same work; before its nth call something else happens."""
    count = [0]

    def doing(*words: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == number:
            do()
        return work(*words, **named)

    return doing


Phase = tuple[str, Any, str, int]
PHASES: list[Phase] = [
    ("decode", show.Screen, "decoding", 1),
    ("first step", fit, "seed_dropout", 1),
    ("step", fit, "seed_dropout", 8),
    ("last step of an epoch", fit, "seed_dropout", 10),
    ("first validation", fitting, "logits_of_rows", 1),
    ("last validation", fitting, "logits_of_rows", 3),
    ("save", keeping, "save_checkpoint", 1),
    ("judging", final, "predict_part", 1),
    ("test", final, "predict_part", 2),
]


@POSIX
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase[0])
def test_a_signal_in_any_phase_is_polite_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, str], phase: Phase
) -> None:
    called, where, name, number = phase
    sent, code = (signal.SIGINT, 130) if number == 8 else (signal.SIGTERM, 143)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, before_call(getattr(where, name), lambda: signal.raise_signal(sent), number=number))
        done = tellapart(tmp_path, "train", *WORDS, *SET, "--run", "a")
    run = done.run("a")
    assert (done.code, run.status()["state"]) == (code, "interrupted"), done.err
    assert f"Stopped by {'Ctrl-C' if code == 130 else 'SIGTERM'}." in done.err
    if called == "decode":
        assert "goes on" not in done.err
        assert "was stopped before it began to train" in tellapart(tmp_path, "resume", "a").err
        return
    assert "`tellapart resume a` goes on from here." in done.err
    again = tellapart(tmp_path, "resume", "a")
    assert again.code == 0, again.err
    assert sums(run.folder) == whole
    assert not list(run.folder.rglob("*.tmp")) + list(run.folder.rglob(".t*-*")) + list(run.folder.rglob(".lock"))


@POSIX
def test_a_run_stopped_before_its_first_record_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    press = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(fit, "seed_dropout", before_call(fit.seed_dropout, press, number=2))
    run = tellapart(tmp_path, "train", *WORDS, "--run", "a").run("a")
    assert (run.status()["step"], list(run.records())) == (2, [])
    done = tellapart(tmp_path, "resume", "a")
    assert done.code == 0, done.err


@POSIX
def test_a_second_ctrl_c_leaves_at_once_but_not_when_it_is_the_same_press(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stopping() as stopping:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
        assert stopping.asked().exit_code == 130  # type: ignore[union-attr]
        later = time.monotonic() + 2
        monkeypatch.setattr(time, "monotonic", lambda: later)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@POSIX
def test_sigusr1_saves_now_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, str]) -> None:
    saved: list[str] = []
    save = keeping.save_checkpoint
    monkeypatch.setattr(keeping, "save_checkpoint", lambda *a: (saved.append(a[2]), save(*a))[1])
    ask = lambda: signal.raise_signal(signal.SIGUSR1)  # noqa: E731
    monkeypatch.setattr(fit, "seed_dropout", before_call(fit.seed_dropout, ask, number=8))
    run = train(tmp_path, "a", *WORDS, *SET).run("a")
    assert [name for name in saved if name.startswith("step")] == ["step-000008-mid", "step-000015"]
    assert "saved after step 8, as was asked\n" in (run.folder / "log.txt").read_text()
    assert sums(run.folder) == whole


def saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cost: float, every: int) -> list[int]:
    """The steps after which a training is saved that takes a second for each and `cost` seconds for a save."""
    clock, saved = [0.0], []
    save = keeping.save_checkpoint

    def slow(folder: Path, one: Any, name: str) -> Path:
        clock[0] += cost if name.startswith("step") else 0
        saved.extend([one.position.step] if name.startswith("step") else [])
        return save(folder, one, name)

    def tick() -> float:
        return clock[0]

    def step(*words: Any) -> None:
        clock[0] += 1

    monkeypatch.setattr(keeping, "save_checkpoint", slow)
    monkeypatch.setattr(keeping.time, "monotonic", tick)
    monkeypatch.setattr(fit, "seed_dropout", step)
    train(tmp_path, "a", *WORDS[:3], "--batch-size", "2", "--epochs", "3", "--model", "linear", "--no-test", *_s(every))
    return saved


def _s(seconds: int) -> tuple[str, str]:
    return ("--set", f"machine.save_seconds={seconds}")


def test_saves_come_early_and_then_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert saves(tmp_path, monkeypatch, cost=0.0, every=60) == [2, 62, 105]


def test_a_save_that_takes_long_comes_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert saves(tmp_path, monkeypatch, cost=1.5, every=20) == [2, 77, 105]  # 75 seconds: fifty times 1.5


# --- damage -----------------------------------------------------------------------------------------------------------


def stopped(at: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that was stopped at step 10 and had saved before."""
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "SHARE", float("inf"))
        press = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731
        patch.setattr(fit, "seed_dropout", before_call(fit.seed_dropout, press, number=10))
        done = tellapart(at, "train", *WORDS, *SET, "--run", "a", *_s(0))
    assert done.code == 143, done.err
    return done.run("a")


def spoil(file: Path) -> None:
    """Change one bit in the middle."""
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(bytes(raw))


@POSIX
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda at: spoil(at / "step-000010-mid/model.safetensors"), "Going back to the checkpoint of step 9."),
        (lambda at: (at / "step-000010-mid/optimiser.safetensors").unlink(), "step 9."),
        (lambda at: (at / "step-000010-mid/manifest.json").write_text("{"), "is incomplete"),
        (lambda at: (at / "step-000010-mid/position.json").write_bytes(b""), "is damaged: position.json differs"),
        (lambda at: (at / "step-000010-mid").rename(at / "step-000010-mid-copy"), ""),
        (lambda at: [spoil(f) for f in at.glob("step-*/model.safetensors")], "The training starts over."),
        (lambda at: None, ""),
    ],
    ids=["a bit", "a file", "the manifest", "empty", "moved away", "all of them", "nothing"],
)
def test_a_damaged_checkpoint_falls_back_aloud_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, str], damage: Any, says: str
) -> None:
    run = stopped(tmp_path, monkeypatch)
    damage(run.folder / "checkpoints")
    done = tellapart(tmp_path, "resume", "a")
    assert done.code == 0, done.err
    assert says in done.err
    assert says in (run.folder / "log.txt").read_text()
    assert ("note: " in done.err) == bool(says)
    assert {key: value for key, value in sums(run.folder).items() if key != "test"} == {
        key: value for key, value in whole.items() if key != "test"
    }


@POSIX
def test_without_a_whole_best_model_another_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stopped(tmp_path, monkeypatch)
    for best in run.folder.glob("checkpoints/best-*"):
        spoil(best / "model.safetensors")
    done = tellapart(tmp_path, "resume", "a")
    assert done.code == 0, done.err
    assert "No whole best model is left; the best is looked for among the epochs to come." in done.err
    assert run.status()["best"]["epoch"] >= 1


@POSIX
def test_a_damaged_checkpoint_of_a_step_is_replaced_when_the_step_comes_again(tmp_path: Path) -> None:
    run = train(tmp_path, "a", *WORDS, *SET, "--no-test").run("a")
    last = run.folder / "checkpoints" / run.status()["checkpoints"]["last"]
    spoil(last / "model.safetensors")
    run.set_status(state="interrupted")
    done = tellapart(tmp_path, "resume", "a", "--no-test")
    assert (done.code, "is damaged" in done.err) == (0, True)
    assert keeping.save_checkpoint(last.parent, fitting.load_checkpoint(last)) == last


@pytest.mark.parametrize("flushes", [16, 40, 70])
def test_a_full_disk_can_be_emptied_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, str], flushes: int
) -> None:
    fsync, left = os.fsync, [flushes]

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(keeping, "SHARE", float("inf"))
        done = tellapart(tmp_path, "train", *WORDS, *SET, "--run", "a", *_s(0))
    assert done.code == 4
    assert "The disk is full: " in done.err
    assert "`tellapart resume a` goes on from here." in done.err
    assert tellapart(tmp_path, "resume", "a").code == 0
    assert sums(done.run("a").folder) == whole


# --- one writer -------------------------------------------------------------------------------------------------------


@POSIX
def test_the_owner_of_a_busy_run_is_named(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "a")
    with run.alone(), pytest.raises(BusyError, match=rf"written by process {os.getpid()} on {os.uname().nodename}\."):
        Run(run.folder).alone().__enter__()
    with run.alone():
        (run.folder / ".lock").write_bytes(b"\x1b[31m\x00")
        with pytest.raises(BusyError, match="written by another process"):
            Run(run.folder).alone().__enter__()
    assert not (run.folder / ".lock").exists()


@POSIX
def test_a_lock_that_was_removed_meanwhile_is_not_taken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    run, flock, held = Run.create(tmp_path, "a"), fcntl.flock, []

    def late(handle: int, how: int) -> None:  # between our opening and our locking, its owner ends and another comes
        if not held:
            held.append("")
            (run.folder / ".lock").unlink()
            held[0] = Run(run.folder).alone()
            held[0].__enter__()
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(BusyError):
        run.alone().__enter__()
    held[0].__exit__(None, None, None)
    with run.alone():
        pass


RACER = """
import os, sys, time
from pathlib import Path
from tellapart.errors import BusyError
from tellapart.run import Run
run, won, end = Run(Path(sys.argv[1])), 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    try:
        with run.alone():
            os.close(os.open(run.folder / "mine", os.O_CREAT | os.O_EXCL))  # fails when someone else is here
            won += 1
            os.unlink(run.folder / "mine")
    except BusyError:
        pass
print(won)
"""


@POSIX
def test_of_many_processes_one_at_a_time_holds_a_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "a")
    environment = process()[1]
    words = [sys.executable, "-c", RACER, str(run.folder), "1.0"]
    racers = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    won = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert sum(won) > 20


@POSIX
def test_a_run_folder_that_cannot_be_locked_is_a_storage_error(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "a")
    (run.folder / ".lock").mkdir()
    with pytest.raises(StorageError, match=r"\.lock cannot be written"):
        run.alone().__enter__()
