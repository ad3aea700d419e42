"""Clipping, averages, precision, per-layer rates, plateau, early ends: each against torch or arithmetic by hand."""

import fnmatch
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from torch import nn

from tellapart.errors import DivergedError, Interrupted, UsageError
from tellapart.recipe import Loss, Optim, Recipe
from tellapart.run import Run
from tellapart.training.average import Average
from tellapart.training.checkpoint import Position
from tellapart.training.losses import make_loss
from tellapart.training.optim import groups_of, make_optimiser, rates_of
from tellapart.training.precision import FIRST_SCALE, Precision
from tellapart.training.watch import is_finite, judged, refuse_divergence
from tellapart.workflow.events import Step
from tellapart.workflow.train import Asking
from tellapart.workflow.train import train as training

CPU = torch.device("cpu")
FEW = ("digits", "--limit", "300", "--epochs", "4", "--no-test")


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))


def gradients(model: Any, seed: int = 1) -> torch.Tensor:
    pictures = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    loss = nn.functional.cross_entropy(model(pictures), torch.arange(8) % 2)
    model.zero_grad()
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("clip", [0.01, 0.3, 100.0])
def test_gradients_are_clipped_as_torch_clips_them(clip: float) -> None:
    ours, theirs = network(), network()
    loss = gradients(ours)
    gradients(theirs)
    norm, bad = Precision("fp32", CPU).gradients(ours, loss, 0, clip=clip)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), clip)
    assert norm == pytest.approx(float(expected))
    assert bad == 0
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("clip", [0.0, 0.3])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("what", ["nothing", "gradient", "statistic", "loss", "a large gradient"])
def test_what_is_not_finite_is_seen_whether_the_norm_is_wanted_or_not(what: str, wanted: bool, clip: float) -> None:
    model, precision = network(), Precision("fp32", CPU)
    loss = gradients(model)
    grads = [p.grad.clone() for p in model.parameters()]
    norm = float(nn.utils.get_total_norm(grads))
    if what == "gradient":
        model[0].weight.grad[1, 0, 2, 2] = torch.inf
    elif what == "statistic":
        model[1].running_var[1] = torch.nan
    elif what == "loss":
        loss = loss * torch.nan
    elif what == "a large gradient":  # whose square is not finite
        model[0].weight.grad[0, 0, 0, 0] = 1e30
    found, bad = precision.gradients(model, loss, 4, clip=clip, wanted=wanted)
    seen = what not in ("nothing", "a large gradient") or (what == "a large gradient" and clip > 0)
    assert (float(bad), int(precision.seen_bad)) == ((1.0, 4) if seen else (0.0, -1))
    if what == "nothing":
        assert float(found) == pytest.approx(norm if wanted or clip else 0.0)
    if what == "nothing" and not clip:
        assert all(torch.equal(a, b.grad) for a, b in zip(grads, model.parameters(), strict=True))


def test_an_average_of_the_steps_is_the_one_by_hand() -> None:
    model, decay = network(), 0.8
    average, by_hand = Average(model, decay=decay, tail=0.0), model[3].weight.detach().clone().numpy()
    for step in range(20):
        with torch.no_grad():
            model[3].weight.add_(torch.randn(2, 48, generator=torch.Generator().manual_seed(step)))
        average.after_step()
        kept = min(decay, (1 + step) / (10 + step))
        by_hand = kept * by_hand + (1 - kept) * model[3].weight.detach().numpy()
    np.testing.assert_allclose(average.tensors["3.weight"].numpy(), by_hand, rtol=1e-5)


def test_an_average_of_the_last_epochs_is_their_mean() -> None:
    model, ends = network(), []
    average = Average(model, decay=0.0, tail=0.5)
    for epoch in range(10):
        with torch.no_grad():
            model[3].weight.fill_(epoch)
        average.after_step()
        average.after_epoch((epoch + 1) / 10)
        ends.append(epoch)
    assert float(average.tensors["3.weight"][0, 0]) == pytest.approx(np.mean(ends[5:]))


