"""Training by several processes: shares of a batch, processes that agree, deaths that are named, starts that go on."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import tellapart
from torch._C._distributed_c10d import HashStore

from tellapart.cli import complain
from tellapart.cli.launch import begun_before, launched
from tellapart.data.loader import Batch, share_of
from tellapart.errors import DataError, TellapartError, Terminated, UsageError, WorkerError
from tellapart.recipe import Recipe
from tellapart.run import Run, place, sharing
from tellapart.training import lifeline
from tellapart.training.checkpoint import Checkpoint, Position, packed
from tellapart.training.lifeline import Lifeline, met, opened
from tellapart.training.sync_norm import synced
from tellapart.training.world import ALONE, World, join
from tellapart.workflow import ranks
from tellapart.workflow.events import Event
from tellapart.workflow.prepare import prepare
from tellapart.workflow.ranks import _following, _made_of, followed
from tellapart.workflow.settle import Settled, settle_processes
from tellapart.workflow.train import put_together

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "tellapart"]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_picture_of_a_batch_belongs_to_one_process_in_order(size: int) -> None:
    for n in range(1, 41):
        shares = [share_of(n, rank, size) for rank in range(size)]
        own = [np.arange(n)[share.rows] for share in shares if not share.lent]
        assert np.concatenate(own).tolist() == list(range(n))
        assert all(len(part) >= min(2, n) and len(part) >= shares[0].least for part in own)
        assert max(map(len, own)) - min(map(len, own)) <= 1
        lent = [np.arange(n)[share.rows] for share in shares if share.lent]
        assert all(len(part) == shares[0].least for part in lent)  # as many passes through the network as the others


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_processes_cut_a_batch_into_as_many_parts(size: int) -> None:
    for n in range(1, 20):
        batch = Batch(torch.zeros(n, 2, 2, 1), torch.arange(n), np.arange(n), np.zeros((4, n), np.float32), 0, 0)
        shared = [batch.shared(rank, size) for rank in range(size)]
        assert len({len(part.parts(4)) for part in shared}) == 1
        assert all(part.counted == n for part in shared)
        own = [part for part in shared if part.share is not None and not part.share.lent]
        assert np.concatenate([p.rows for part in own for p in part.parts(4)]).tolist() == list(range(n))


def test_what_one_process_would_have_is_not_touched() -> None:
    loss, batch = (
        torch.tensor(2.0),
        Batch(torch.zeros(3, 1, 1, 1), torch.zeros(3), np.arange(3), np.zeros((4, 3), np.float32), 0, 0),
    )
    assert join() is ALONE
    assert ALONE.joined(loss, torch.nn.BatchNorm2d(3), batch) is loss
    assert ALONE.weight(3, batch) == 3
    assert ALONE.factor(batch) == 1
    assert ALONE.most(1.0, 2.0) == [1.0, 2.0]
    assert ALONE.rows(
        lambda s: np.ones((s.stop - s.start, 2), np.float32), [slice(0, 2), slice(2, 5)], columns=2
    ).shape == (5, 2)


def test_a_synced_network_keeps_its_names_and_judges_alike() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Sequential(torch.nn.BatchNorm2d(4))
    )
    model(torch.randn(8, 1, 6, 6))
    before, picture = {k: v.clone() for k, v in model.state_dict().items()}, torch.randn(2, 1, 6, 6)
    expected = model.eval()(picture)
    made = synced(model)
    assert {k: v.tolist() for k, v in made.state_dict().items()} == {k: v.tolist() for k, v in before.items()}
    torch.testing.assert_close(made.eval()(picture), expected)


def test_a_batch_too_small_to_share_and_a_number_that_did_not_start_are_refused() -> None:
    small = Settled(Recipe.from_values({"train.batch_size": 4}), {})
    with pytest.raises(UsageError, match="A batch of 4 cannot be shared by 3 processes"):
        settle_processes(small, 3)
    asked = Settled(Recipe.from_values({"machine.processes": 4}), {"machine.processes": "--processes"})
    with pytest.raises(UsageError, match="The recipe asks for 4 processes; 2 trained here"):
        settle_processes(asked, 2)
    assert settle_processes(small, 2).recipe.machine.processes == 2


@pytest.mark.parametrize("more", [["--folds", "3"], ["--seeds", "2"], ["--dry-run"], ["--debug"]])
def test_what_is_not_one_training_is_not_shared(tmp_path: Path, more: list[str]) -> None:
    done = tellapart(tmp_path, "train", "digits", "--processes", "2", *more)
    assert done.code == 2
    assert f"{more[0]} is done by one process." in done.err
    assert "--processes 1" in done.err


@pytest.mark.parametrize("words", [["search", "digits", "--try", "optim.lr=0.1,0.2"], ["prove-resume", "digits"]])
def test_trainings_in_a_row_are_not_shared(tmp_path: Path, words: list[str]) -> None:
    done = tellapart(tmp_path, *words, "--processes", "2")
    assert done.code == 2
    assert "is done by one process." in done.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("verb", [["train", "digits"], ["resume", "it"], ["extend", "it", "--epochs", "9"]])
def test_one_process_is_not_started_again(tmp_path: Path, verb: list[str]) -> None:
    Run.create(tmp_path / "runs", "it")
    done = tellapart(tmp_path, *verb, "--restarts", "2")
    assert done.code == 2
    assert "--restarts starts several processes again; one is to train." in done.err


def test_more_processes_than_a_batch_can_feed_are_refused_before_they_start(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", "digits", "--processes", "99")
    assert done.code == 2
    assert "A batch of 64 cannot be shared by 99 processes: each needs two pictures." in done.err
    assert "Use --processes 32, or --batch-size 198 or more" in done.err


PLACED = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "LOCAL_WORLD_SIZE": "3"}


def variables(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name in (*PLACED, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_a_process_knows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    variables(monkeypatch, **PLACED)
    assert (place(), sharing()) == ((1, 3), 3)
    for alone in ({}, {"RANK": "4"}, {"WORLD_SIZE": ""}, {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "x"}):
        variables(monkeypatch, **alone)
        assert (place(), sharing()) == ((0, 1), 1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"WORLD_SIZE": "2"}, "one of several processes, but without RANK, MASTER_ADDR, MASTER_PORT."),
        ({**PLACED, "MASTER_ADDR": ""}, "one of several processes, but without MASTER_ADDR."),
        ({**PLACED, "RANK": "3"}, "RANK=3: expected less than WORLD_SIZE=3."),
        ({**PLACED, "RANK": "-1"}, "RANK: expected a whole number, at least 0. Received: '-1'."),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: expected a whole number, at least 1. Received: 'two'."),
        ({**PLACED, "LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE: expected a whole number, at least 1."),
    ],
)
def test_variables_that_are_there_by_accident_are_named(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], said: str
) -> None:
    variables(monkeypatch, **values)
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        sharing()
    assert "unset " in refused.value.hint


def test_a_command_typed_wrong_is_said_once_on_each_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, said in {"0": True, "1": False}.items():
        variables(monkeypatch, **PLACED, LOCAL_RANK=rank)
        for code in (2, 130, 143):
            assert complain("What is this?", "", code) == code
            assert bool(capsys.readouterr().err) is said
        complain("This machine lacks the pictures.", "", 3)
        assert capsys.readouterr().err
    variables(monkeypatch, LOCAL_RANK="1")
    complain("What is this?", "", 2)
    assert capsys.readouterr().err


def test_only_the_first_process_looks_for_an_earlier_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Run.create(tmp_path, "it")
    run.write("recipe.toml", "")
    variables(monkeypatch, **PLACED)
    assert begun_before(tmp_path, "it", asked=True) is None
    variables(monkeypatch, **{**PLACED, "RANK": "0"})
    assert begun_before(tmp_path, "it", asked=True) == run


def test_a_silence_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lifelines()[0].silence == 30
    monkeypatch.setenv("TELLAPART_SILENCE", "5")
    assert lifelines()[0].silence == 5
    for text in ("2", "-5", "soon", "nan"):
        monkeypatch.setenv("TELLAPART_SILENCE", text)
        with pytest.raises(UsageError, match=r"TELLAPART_SILENCE: expected a whole number, at least 3. Received"):
            lifelines()


def endings(*answers: TellapartError | None) -> Callable[[], TellapartError | None]:
    """What is answered, one after the other, to whether someone asked to stop."""
    left = iter(answers)
    return lambda: next(left)


def test_who_waits_for_others_says_for_whom_and_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lifeline, "PATIENCE", -1.0)
    with pytest.raises(Terminated):
        met(HashStore(), 0, 3, endings(None, Terminated("Stopped by SIGTERM.")))
    assert capsys.readouterr().err == "note: waiting for rank 1, 2 of 3 processes\n"
    with pytest.raises(Terminated):
        met(HashStore(), 2, 3, endings(None, None, Terminated("Stopped by SIGTERM.")))
    assert capsys.readouterr().err == "note: waiting for rank 0 of 3 processes\n"
    with socket.socket() as nobody:  # bound, and not listening: no one answers there
        nobody.bind(("localhost", 0))
        variables(monkeypatch, **{**PLACED, "MASTER_PORT": str(nobody.getsockname()[1])}, LOCAL_RANK="0")
        with pytest.raises(Terminated):
            opened(first=False, asked=endings(None, None, Terminated("Stopped by SIGTERM.")))
        assert f"rank 0 at localhost:{nobody.getsockname()[1]} (MASTER_ADDR" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(lifeline, "LONGEST", timedelta(seconds=0.1))
    with pytest.raises(WorkerError, match=r"waited 0\.\d+ minutes for rank 1 of 2 processes"):
        met(HashStore(), 0, 2)
    assert capsys.readouterr().err == ""


def lifelines() -> tuple[Lifeline, Lifeline]:
    """Those of two processes, that meet in this one."""
    store = HashStore()
    return Lifeline(lambda: store, 0, 2), Lifeline(lambda: store, 1, 2)


def test_what_ended_one_process_ends_another_with_its_words_and_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = lifelines()
    monkeypatch.setattr(World, "most", lambda self, *numbers: [3.0])

    def broken() -> None:
        raise DataError("picture-9.png is broken.", "Bring it back.")

    with pytest.raises(DataError):
        World(1, 2, second).together(broken)
    with pytest.raises(WorkerError, match=r"Rank 1 \(process \d+ on .*\) ended: picture-9\.png is broken\.") as ended:
        World(0, 2, first).together(lambda: None)
    assert (ended.value.exit_code, ended.value.hint) == (3, "Bring it back.")


def test_whoever_dies_is_named_at_any_moment_and_it_is_said_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "GONE", 0.3)
    first, second = lifelines()
    second.hint = "`tellapart resume it` goes on from the last checkpoint."

    def torn() -> Iterator[Event]:
        raise RuntimeError("Connection closed by peer")
        yield

    with pytest.raises(WorkerError, match=r"^Rank 0 \(process .* died\. `tellapart resume it` goes on") as died:
        list(_following(second, World(1, 2, second).watched(torn())))
    assert not died.value.quiet
    first.leave()  # for it knows that the other has left


def test_a_lack_of_memory_in_another_process_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.from_values({"data.source": "digits", "data.limit": 40, "train.batch_size": 8, "machine.cache": 0})
    pieces = put_together(prepare(Settled(recipe, {})), torch.device("cpu"))
    first, second = lifelines()
    asked = {"recipe": recipe.to_toml(), "made": _made_of(pieces), "first": 0, "max_steps": 5, "hint": ""}
    first.say("go/0", json.dumps(asked))
    monkeypatch.setattr(World, "passed", lambda self: packed(Checkpoint(position=Position(), model={})))

    def lacking(*words: object, **named: object) -> Iterator[Event]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        yield

    monkeypatch.setattr(ranks, "loop", lacking)
    with pytest.raises(UsageError, match="cpu has too little memory for a batch of 8 pictures"):
        followed(World(1, 2, second), 0, lambda: None, prepare, lambda prepared: pieces)


def test_the_launcher_leaves_the_talking_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", lambda config, entry: lambda *words: None)
    assert launched(2, "tellapart train digits") == 0
    for name in ("torch.distributed.elastic.agent.server.api", "torch.distributed.elastic.multiprocessing.api"):
        assert not logging.getLogger(name).isEnabledFor(logging.ERROR)


def test_a_finished_run_ends_all_processes_wherever_they_look(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "here" / "runs", "it")
    run.set_status(state="finished")
    run.write("recipe.toml", "")
    (tmp_path / "there").mkdir()
    with socket.create_server(("localhost", 0)) as free:
        port = str(free.getsockname()[1])
    own = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    words = ["train", "digits", "--run", "it", "--resume"]
    both = [started(tmp_path / at, *words, RANK=str(n), **own) for n, at in enumerate(("here", "there"))]
    (_, err), (_, other) = (ended(one) for one in both)
    assert [one.returncode for one in both] == [0, 0], err + other


def test_several_processes_train_as_one_and_end_as_one() -> None:
    words = [sys.executable, str(ROOT / "scripts" / "prove" / "ranks.py"), "--quick", "--faults", "4", "--seed", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "inputs the same: 6 of 6" in done.stdout


def started(at: Path, *words: str, **variables: str) -> subprocess.Popen:
    """A command in several processes, that a test watches."""
    here, piped = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}, subprocess.PIPE
    return subprocess.Popen(
        [*COMMAND, *words], cwd=at, env=here, stderr=piped, stdout=piped, text=True, start_new_session=True
    )


def ended(process: subprocess.Popen, within: float = 300) -> tuple[str, str]:
    """What it printed and said; when it does not end in time, it is ended with all that it has started."""
    try:
        return process.communicate(timeout=within)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def process_of(launcher: int, rank: int) -> int:
    """The process number of a rank."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise ProcessLookupError(rank)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc, to find the processes")
