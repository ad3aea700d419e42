"""Sharded weights: two processes that hold half of everything learn what two that hold all of it learn, and stop,
fail, resume and branch as they do.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from sums import sums

from tellapart.models.bundle import load_bundle
from tellapart.training.checkpoint import load_checkpoint, newest_first
from tellapart.training.shards import gathered, is_shard, local, spread, whole

Found = Mapping[str, Any]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def found(at: Path) -> Found:
    paths = os.pathsep.join(path for path in sys.path if path)
    words = [sys.executable, str(Path(__file__).with_name("sharding.py")), str(at)]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ended_well(one: Found) -> bool:
    assert not any(one["codes"]), one
    return True


def apart(at: Path, one: str, other: str) -> float:
    """The largest difference of any weight, over the largest number of its tensor."""
    ours, theirs = (load_bundle(at / "runs" / name / "model.safetensors").state for name in (one, other))
    assert ours.keys() == theirs.keys()
    return max(float((ours[k] - t).abs().max() / t.abs().max().clamp_min(1e-3)) for k, t in theirs.items())


def records(at: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (at / "runs" / name / "metrics.jsonl").read_text().splitlines()]


def test_sharded_weights_become_those_of_whole_ones(at: Path, found: Found) -> None:
    assert ended_well(found["mlp-ddp"])
    assert ended_well(found["small-ddp"])
    assert ended_well(found["small-fsdp"])
    assert apart(at, "small-fsdp", "small-ddp") < 1e-5
    assert (at / "runs" / "small-fsdp" / "recipe.toml").read_text().count('parallel = "fsdp"') == 1


def test_three_processes_share_matrices_that_three_does_not_divide(at: Path, found: Found) -> None:
    assert ended_well(found["mlp-fsdp"])  # a share of the biases of 10 classes is empty in none, of 33 units uneven
    assert apart(at, "mlp-fsdp", "mlp-ddp") < 1e-5


def test_the_log_tells_of_the_whole_network(at: Path, found: Found) -> None:
    ours, theirs = (records(at, name) for name in ("small-fsdp", "small-ddp"))
    assert len([one for one in ours if one["kind"] == "step"]) == 24
    for one, other in zip(ours, theirs, strict=True):
        for key in {"loss", "penalty", "grad_norm", "train_loss", "val_loss"} & other.keys():
            assert one[key] == pytest.approx(other[key], rel=1e-5)


def test_each_process_holds_its_share_only(found: Found) -> None:
    for said in found["small-fsdp"]["said"]:
        shares = [float(line.split()[1]) for line in said.splitlines() if line.startswith("SHARE")]
        assert len(shares) == 2
        assert all(0.45 < share < 0.55 for share in shares)


def test_a_checkpoint_of_shards_is_one_of_whole_tensors(at: Path, found: Found) -> None:
    ours, theirs = (
        load_checkpoint(newest_first(at / "runs" / name / "checkpoints")[0]) for name in ("small-fsdp", "small-ddp")
    )
    for kind in ("model", "optimiser", "average"):
        one, other = getattr(ours, kind), getattr(theirs, kind)
        assert {k: (t.shape, t.dtype) for k, t in one.items()} == {k: (t.shape, t.dtype) for k, t in other.items()}
    assert ours.optimiser["steps"] == 24
    assert ours.average["count"] == 24


def test_stopped_and_resumed_it_is_never_stopped_to_the_last_bit(at: Path, found: Found) -> None:
    assert found["stopped"]["codes"] == [143, 143]
    assert "error: Stopped by SIGTERM." in found["stopped"]["said"][0]
    assert ended_well(found["resumed"])
    assert "as if never stopped, to the last bit" in found["resumed"]["said"][0]
    assert sums(at / "runs" / "stopped") == sums(at / "runs" / "small-fsdp")


def test_it_goes_on_whole_and_says_what_that_changes(at: Path, found: Found) -> None:
    assert ended_well(found["under-ddp"])
    assert ended_well(found["in-one"])
    assert "changed since the run began: weights sharded → whole\n" in found["under-ddp"]["said"][0]
    changed = "changed since the run began: processes 2 → 1; weights sharded → whole\n"
    assert changed in found["in-one"]["said"][0]
    assert apart(at, "under-ddp", "small-fsdp") < 1e-5
    assert len(records(at, "in-one")) == len(records(at, "small-fsdp"))


def test_a_picture_that_one_process_cannot_judge_ends_all_of_them(at: Path, found: Found) -> None:
    assert found["misread"]["codes"] == [3, 3]
    assert "error: Rank 1 (process " in found["misread"]["said"][0]
    assert " ended: picture-9.png is broken.\n" in found["misread"]["said"][0]
    assert "error: picture-9.png is broken." in found["misread"]["said"][1]
    assert ended_well(found["reread"])  # which judges before it trains
    assert sums(at / "runs" / "misread") == sums(at / "runs" / "small-fsdp")


def test_a_branch_begins_with_the_weights_and_a_fresh_optimiser(at: Path, found: Found) -> None:
    assert ended_well(found["branch"])
    assert "its weights with a fresh optimiser" in found["branch"]["said"][0]
    first = load_checkpoint(at / "runs" / "branch" / "checkpoints" / "step-000000")
    parent = load_bundle(at / "runs" / "small-fsdp" / "model.safetensors").state
    assert all(torch.equal(first.model[name], tensor) for name, tensor in parent.items())
    shapes = {first.model[name].shape for name in ("8.weight", "8.bias")}
    assert shapes < {tensor.shape for tensor in first.optimiser.values()}
    assert not any(tensor.any() for tensor in first.optimiser.values())


def test_half_precision_learns_near_the_same(at: Path, found: Found) -> None:
    assert ended_well(found["bf16"])
    assert 0 < apart(at, "bf16", "mlp-ddp") < 0.3


def test_what_needs_whole_matrices_is_refused_where_they_are_shared(found: Found) -> None:
    share = "error: With --parallel fsdp each process has a share of every matrix; "
    hint = "hint: Change that, or use --parallel ddp."
    for name, why in (("muon", "muon turns whole matrices."), ("budget", "a budget is measured by one process alone.")):
        assert found[name]["codes"] == [2, 2]
        assert f"{share}{why}\n{hint}" in found[name]["said"][0]
    assert ended_well(found["alone"])


def test_a_training_that_diverges_ends_with_what_was_finite(at: Path, found: Found) -> None:
    assert found["diverged"]["codes"] == [5, 5]
    assert "error: The training diverged at step " in found["diverged"]["said"][0]
    assert load_bundle(at / "runs" / "diverged" / "model.safetensors").state


def test_tensors_that_are_no_shards_pass_as_they_are() -> None:
    tensor = torch.nn.Parameter(torch.ones(2))
    assert local(tensor) is whole(tensor) is spread(tensor, tensor) is tensor
    assert not is_shard(tensor)
    assert not is_shard(torch.nn.Buffer(torch.ones(1)))
    assert gathered({"a": tensor}, wanted=False) == {}
    assert [*gathered({"a": tensor}, wanted=True)] == ["a"]
