"""Optimisers step as torch's do, states travel, schedules hit their marks, the loss is the textbook's."""

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tellapart.data.augment import augmenter
from tellapart.data.index import ArrayStore, Index, Strings
from tellapart.data.loader import Loader
from tellapart.data.pictures import MemoryPixels, Pictures
from tellapart.evaluation.metrics import cross_entropies
from tellapart.preprocess import Preprocess
from tellapart.recipe import Loss, Optim
from tellapart.recipe_augment import Augment
from tellapart.training.average import Average
from tellapart.training.checkpoint import Position
from tellapart.training.fit import Plan, Step, fit
from tellapart.training.losses import check_outputs, make_loss
from tellapart.training.muon import Muon, orthogonal
from tellapart.training.optim import OPTIMISERS, FromTorch, Group, Sgd, groups_of, make_optimiser
from tellapart.training.precision import Precision
from tellapart.training.schedule import SCHEDULES, rate_of

BETWEEN = 20
RATES = [0.05 * (1 + math.sin(step)) + 0.001 for step in range(BETWEEN)]
IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(8) % 4


def net(memory: torch.memory_format = torch.contiguous_format) -> nn.Module:
    """A small network with filters, a norm and biases, the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = nn.Sequential(
            nn.Conv2d(3, 6, 3, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
    return made.to(memory_format=memory)  # type: ignore[call-overload]


def losses(model: nn.Module, memory: torch.memory_format) -> torch.Tensor:
    return nn.functional.cross_entropy(model(IMAGES.contiguous(memory_format=memory)), LABELS)


def stepped(model: nn.Module, optimiser, rates: list[float], memory=torch.contiguous_format) -> list[torch.Tensor]:
    """The weights after training by one of our optimisers."""
    for rate in rates:
        optimiser.zero_grad()
        losses(model, memory).backward()
        optimiser.step(rate)
    return [p.detach().clone() for p in model.parameters()]


def stepped_by_torch(kind: str, decay: float, memory: torch.memory_format, **options) -> list[torch.Tensor]:
    """The same training by torch.optim, with the decay on filters and matrices only."""
    model = net(memory)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    spared = [p for p in model.parameters() if p.ndim == 1]
    described = [{"params": decayed, "weight_decay": decay}, {"params": spared, "weight_decay": 0.0}]
    theirs = getattr(torch.optim, kind)(described, lr=1.0, **options)
    for rate in RATES:
        for group in theirs.param_groups:
            group["lr"] = rate
        theirs.zero_grad()
        losses(model, memory).backward()
        theirs.step()
    return [p.detach() for p in model.parameters()]


CASES = [
    ("SGD", Optim(name="sgd", momentum=0.0, nesterov=False, weight_decay=0.0), {}),
    ("SGD", Optim(name="sgd", momentum=0.9, nesterov=False, weight_decay=0.01), {"momentum": 0.9}),
    ("SGD", Optim(name="sgd", weight_decay=0.01), {"momentum": 0.9, "nesterov": True}),
    (
        "SGD",
        Optim(name="sgd", nesterov=False, dampening=0.3, weight_decay=0.01),
        {"momentum": 0.9, "dampening": 0.3},
    ),
    ("Adam", Optim(name="adam", weight_decay=0.0), {}),
    ("Adam", Optim(name="adam", weight_decay=0.05), {}),
    ("AdamW", Optim(name="adamw", weight_decay=0.05), {}),
    ("Adagrad", Optim(name="adagrad", weight_decay=0.05), {}),
    ("RMSprop", Optim(name="rmsprop", momentum=0.0, weight_decay=0.05), {}),
    ("RMSprop", Optim(name="rmsprop", momentum=0.9, weight_decay=0.05), {"momentum": 0.9}),
    ("Adam", Optim(name="adam", weight_decay=0.05, beta1=0.8, beta2=0.95), {"betas": (0.8, 0.95)}),
    ("AdamW", Optim(name="adamw", weight_decay=0.05, beta1=0.0), {"betas": (0.0, 0.999)}),
    ("Adadelta", Optim(name="adadelta", weight_decay=0.05), {}),
    ("Adamax", Optim(name="adamax", weight_decay=0.05, beta2=0.9), {"betas": (0.9, 0.9)}),
    ("NAdam", Optim(name="nadam", weight_decay=0.05), {}),
    ("RAdam", Optim(name="radam", weight_decay=0.05), {}),
]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize(("kind", "optim", "options"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_twenty_steps_equal_those_of_torch(kind, optim, options, memory):
    model = net(memory)
    made = stepped(model, make_optimiser(model, optim), RATES, memory)
    expected = stepped_by_torch(kind, optim.weight_decay, memory, **options)
    assert all((one - before).abs().max() > 1e-3 for one, before in zip(made, net().parameters(), strict=True))
    for one, other in zip(made, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (3, 12), (12, 3)])
def test_muon_makes_the_steps_of_torch_on_matrices(shape, monkeypatch):
    """torch's own computes in bf16; told to compute in fp32 it must agree with ours to the last digits."""
    module, weight = (
        importlib.import_module("torch.optim._muon"),
        torch.randn(shape, generator=torch.Generator().manual_seed(3)),
    )
    monkeypatch.setattr(torch, "bfloat16", torch.float32)  # which `_zeropower_via_newtonschulz` asks for by name
    ours, theirs = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    muon = Muon([Group([ours], 0.1)], momentum=0.9, betas=(0.9, 0.999))
    oracle = module.Muon([theirs], momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(10):
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        muon.step(0.02)
        oracle.param_groups[0]["lr"] = 0.02
        oracle.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_muon_turns_filters_into_matrices_and_leaves_the_rest_to_adam():
    conv: Any = nn.Conv2d(4, 6, 3)
    oracle = nn.Parameter(torch.zeros(6, 36))
    bias = nn.Parameter(conv.bias.detach().clone())
    oracle.data.copy_(conv.weight.detach().flatten(1))
    made = [
        Muon([Group([weight], 0.1), Group([other], 0.0)], momentum=0.9, betas=(0.9, 0.999))
        for weight, other in ((conv.weight, conv.bias), (oracle, bias))
    ]
    plain = torch.optim.AdamW([alone := nn.Parameter(bias.detach().clone())], lr=0.02, weight_decay=0.0)
    for step in range(4):
        grad = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(step))
        conv.weight.grad, oracle.grad = grad, grad.flatten(1)
        conv.bias.grad = bias.grad = alone.grad = grad.mean((1, 2, 3))
        for optimiser in made:
            optimiser.step(0.02)
        plain.step()
    torch.testing.assert_close(conv.weight.flatten(1), oracle)
    torch.testing.assert_close(conv.bias, alone)