def test_a_process_that_is_killed_is_named_started_again_and_the_run_goes_on(tmp_path: Path) -> None:
    words = ["train", "digits", "--model", "linear", "--no-test", "--processes", "2", "--restarts", "1", "--run", "it"]
    again = started(tmp_path, *words, "--epochs", "60", "--set=train.patience=60", "--set=machine.save_seconds=0.2")
    metrics = tmp_path / "runs" / "it" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not metrics.is_file() and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process_of(again.pid, 1), signal.SIGKILL)
    out, err = ended(again)
    assert again.returncode == 0, err
    assert "error: Rank 1 (process " in err
    assert "died." in err
    assert "training goes on after step" in err
    assert "2 processes" in err
    epochs = [line["epoch"] for _, line in Run(tmp_path / "runs" / "it").records() if line["kind"] == "epoch"]
    assert epochs == list(range(60))
    assert "validation accuracy" in out
    recipe = (tmp_path / "runs" / "it" / "recipe.toml").read_text()
    assert "processes = 2  # --processes" in recipe
    assert json.loads((tmp_path / "runs" / "it" / "environment.json").read_text())["processes"] == 2


def test_what_one_process_cannot_do_ends_all_with_one_message_and_its_exit_code(tmp_path: Path) -> None:
    done = started(tmp_path, "train", str(tmp_path / "nowhere"), "--processes", "2")
    _, err = ended(done)
    assert done.returncode == 3
    assert err.count("error: ") == 1
    assert "There is no folder" in err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
