"""What happens to a machine in the middle of it: a full disk, a place that cannot be written, Ctrl-C, a closed pipe."""

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import Done, process, tellapart, train
from pictures import make_folder

from tellapart.models.bundle import load_bundle
from tellapart.training import fit
from tellapart.training.checkpoint import load_checkpoint

FEW = ("--epochs", "3", "--batch-size", "8")
QUICK = ("digits", "--model", "linear", "--epochs", "1")


def sound(folder: Path) -> None:
    """Nothing is half written: no staged file is left, every checkpoint is whole, and so is a model that is there."""
    assert not list(folder.rglob("*.tmp")) + list(folder.rglob(".tmp-*")) + list(folder.rglob(".trash-*"))
    for checkpoint in folder.glob("*/checkpoints/step-*"):
        load_checkpoint(checkpoint)
    for model in folder.glob("*/model.safetensors"):
        load_bundle(model).module()


def test_a_disk_that_fills_up_at_any_moment_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, left = os.fsync, [0]

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    ends = []
    for flushes in range(200):
        left[0] = flushes
        done = tellapart(tmp_path, "train", *QUICK, "--runs", f"runs{flushes}", "--run", "a")
        sound(tmp_path / f"runs{flushes}")
        ends.append(done.code)
        if done.code == 0:
            break
        assert "The disk is full: " in done.err, f"after {flushes} flushes: {done.err}"
        assert "Free some space, or choose another place with --runs or --out." in done.err
    assert ends == [4] * (len(ends) - 1) + [0]
    assert len(ends) > 20


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kilobytes", [1, 2, 4, 16, 40])
def test_a_write_that_the_system_refuses_ends_with_the_name_of_the_file(tmp_path: Path, kilobytes: int) -> None:
    with no_file_above(kilobytes * 1024):
        done = tellapart(
            tmp_path,
            "train",
            "digits",
            "--limit",
            "100",
            "--batch-size",
            "16",
            "--set",
            "train.log_every=1",
            "--run",
            "a",
        )
    assert done.code == 4
    assert f"{tmp_path / 'runs/a'}/" in done.err
    assert "cannot be written: File too large." in done.err
    assert done.run("a").status()["state"] == "failed"
    sound(tmp_path / "runs")


def test_curves_that_cannot_be_written_end_with_a_sentence_and_keep_the_model(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets")  # of such a run the event file is the largest: 14 kB, the model has 9
    with no_file_above(11 * 1024):
        done = tellapart(tmp_path, "train", "pets", "--model", "linear", *FEW, "--run", "a")
    assert "unexpected" not in done.err
    assert done.code == 4
    assert done.run("a").status()["state"] == "failed"
    assert done.run("a").bundle.is_file()
    sound(tmp_path / "runs")


def test_a_mistake_of_the_program_does_not_leave_a_run_that_looks_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "judged", lambda *_, **__: 1 / 0)
    done = tellapart(tmp_path, "train", *QUICK, "--set", "train.log_every=1", "--run", "a")
    assert (done.code, "ZeroDivisionError" in done.err) == (1, True)
    assert done.run("a").status()["state"] == "failed"


def test_a_file_in_the_place_of_the_runs_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("mine")
    done = tellapart(tmp_path, "train", *QUICK, "--run", "a")
    assert "exists already" not in done.err
    assert done.code == 4
    assert (tmp_path / "runs").read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="/sys refuses folders, even root's, on Linux")
def test_a_place_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", *QUICK, "--runs", "/sys/tellapart", "--run", "a")
    assert done.code == 4
    assert "/sys/tellapart cannot be written: " in done.err
    assert "Choose a place you may write to with --runs or --out." in done.err


def test_a_run_folder_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    first = train(tmp_path, "a", *QUICK).run("a").folder
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    done = tellapart(tmp_path, "train", *QUICK, "--seed", "1", "--run", "a")
    assert done.code == 2
    assert f"The run folder {first} exists already." in done.err
    assert "--run a-2" in done.err
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_keeps_a_whole_model_and_checkpoint(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    words, environment = process("train", "digits", "--epochs", "1000000", "--run", "a")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, **pipes) as child:
        assert child.stderr is not None
        try:
            said = next(line for line in child.stderr if line.startswith("epoch 1/"))
            child.send_signal(sent)
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == code, said + err
    assert out == ""
    assert "Traceback" not in err
    run = Done(code, out, err, tmp_path).run("a")
    assert "The best model so far (epoch " in err
    assert run.status()["state"] == "interrupted"
    assert set(run.status()["checkpoints"]) == {"last", "best"}
    assert not (tmp_path / "runs/openings.jsonl").exists()
    for name in run.status()["checkpoints"].values():
        assert load_checkpoint(run.folder / "checkpoints" / name).model
    last = load_checkpoint(run.folder / "checkpoints" / run.status()["checkpoints"]["last"])
    assert last.position.step == run.status()["step"]
    assert last.optimiser
    sound(tmp_path / "runs")


@pytest.mark.parametrize("words", [("data", "list"), ("data", "show", "digits", "--list"), ("--help",)])
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, words: tuple[str, ...]) -> None:
    command, environment = process(*words)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()  # as `| head -0` does
        err = child.stderr.read()
    assert err == ""
    assert child.returncode == 0