def test_the_orthogonal_matrix_of_muon_is_near_that_of_the_singular_vectors():
    matrix = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.6 < values.min() < values.max() < 1.3
    assert (orthogonal(matrix) - u @ v).norm() / (u @ v).norm() < 0.3
    assert torch.equal(orthogonal(matrix.T).T, orthogonal(matrix))
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_norms_and_biases_are_spared_the_decay():
    spared = [(group.weight_decay, {p.ndim for p in group.params}) for group in groups_of(net(), 0.3)]
    assert spared == [(0.3, {4}), (0.0, {1})]


def test_frozen_weights_stay_out():
    model = net()
    for param in model[0].parameters():  # type: ignore[index]
        param.requires_grad_(False)
    before = model[0].weight.clone()  # type: ignore[index]
    stepped(model, make_optimiser(model, Optim()), RATES)
    assert torch.equal(model[0].weight, before)  # type: ignore[index]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_loaded_state_continues_to_the_last_bit(name, memory):
    optim = Optim(name=name, weight_decay=0.01)
    straight = stepped(model := net(memory), make_optimiser(model, optim), RATES, memory)

    first = net(memory)
    stepped(first, before := make_optimiser(first, optim), RATES[:7], memory)
    saved = {key: value.clone().contiguous() for key, value in before.state().items()}
    second = net(memory)
    second.load_state_dict(first.state_dict())
    (after := make_optimiser(second, optim)).load(saved)
    continued = stepped(second, after, RATES[7:], memory)
    assert all(torch.equal(one, other) for one, other in zip(continued, straight, strict=True))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_state_is_the_same_after_a_round_trip(name):
    stepped(model := net(), ours := make_optimiser(model, Optim(name=name)), RATES[:3])
    saved = {key: value.clone() for key, value in ours.state().items()}
    (other := make_optimiser(net(), Optim(name=name))).load(saved)
    assert saved.keys() == other.state().keys()
    assert all(torch.equal(saved[key], other.state()[key]) for key in saved)


