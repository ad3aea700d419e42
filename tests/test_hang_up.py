"""SIGHUP: a terminal that is closed, or a lost connection, ends a training as SIGTERM does; `nohup` still works."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Done, process, tellapart

from tellapart.training.checkpoint import load_checkpoint
from tellapart.workflow.stopping import Stopping

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

ENDLESS = ("train", "digits", "--limit", "90", "--epochs", "1000000", "--model", "linear", "--patience", "1000000")
CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """SIGHUP ends a process that does not ask for it, also where these tests are themselves run under `nohup`."""
    was = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, was)


def is_kept(at: Path) -> None:
    """The run `a` was saved when it was stopped."""
    run = Done(143, "", "", at).run("a")
    assert (run.status()["state"], run.status()["error"].partition(".")[0]) == ("interrupted", "Stopped by SIGHUP")
    last = load_checkpoint(run.folder / "checkpoints" / run.status()["checkpoints"]["last"])
    assert last.position.step == run.status()["step"] > 0
    assert "interrupted: Stopped by SIGHUP." in (run.folder / "log.txt").read_text()


def test_a_terminal_that_is_closed_costs_no_step(tmp_path: Path) -> None:
    words, environment = process(*ENDLESS, "--run", "a")
    ours, theirs = os.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    words = [sys.executable, "-c", CONTROLLED, *words[1:]]
    with subprocess.Popen(words, cwd=tmp_path, env=environment, start_new_session=True, **streams) as child:
        try:
            os.close(theirs)
            seen = b""
            while b"epoch 3/" not in seen:
                seen += os.read(ours, 4096)
            os.close(ours)
            assert child.wait(timeout=60) == 143
        finally:
            child.kill()
    is_kept(tmp_path)


def test_sighup_is_said_where_there_is_still_someone_to_read_it(tmp_path: Path) -> None:
    words, environment = process(*ENDLESS, "--run", "a")
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        try:
            next(line for line in child.stderr if line.startswith("epoch 2/"))
            child.send_signal(signal.SIGHUP)
            _, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 143
    assert "error: Stopped by SIGHUP." in err
    assert "`tellapart resume a` goes on from here." in err
    is_kept(tmp_path)


def test_a_terminal_that_is_gone_without_a_word_does_not_end_a_training(tmp_path: Path) -> None:
    words, environment = process(*ENDLESS[:4], "--model", "linear", "--epochs", "60", "--patience", "60", "--run", "a")
    ours, theirs = os.openpty()  # it is not the one that controls the process, so no signal comes
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        seen = b""
        while b"epoch 3/" not in seen:
            seen += os.read(ours, 4096)
        os.close(ours)
        assert child.wait(timeout=60) == 0
    assert Done(0, "", "", tmp_path).run("a").status()["state"] == "finished"


@pytest.mark.skipif(shutil.which("nohup") is None, reason="no nohup here")
def test_what_nohup_protects_goes_on(tmp_path: Path) -> None:
    words, environment = process(*ENDLESS, "--run", "a")
    with subprocess.Popen(["nohup", *words], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        try:
            next(line for line in child.stderr if line.startswith("epoch 2/"))
            child.send_signal(signal.SIGHUP)
            assert (
                len([line for line, _ in zip(child.stderr, range(20), strict=False) if line.startswith("epoch ")]) > 9
            )
            child.send_signal(signal.SIGTERM)
            _, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert (child.returncode, "error: Stopped by SIGTERM." in err) == (143, True)


@pytest.mark.parametrize(("before", "asked"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_a_sighup_that_was_ignored_at_the_start_stays_so(before: signal.Handlers, asked: bool) -> None:
    was = signal.signal(signal.SIGHUP, before)
    try:
        with Stopping() as stopping:
            signal.raise_signal(signal.SIGHUP)
            ending = stopping.asked()
        assert (ending is not None and (ending.message, ending.exit_code) == ("Stopped by SIGHUP.", 143)) == asked
        assert signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, was)


def test_it_goes_on_after_a_sighup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tellapart.training import fit

    seed = fit.seed_dropout

    def at_the_fourth(device: object, number: int, *, count: list[int] = []) -> None:  # noqa: B006
        count.append(1)
        if len(count) == 4:
            signal.raise_signal(signal.SIGHUP)
        seed(device, number)  # type: ignore[arg-type]

    words = ("digits", "--limit", "90", "--epochs", "3", "--batch-size", "16", "--model", "linear")
    with monkeypatch.context() as patch:
        patch.setattr(fit, "seed_dropout", at_the_fourth)
        done = tellapart(tmp_path, "train", *words, "--run", "a")
    assert done.code == 143
    assert "Stopped by SIGHUP." in done.err
    assert tellapart(tmp_path, "resume", "a").code == 0
