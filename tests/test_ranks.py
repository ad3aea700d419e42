"""Training by several processes: shares of a batch, processes that agree, deaths that are named, starts that go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import tellapart

from tellapart.data.loader import Batch, share_of
from tellapart.errors import UsageError
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.training.sync_norm import synced
from tellapart.training.world import ALONE, join
from tellapart.workflow.settle import Settled, settle_processes

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
    with pytest.raises(UsageError, match="A batch of 4 pictures cannot be shared by 3 processes"):
        settle_processes(small, 3)
    asked = Settled(Recipe.from_values({"machine.processes": 4}), {"machine.processes": "--processes"})
    with pytest.raises(UsageError, match="The recipe asks for 4 processes; 2 trained here"):
        settle_processes(asked, 2)
    assert settle_processes(small, 2).recipe.machine.processes == 2


@pytest.mark.parametrize("more", [["--folds", "3"], ["--seeds", "2"], ["--dry-run"], ["--debug"]])
def test_what_is_not_one_training_is_not_shared(tmp_path: Path, more: list[str]) -> None:
    done = tellapart(tmp_path, "train", "digits", "--processes", "2", *more)
    assert done.code == 2
    assert "--processes is for one training." in done.err


def test_several_processes_train_as_one_and_end_as_one() -> None:
    words = [sys.executable, str(ROOT / "scripts" / "prove" / "ranks.py"), "--quick", "--faults", "4", "--seed", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "inputs the same: 6 of 6" in done.stdout


def started(at: Path, *words: str) -> subprocess.Popen:
    """A command in several processes, that a test watches."""
    here = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [*COMMAND, *words], cwd=at, env=here, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


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
    out, err = again.communicate(timeout=300)
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
    _, err = done.communicate(timeout=200)
    assert done.returncode == 3
    assert err.count("error: ") == 1
    assert "There is no folder" in err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