def test_one_step_of_the_worked_example():
    weight = torch.tensor([1.0], requires_grad=True)
    weight.grad = torch.tensor([0.5])
    Sgd([Group([weight], 0.0)], momentum=0.0, dampening=0.0, nesterov=False).step(0.1)
    assert weight.item() == pytest.approx(0.95)


def pictures_of(n: int) -> Pictures:
    pixels = np.random.default_rng(7).integers(0, 256, (n, 6, 6, 1), np.uint8)
    index = Index(
        name="noise",
        classes=("a", "b"),
        keys=Strings.of(str(row) for row in range(n)),
        labels=np.arange(n) % 2,
        parts=np.zeros(n, np.uint8),
        store=ArrayStore(pixels),
    )
    return Pictures(index, Preprocess(size=6, channels=1), MemoryPixels(pixels))


class Watching(FromTorch):
    """SGD of torch that keeps the gradients it was given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__([Group(list(model.parameters()), 0.0)], "SGD")
        self.seen: list[torch.Tensor] = []

    def step(self, lr: float, *, skip: torch.Tensor | None = None) -> None:
        """Keep the gradient; the weights stay, because the rate is 0."""
        self.seen.append(self.inner.param_groups[0]["params"][0].grad.clone())
        super().step(lr, skip=skip)


def looped(model: nn.Module, optimiser: Any, *, accumulate: int = 1, lr: float = 0.0) -> list[Any]:
    """The records of five steps of the loop, each with the same pictures."""
    counts: Any = {"epochs": 5, "max_steps": 5, "patience": 9, "accumulate": accumulate, "log_every": 1, "seed": 0}
    plan = Plan(**counts, augment=augmenter(Augment(), 2), channels_last=False)
    records = fit(
        model,
        Loader(pictures=pictures_of(8), rows=np.arange(8), batch_size=8, device=torch.device("cpu"), shuffle=False),
        loss_function=make_loss(Loss()),
        optimiser=optimiser,
        precision=Precision("fp32", torch.device("cpu")),
        average=Average(model, decay=0, tail=0),
        rate=lambda step: lr,
        judge=lambda judged: (1.0, 0.5, 8),
        plan=plan,
        keep=lambda kind, make: None,
        asked=lambda: None,
        start=Position(),
    )
    return list(records)


def watched(*, accumulate: int) -> list[torch.Tensor]:
    """The gradients of five steps of the loop, each with the same pictures and, at a rate of 0, the same weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    watching = Watching(model)
    assert len(looped(model, watching, accumulate=accumulate)) == 10
    return watching.seen


