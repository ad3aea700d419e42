"""A batch that is found, and a batch that is computed in parts."""

from pathlib import Path

import pytest
import torch
from commands import train
from torch import nn

from tellapart.training.finder import LARGEST, largest_batch

CPU = torch.device("cpu")
NET = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize(("memory", "size"), [(1, 1), (6_000, 1), (12_000, 2), (100_000, 16), (10**12, LARGEST)])
def test_the_largest_batch_is_a_power_of_two_that_fits_the_memory(memory: int, size: int) -> None:
    assert largest_batch(NET, (1, 8, 8), device=CPU, activations=1000, memory=memory) == size


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_largest_batch_is_tried_and_the_weights_stay_as_they_are() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)).cuda()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert largest_batch(net, (1, 8, 8), device=torch.device("cuda"), activations=1, memory=0) >= 1
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_batch_of_auto_is_found_and_written_down(tmp_path: Path) -> None:
    done = train(tmp_path, "auto", "digits", "--batch-size", "auto", "--epochs", "1", "--no-test")
    recipe = (done.run("auto").folder / "recipe.toml").read_text()
    assert "batch_size = 157  # auto: up to 1024 pictures fit" in recipe  # 1,259 pictures, eight steps an epoch


def test_parts_of_a_batch_give_the_loss_of_the_whole(tmp_path: Path) -> None:
    common = ("digits", "--model", "linear", "--epochs", "1", "--no-test", "--set", "train.log_every=1")
    whole = train(tmp_path, "whole", *common, "--batch-size", "64").run("whole").records()
    parts = ("--batch-size", "32", "--set", "train.accumulate=2")
    halves = train(tmp_path, "halves", *common, *parts).run("halves").records()
    pairs = [(a["loss"], b["loss"]) for (_, a), (_, b) in zip(whole, halves, strict=True) if a["kind"] == "step"]
    assert len(pairs) == 20
    assert max(abs(a - b) for a, b in pairs) < 1e-4