def test_averaged_weights_are_lent_and_taken_back() -> None:
    model = network()
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average = Average(model, decay=0.9, tail=0.0)
    with average.applied():
        assert torch.equal(model[3].weight, own["3.weight"])  # nothing was averaged yet
    with torch.no_grad():
        model[3].weight.mul_(3)
    average.after_step()
    with average.applied():
        assert not torch.equal(model[3].weight, 3 * own["3.weight"])
        assert torch.equal(model[3].weight, average.tensors["3.weight"])
    assert torch.equal(model[3].weight, 3 * own["3.weight"])
    taken = Average(model, decay=0.9, tail=0.0)
    taken.load(average.state())
    assert taken.count == 1
    assert torch.equal(taken.tensors["3.weight"], average.tensors["3.weight"])


def test_without_averaging_nothing_is_kept() -> None:
    average = Average(network(), decay=0.0, tail=0.0)
    average.after_step()
    average.after_epoch(1.0)
    assert (average.state(), average.count) == ({}, 0)


def test_a_step_that_overflows_in_fp16_is_left_out_and_halves_the_scale() -> None:
    model, precision = network(), Precision("fp16", CPU)
    loss = gradients(model)
    for param in model.parameters():
        param.grad = param.grad * precision.scale
    expected = nn.utils.get_total_norm([p.grad / FIRST_SCALE for p in model.parameters()])
    norm, bad = precision.gradients(model, loss, 0, clip=0.0)
    assert (float(bad), float(precision.scale)) == (0, FIRST_SCALE)
    assert norm == pytest.approx(float(expected))
    model[3].weight.grad[0, 0] = torch.inf
    before = model[3].weight.detach().clone()
    _, bad = precision.gradients(model, loss, 1, clip=0.0)
    make_optimiser(model, Optim(lr=1.0)).step(1.0, skip=bad)
    assert (float(bad), float(precision.scale)) == (1, FIRST_SCALE / 2)
    assert torch.equal(before, model[3].weight)
    assert int(precision.seen_bad) == -1  # with a smaller scale it may go
    again = Precision("fp16", CPU)
    again.load(precision.state())
    assert again.scale == precision.scale


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_a_gradient_that_is_no_number_stops_before_the_step_and_names_its_weights(name: str) -> None:
    model, precision = network(), Precision("fp32", CPU)
    optimiser = make_optimiser(model, Optim(name=name, lr=0.1))
    loss = gradients(model)
    model[3].bias.grad[0] = torch.nan
    before = [p.detach().clone() for p in model.parameters()]
    _, bad = precision.gradients(model, loss, 6, clip=1.0)
    kept = []
    model[3].weight.grad = torch.zeros_like(model[3].weight)
    for param in (model[0].weight, model[0].bias, model[1].weight, model[1].bias):
        param.grad = torch.zeros_like(param)
    about = {"loss_function": make_loss(Loss()), "num_classes": 2, "step": 6, "model": model}
    with pytest.raises(DivergedError, match=r"at step 7: the gradient is not finite \(first in 3.bias\)"):
        refuse_divergence(loss, precision.seen_bad, **about, keep=lambda: kept.append(1))
    optimiser.step(0.1, skip=bad)
    assert kept == [1]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert is_finite(model)


def test_running_statistics_that_are_no_numbers_are_not_kept() -> None:
    model = network()
    assert is_finite(model)
    model[1].running_var[0] = torch.inf
    assert not is_finite(model)


def test_each_layer_has_its_own_rate_as_in_torch() -> None:
    ours, theirs = network(), network()
    rates = rates_of("0.*=0.1,3.bias=0,*=2")
    optimiser = make_optimiser(ours, Optim(lr=0.5, rates="0.*=0.1,3.bias=0,*=2", weight_decay=0.01))
    factor = lambda name: next(f for pattern, f in rates.items() if fnmatch.fnmatch(name, pattern))  # noqa: E731
    groups = [
        {"params": [p], "lr": 0.5 * factor(name), "weight_decay": 0.01 if p.ndim > 1 else 0.0}
        for name, p in theirs.named_parameters()
    ]
    oracle = torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    for seed in range(5):
        gradients(ours, seed)
        gradients(theirs, seed)
        optimiser.step(0.5)
        oracle.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("asked", ["features", "a=x", "=1", "a=-1", "a=inf", "a=nan"])