class OwnNetwork(nn.Module):
    """A network of someone's own: only what goes forward is written."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(36, 8), nn.Parameter(torch.randn(8, 2) / 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden = self.first(pixels.flatten(1))
        return torch.where(hidden > 0, hidden, hidden.exp() - 1) @ self.second


def test_a_network_of_ones_own_needs_only_a_forward() -> None:
    torch.manual_seed(0)
    model = OwnNetwork()
    steps = [one for one in looped(model, make_optimiser(model, Optim()), lr=0.05) if isinstance(one, Step)]
    losses = [one.loss or 0.0 for one in steps]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_state_from_another_device_goes_where_the_weights_are(name: str) -> None:
    ours = make_optimiser(model := net(), Optim(name=name))
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    ours.step(0.1)
    saved = {key: value.clone() for key, value in ours.state().items()}
    (elsewhere := make_optimiser(net().to("meta"), Optim(name=name))).load(saved)
    state = {key: value for key, value in elsewhere.state().items() if value.numel() > 1}
    assert {value.device.type for value in state.values()} <= {"meta"}
    assert bool(state) == any(value.numel() > 1 for value in saved.values())


@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_do_not_add_up_over_the_steps_of_the_loop(accumulate):
    first, *others = watched(accumulate=accumulate)
    assert first.abs().max() > 0.01
    assert len(others) == 4
    assert all(torch.equal(one, first) for one in others)


def test_gradients_of_the_parts_of_a_batch_add_up_to_that_of_the_whole():
    torch.testing.assert_close(watched(accumulate=3)[0], watched(accumulate=1)[0], rtol=1e-5, atol=1e-6)


def rates(epochs: int = 10, steps_per_epoch: int = 10, **values) -> list[float]:
    """The rate of every step, and of the one after the last."""
    total = epochs * steps_per_epoch
    rate = rate_of(Optim(lr=2.0, **values), total_steps=total, steps_per_epoch=steps_per_epoch)
    return [rate(step) for step in range(total + 1)]


@pytest.mark.parametrize(
    ("schedule", "first", "last"),
    [
        ("one-cycle", 0.2, 0),
        ("linear", 2, 0),
        ("cosine", 2, 0),
        ("step", 2, 0.2),
        ("plateau", 2, 2),
        ("constant", 2, 2),
    ],
)
def test_schedules_begin_and_end_where_they_say(schedule, first, last):
    made = rates(schedule=schedule, warmup=0.2 if schedule == "one-cycle" else 0.0)
    assert (made[0], made[-1]) == (pytest.approx(first), pytest.approx(last, abs=1e-12))


def test_one_cycle_rises_to_its_peak_and_falls_by_straight_lines():
    made = rates(schedule="one-cycle", warmup=0.3)
    assert int(np.argmax(made)) == 30
    assert made[30] == pytest.approx(2.0)
    assert made[:30] == pytest.approx([0.2 + 1.8 * step / 30 for step in range(30)])
    assert made[30:] == pytest.approx([2 * (100 - step) / 70 for step in range(30, 101)])


def test_one_cycle_without_warmup_begins_at_its_peak():
    assert rates(schedule="one-cycle", warmup=0.0)[0] == 2.0


def test_step_drops_when_its_epoch_begins():
    made = rates(schedule="step", step_every=4, step_factor=0.5)
    assert [made[step] for step in (0, 39, 40, 79, 80, 99)] == [2, 2, 1, 1, 0.5, 0.5]


def test_cosine_is_half_a_cosine():
    made = rates(schedule="cosine")
    assert made == pytest.approx([1 + math.cos(math.pi * step / 100) for step in range(101)], abs=1e-12)
    assert made[50] == pytest.approx(1.0)


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 30), st.integers(1, 30), st.floats(0, 0.9))
def test_a_rate_is_never_negative_nor_above_its_peak(schedule, epochs, steps_per_epoch, warmup):
    made = rates(epochs, steps_per_epoch, schedule=schedule, warmup=warmup)
    assert min(made) >= 0
    assert max(made) <= 2 * (1 + 1e-12)


def test_the_loss_gives_the_worked_number():
    logits, label = torch.tensor([[0.1, 0.8, 0.4]]), torch.tensor([0])
    # -x[0] + ln(e^0.1 + e^0.8 + e^0.4)
    expected = -0.1 + math.log(math.exp(0.1) + math.exp(0.8) + math.exp(0.4))
    assert make_loss(Loss(label_smoothing=0.0))(logits, label).item() == pytest.approx(expected)
    assert round(cross_entropies(logits.numpy(), label.numpy())[0], 4) == 1.4733


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_the_loss_equals_that_of_torch(smoothing):
    logits = torch.randn(16, 5, generator=torch.Generator().manual_seed(2)) * 4
    labels = torch.arange(16) % 5
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels)
    assert torch.equal(make_loss(Loss(label_smoothing=smoothing))(logits, labels), expected)


@given(st.integers(1, 20), st.integers(2, 12), st.sampled_from([0.1, 1.0, 100.0, 1e4]))
def test_cross_entropies_equal_those_of_torch(n, k, scale):
    logits = torch.randn(n, k, generator=torch.Generator().manual_seed(n * 100 + k), dtype=torch.float64) * scale
    labels = torch.arange(n) % k
    expected = nn.functional.cross_entropy(logits, labels, reduction="none")
    np.testing.assert_allclose(cross_entropies(logits.numpy(), labels.numpy()), expected.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 3), (3, 2), (4, 2, 1), (4,)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(Exception, match=r"expected \(4, 2\)"):
        check_outputs(torch.zeros(shape), batch=4, num_classes=2)
    check_outputs(torch.zeros(4, 2), batch=4, num_classes=2)