def test_rates_that_are_none_are_refused(asked: str) -> None:
    with pytest.raises(UsageError, match="NAME=FACTOR"):
        rates_of(asked)


def test_a_rate_for_weights_that_are_not_there_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"no weight is called head.\*") as caught:
        groups_of(network(), 0.0, {"head.*": 1.0})
    assert "0.weight" in caught.value.hint


def test_the_rate_drops_on_a_plateau_as_torchs_does() -> None:
    accuracies = [0.1, 0.2, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.4, 0.1, 0.1, 0.1]
    param = nn.Parameter(torch.zeros(1))
    oracle = torch.optim.SGD([param], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(oracle, mode="max", factor=0.1, patience=2, threshold=0.0)
    at = Position()
    for epoch, accuracy in enumerate(accuracies):
        at, _ = judged(at, epoch=epoch, step=epoch, loss=1.0, accuracy=accuracy, drop_after=2)
        scheduler.step(accuracy)
        assert 0.1**at.drops == pytest.approx(oracle.param_groups[0]["lr"])
    assert at.drops == 4


@pytest.mark.parametrize(
    "more",
    [
        ("train.ema=0.9",),
        ("train.swa=0.6",),
        ("machine.precision=bf16",),
        ("machine.precision=fp16", "optim.clip=1"),
        ("optim.schedule=plateau", "optim.plateau_after=1"),
        ("optim.schedule=cosine", "optim.warmup=0.3", "optim.rates=*weight=0.5", "machine.deterministic=true"),
    ],
)
def test_every_option_trains_and_resumes_to_the_same_bits(tmp_path: Path, more: tuple[str, ...]) -> None:
    words = [word for setting in more for word in ("--set", setting)]
    whole = train(tmp_path, "whole", *FEW, *words).run("whole")
    recipe, seen = Recipe.from_toml((whole.folder / "recipe.toml").read_text()), []
    asked = lambda: Interrupted("stopped") if Step in seen and seen.count(Step) == 8 else None  # noqa: E731
    events = training(recipe, Asking(runs=tmp_path / "runs", name="cut", asked=asked))
    with pytest.raises(Interrupted):
        seen.extend(type(event) for event in events)
    done = tellapart(tmp_path, "resume", "cut", "--no-test")
    assert done.code == 0, done.err
    runs = [Run(tmp_path / "runs" / name) for name in ("whole", "cut")]
    last = [run.folder / "checkpoints" / run.status()["checkpoints"]["last"] for run in runs]
    names = {file.name for file in last[0].iterdir()}
    assert names == {file.name for file in last[1].iterdir()}
    assert ("average.safetensors" in names) == more[0].startswith("train.")
    assert ("scale.safetensors" in names) == ("machine.precision=fp16" in more)
    for name in names - {"manifest.json"}:
        assert (last[0] / name).read_bytes() == (last[1] / name).read_bytes(), name


def epochs(done: Done, name: str) -> list[float]:
    return [record["val_accuracy"] for _, record in done.run(name).records() if record["kind"] == "epoch"]


def test_a_target_ends_a_training(tmp_path: Path) -> None:
    first = epochs(train(tmp_path, "whole", *FEW), "whole")
    reached = epochs(train(tmp_path, "a", *FEW, "--set", f"train.target={first[1]}"), "a")
    assert reached == first[: first.index(next(v for v in first if v >= first[1])) + 1]
    assert len(epochs(train(tmp_path, "b", *FEW, "--set", "train.target_loss=100"), "b")) == 1


def test_two_averages_at_once_are_refused(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", *FEW, "--set", "train.ema=0.9", "--set", "train.swa=0.5")
    assert done.code == 2
    assert "train.ema and for train.swa together" in done.err


def test_positions_of_older_runs_can_be_read() -> None:
    assert replace(Position(epoch=3), drops=1).waited == 0
