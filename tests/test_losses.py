"""Losses are the textbook's and torch's, add up over the parts of a batch, and refuse targets that are none."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from commands import tellapart, train
from pictures import make_folder
from torch import nn
from torch.nn import functional as F

from tellapart import train as trained
from tellapart.data.index import ArrayStore, Index, Strings
from tellapart.data.mix import mixed
from tellapart.errors import DataError, UsageError
from tellapart.models.bundle import load_bundle
from tellapart.names import SMOOTHED
from tellapart.recipe import Loss, Recipe
from tellapart.recipe_augment import Augment
from tellapart.run import Run
from tellapart.training.losses import LOSSES, LossFunction, check_targets, loss_words, make_loss
from tellapart.workflow import assemble
from tellapart.workflow import train as path_of

K = 5
CLASSES = ("ant", "bee", "cat", 'd "og', "eel")
WEIGHTS = np.array([1.0, 2.0, 1.0, 0.25, 1.0])


def index_of(labels: np.ndarray, classes: tuple[str, ...] = CLASSES) -> Index:
    """Training pictures with these labels."""
    n = len(labels)
    keys = Strings.of(f"{row}.png" for row in range(n))
    store = ArrayStore(np.zeros((n, 4, 4, 1), np.uint8))
    return Index(
        name="i", classes=classes, keys=keys, labels=np.asarray(labels), parts=np.zeros(n, np.uint8), store=store
    )


INDEX = index_of(np.array([0] * 6 + [1] * 3 + [2, 3, 4]))
WEIGHED: dict[str, Any] = {"weights": 'bee=2,"d ""og=0.25"'}


def batch(n: int = 12, *, scale: float = 2.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n K) and class numbers (n), in double precision."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, K, generator=generator, dtype=torch.float64) * scale
    return logits, torch.randint(0, K, (n,), generator=generator)


def shares_of(n: int, seed: int = 1) -> torch.Tensor:
    """Shares (n K) of two classes each, as mixing makes them."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (F.one_hot(torch.randint(0, K, (n,), generator=generator), K).double() for _ in range(2))
    return torch.lerp(first, second, torch.rand(n, 1, generator=generator, dtype=torch.float64))


def hot(labels: torch.Tensor) -> torch.Tensor:
    return F.one_hot(labels, K).double()


def naive(loss: Loss, x: list[float], t: list[float]) -> float:
    """The loss of one picture from its formula, one class after the other; without class weights."""
    classes = range(len(x))
    if loss.name in SMOOTHED:
        t = [(1 - loss.label_smoothing) * share + loss.label_smoothing / len(x) for share in t]
    p = [math.exp(value) / sum(math.exp(other) for other in x) for value in x]
    s = [1 / (1 + math.exp(-value)) for value in x]
    gap = [abs(x[k] - t[k]) for k in classes]
    bend = [g * g / 2 if g < loss.delta else loss.delta * (g - loss.delta / 2) for g in gap]
    return {
        "cross-entropy": -sum(t[k] * math.log(p[k]) for k in classes),
        "bce": -sum(t[k] * math.log(s[k]) + (1 - t[k]) * math.log(1 - s[k]) for k in classes) / len(x),
        "mse": sum(g * g for g in gap) / len(x),
        "l1": sum(gap) / len(x),
        "huber": sum(bend) / len(x),
        "focal": -sum(t[k] * (1 - p[k]) ** loss.gamma * math.log(p[k]) for k in classes),
        "hinge": sum(t[k] * max(0.0, 1 - x[k] + x[j]) for k in classes for j in classes if j != k) / len(x),
    }[loss.name]


def naive_mean(loss: Loss, logits: torch.Tensor, shares: torch.Tensor) -> float:
    rows = zip(logits.tolist(), shares.tolist(), strict=True)
    return sum(naive(loss, x, t) for x, t in rows) / len(logits)


SETTINGS = [{}, {"label_smoothing": 0.0}, {"gamma": 0.5, "delta": 0.3, "label_smoothing": 0.4}]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_its_formula_for_class_numbers_and_for_shares(name, settings):
    loss, (logits, labels), shares = Loss(name=name, **settings), batch(), shares_of(12)
    made = make_loss(loss)
    assert made(logits, labels).item() == pytest.approx(naive_mean(loss, logits, hot(labels)), abs=1e-12)
    assert made(logits, hot(labels)).item() == pytest.approx(made(logits, labels).item(), abs=1e-12)
    assert made(logits, shares).item() == pytest.approx(naive_mean(loss, logits, shares), abs=1e-12)


TORCH = {
    "cross-entropy": lambda x, y, **more: F.cross_entropy(x, y, **more),
    "bce": lambda x, y: F.binary_cross_entropy_with_logits(x, hot(y)),
    "mse": lambda x, y: F.mse_loss(x, hot(y)),
    "l1": lambda x, y: F.l1_loss(x, hot(y)),
    "huber": lambda x, y: F.huber_loss(x, hot(y), delta=1.0),
    "focal": lambda x, y: F.cross_entropy(x, y),  # at gamma 0
    "hinge": lambda x, y: F.multi_margin_loss(x, y),
}


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("n", [1, 2, 17])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_equals_that_of_torch(name, n, scale):
    logits, labels = batch(n, scale=scale, seed=n)
    made = make_loss(Loss(name=name, label_smoothing=0.0, gamma=0.0))(logits, labels)
    torch.testing.assert_close(made, TORCH[name](logits, labels))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignored", [(), (0,), (1, 3)])
def test_weights_smoothing_and_ignored_classes_together_are_those_of_torch(smoothing, ignored):
    logits, labels = batch(40)
    asked = Loss(label_smoothing=smoothing, ignore=",".join(["ant", "bee", "cat", '"d ""og"'][k] for k in ignored))
    gone = torch.isin(labels, torch.tensor(ignored, dtype=torch.int64))
    for weights, more in ((None, {}), (torch.from_numpy(WEIGHTS), WEIGHED)):
        expected = F.cross_entropy(logits, labels.masked_fill(gone, -100), weight=weights, label_smoothing=smoothing)
        torch.testing.assert_close(make_loss(replace(asked, **more), INDEX)(logits, labels), expected)


@pytest.mark.parametrize("name", sorted({*LOSSES} - {"cross-entropy"}))
def test_the_other_losses_are_weighted_means_over_pictures(name):
    (logits, labels), plain = batch(), make_loss(Loss(name=name))
    each = np.array([plain(logits[n : n + 1], labels[n : n + 1]).item() for n in range(12)])
    weights = WEIGHTS[labels.numpy()]
    weighed = make_loss(Loss(name=name, **WEIGHED), INDEX)
    assert weighed(logits, labels).item() == pytest.approx(np.average(each, weights=weights))
    assert weighed(logits, hot(labels)).item() == pytest.approx(np.average(each, weights=weights))
    weights[labels.numpy() == 1] = 0
    ignoring = make_loss(Loss(name=name, **WEIGHED, ignore="bee"), INDEX)
    assert ignoring(logits, labels).item() == pytest.approx(np.average(each, weights=weights))


def test_balanced_weights_make_every_class_count_the_same():
    counts = {"balanced": [6, 3, 1, 1, 1], "none": [1] * 5}
    made = make_loss(Loss(weights="balanced"), INDEX).counts
    assert made is not None
    assert made.tolist() == pytest.approx([12 / (5 * n) for n in counts["balanced"]])
    some = make_loss(Loss(weights="balanced", ignore="ant"), INDEX).counts
    assert some is not None
    assert some.tolist() == pytest.approx([0, *(6 / (4 * n) for n in counts["balanced"][1:])])


@pytest.mark.parametrize("name", LOSSES)
def test_a_mixed_picture_counts_as_much_as_its_shares_of_classes_that_count(name):
    logits = torch.zeros(2, K, dtype=torch.float64)
    logits[:, 1] = torch.tensor([3.0, -1.0])
    labels, targets = torch.tensor([1, 2]), torch.tensor([[0.3, 0.7, 0, 0, 0], [0, 0, 1, 0, 0]], dtype=torch.float64)
    alone = [make_loss(Loss(name=name))(logits[n : n + 1], labels[n : n + 1]).item() for n in (0, 1)]
    made = make_loss(Loss(name=name, ignore="ant"), INDEX)
    assert made(logits, targets).item() == pytest.approx((0.7 * alone[0] + alone[1]) / 1.7)


VARIANTS = [{}, WEIGHED, {"weights": "balanced"}, {"ignore": "bee"}, {**WEIGHED, "ignore": "ant,eel"}]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", LOSSES)
def test_the_parts_of_a_batch_add_up_to_the_whole(name, variant):
    made = make_loss(Loss(name=name, **variant), INDEX)
    logits, labels = batch(13)
    labels[:5] = 1  # the first part is of one class, which some variants ignore
    for targets in (labels, shares_of(13)):
        whole = logits.clone().requires_grad_()
        expected = made(whole, targets)
        expected.backward()
        parts, total = logits.clone().requires_grad_(), 0.0
        for span in (slice(0, 5), slice(5, 9), slice(9, 13)):
            part = made(parts[span], targets[span]) * (made.weight(targets[span]) / made.weight(targets))
            part.backward()
            total += part.item()
        assert total == pytest.approx(expected.item(), abs=1e-6)
        torch.testing.assert_close(parts.grad, whole.grad, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_ignored_pictures_gives_nothing(name):
    made = make_loss(Loss(name=name, ignore="bee"), INDEX)
    for targets in (torch.ones(4, dtype=torch.int64), hot(torch.ones(4, dtype=torch.int64))):
        logits = batch(4)[0].requires_grad_()
        loss = made(logits, targets) * (made.weight(targets) / made.weight(targets))
        loss.backward()
        assert (loss.item(), logits.grad.abs().max().item()) == (0, 0)  # type: ignore[union-attr]


@pytest.mark.parametrize("variant", [{}, {"gamma": 0.5}, {**WEIGHED, "ignore": "eel"}])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name, variant):
    made = make_loss(Loss(name=name, **variant), INDEX)
    logits, labels = batch(6)
    for targets in (labels, shares_of(6)):
        assert torch.autograd.gradcheck(partial(_of_logits, made, targets), logits.clone().requires_grad_())


def _of_logits(made: LossFunction, targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return made(logits, targets)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_give_numbers(name, gamma):
    made = make_loss(Loss(name=name, gamma=gamma))
    for targets in (torch.arange(K), torch.eye(K), shares_of(K).float()):
        for scale in (1e4, -1e4, 0.0):
            logits = (torch.eye(K) * scale).requires_grad_()
            loss = made(logits, targets)
            loss.backward()
            assert math.isfinite(loss.item())
            assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


def test_the_worked_numbers_of_the_notes():
    def value(name: str, outputs: torch.Tensor, targets: torch.Tensor) -> float:
        return make_loss(Loss(name=name, label_smoothing=0.0))(outputs, targets).item()

    # nn.L1Loss of ones(2, 3) * 2.5 and ones: 1.5 by the mean, 9.0 by the sum
    outputs, ones = torch.ones(2, 3) * 2.5, torch.ones(2, 3)
    assert (value("l1", outputs, ones), value("l1", outputs, ones) * outputs.numel()) == (1.5, 9.0)
    # nn.MSELoss of 1 2 3 and 1 2 5: 4/3, which is the squared 2-norm over n
    outputs, targets = torch.tensor([[1.0, 2, 3]]), torch.tensor([[1.0, 2, 5]])
    assert value("mse", outputs, targets) == pytest.approx(4 / 3)
    assert value("mse", outputs, targets) == pytest.approx(torch.linalg.vector_norm(outputs - targets).item() ** 2 / 3)
    # cross entropy of 0.1 0.8 0.4 as logits; the sum of three yes-or-no terms of the same as probabilities
    logits = torch.tensor([[0.1, 0.8, 0.4]])
    assert round(value("cross-entropy", logits, torch.tensor([0])), 4) == 1.4733
    assert round(3 * value("bce", torch.logit(logits), torch.tensor([0])), 4) == 4.4228
    assert round(value("bce", torch.logit(torch.tensor([[0.1]])), torch.ones(1, 1)), 4) == 2.3026
    # two classes, cat 0.9 and dog 0.1, and it is a cat
    assert round(value("bce", torch.logit(torch.tensor([[0.9, 0.1]])), torch.tensor([0])), 4) == 0.1054
    sure, unsure = (value("bce", torch.logit(torch.tensor([[p, 1 - p]])), torch.tensor([0])) for p in (0.9, 0.5))
    assert sure < unsure
    # fully right: nothing is left
    assert value("cross-entropy", torch.tensor([[1e4, 0, 0, 0, 0]]), torch.tensor([0])) == 0
    # a higher logit of a wrong class costs more
    rising = [value("cross-entropy", torch.tensor([[0.1, wrong, 0.4]]), torch.tensor([0])) for wrong in (0.0, 1.0, 2.0)]
    assert rising == sorted(rising)


@pytest.mark.parametrize("classes", [2, 10])
def test_a_network_that_knows_nothing_has_the_value_of_its_loss(classes):
    expected = {
        "cross-entropy": math.log(classes),
        "bce": math.log(2),
        "mse": 1 / classes,
        "l1": 1 / classes,
        "huber": 0.5 / classes,
        "hinge": (classes - 1) / classes,
        "focal": (1 - 1 / classes) ** 2 * math.log(classes),
    }
    assert expected.keys() == LOSSES.keys()
    for name, value in expected.items():
        loss = Loss(name=name, gamma=2.0, delta=1.0, label_smoothing=0.0)
        found = make_loss(loss).at_rest(classes, torch.device("cpu"))
        assert found == pytest.approx(value), name


def test_a_loss_that_runs_off_is_compared_with_its_own_value_of_knowing_nothing(tmp_path):
    for name, value in (("cross-entropy", "2.3"), ("mse", "0.1"), ("hinge", "0.9")):
        words = ("--loss", name, "--model", "linear", "--lr", "1e9", "--set", "optim.clip=0", "--limit", "200")
        done = tellapart(tmp_path, "train", "digits", *words, "--set", "loss.ignore=0", "--run", name)
        assert done.code == 5
        assert f"; that of a network that knows nothing is {value}." in done.err, done.err


def test_bce_takes_several_classes_at_once():
    logits, several = batch(6)[0], (torch.rand(6, K, generator=torch.Generator().manual_seed(3)) > 0.5).double()
    expected = F.binary_cross_entropy_with_logits(logits, several)
    torch.testing.assert_close(make_loss(Loss(name="bce", label_smoothing=0.0))(logits, several), expected)
    check_targets(several, num_classes=K, total=None)
    with pytest.raises(DataError, match="that add up to 1"):
        check_targets(several, num_classes=K)


@pytest.mark.parametrize("name", LOSSES)
def test_what_mixing_makes_is_a_target(name):
    generator = np.random.default_rng(0)
    drawn = ("partner", "mix", "share", "box_y", "box_x")
    chance = {key: generator.random(8) for key in drawn}
    images, labels = torch.zeros(8, 6, 6, 1, dtype=torch.uint8), torch.arange(8) % K
    _, shares = mixed(images, labels, chance, Augment(mixup=0.4, cutmix=1.0), K)
    check_targets(shares, num_classes=K)
    assert math.isfinite(make_loss(Loss(name=name))(torch.randn(8, K), shares).item())


NAN = float("nan")


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        ([0, 4, 5], "The target of key 2 is 5; expected a class number from 0 to 4."),
        ([0, -1, 9], "The target of key 1 is -1; expected a class number from 0 to 4."),
        ([[1.0, 0, 0, 0, 0], [NAN, 0, 0, 0, 1]], "The target of key 1 is [nan, 0.0, 0.0, 0.0, 1.0]; expected shares"),
        ([[2.0, -1, 0, 0, 0]], "The target of key 0 is [2.0, -1.0, 0.0, 0.0, 0.0]; expected shares from 0 to 1 that"),
        ([[0.5, 0, 0, 0, 0]], "The target of key 0 is [0.5, 0.0, 0.0, 0.0, 0.0]; expected shares from 0 to 1 that add"),
    ],
)
def test_a_wrong_target_is_refused_by_name(targets, told):
    with pytest.raises(DataError) as caught:
        check_targets(torch.tensor(targets), num_classes=K, key="key {}".format)
    assert str(caught.value).startswith(told)


def test_right_targets_are_taken():
    check_targets(torch.tensor([0, 4]), num_classes=K)
    check_targets(shares_of(9), num_classes=K)
    check_targets(torch.zeros(0, dtype=torch.int64), num_classes=K)


@pytest.mark.parametrize(
    "targets",
    [
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(4),
        torch.zeros(4, dtype=torch.int32),
        torch.zeros(4, K, dtype=torch.int64),
        torch.zeros(4, K + 1),
        torch.zeros(4, 1),
        torch.zeros(1, K),
    ],
)
def test_targets_of_another_shape_or_kind_are_refused(targets):
    kind = str(targets.dtype).removeprefix("torch.")
    with pytest.raises(UsageError) as caught:
        make_loss(Loss(name="l1"))(torch.zeros(4, K), targets)
    assert f"The targets are {tuple(targets.shape)} {kind}; expected class numbers (4,) int64" in str(caught.value)
    assert "shares of the classes (4, 5)" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"weights": "wolf=2"}, "loss.weights: there is no class 'wolf'. Choose one of: ant,"),
        ({"weights": "bea=2"}, "loss.weights: there is no class 'bea'. Did you mean 'bee'?"),
        ({"weights": "bee=0"}, "loss.weights of bee: expected a number, above 0. Received: '0'."),
        ({"weights": "bee=-1"}, "loss.weights of bee: expected a number, above 0. Received: '-1'."),
        ({"weights": "bee=nan"}, "loss.weights of bee: expected a number, above 0. Received: 'nan'."),
        ({"weights": "bee=1_0"}, "loss.weights of bee: expected a number, above 0. Received: '1_0'."),
        ({"weights": "bee=2,bee=3"}, "loss.weights: 'bee=3' comes twice."),
        ({"weights": "blanced"}, "loss.weights: expected none, balanced, or a=2,b=0.5. Received: 'blanced'."),
        ({"ignore": "wolf"}, "loss.ignore: there is no class 'wolf'."),
        ({"ignore": "ant,bee,cat,eel"}, "loss.ignore leaves fewer than two classes that count."),
    ],
)
def test_weights_and_ignored_classes_that_are_none_are_refused(settings, told):
    with pytest.raises(UsageError) as caught:
        make_loss(Loss(**settings), INDEX)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "cross-entropy, label smoothing 0.1"),
        ({"name": "focal", "weights": "balanced"}, "focal, label smoothing 0.1, gamma 2, class weights balanced"),
        ({"name": "hinge", "ignore": "a,b", "l1": 1e-4}, "hinge, ignoring a,b, L1 0.0001"),
        ({"name": "huber"}, "huber, outputs against 0 and 1 (trust the accuracy, not the probabilities: their softmax"),
    ],
)
def test_the_line_of_stage_four_says_what_holds(settings, said):
    assert loss_words(Loss(**settings)).startswith(said)


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, K), nn.Linear(K, K))


def test_the_penalty_is_that_of_autograd_and_spares_norms_and_biases():
    model, objective = small_net(), make_loss(Loss(l1=0.01), l2=0.1)
    big = [p for p in model.parameters() if p.ndim > 1]
    assert len(big) == 3
    term = 0.01 * torch.stack([w.abs().sum() for w in big]).sum()
    expected = torch.autograd.grad(term, big)
    big[0].grad = torch.ones_like(big[0])
    objective.penalise(model, scale=2.0)
    torch.testing.assert_close([w.grad for w in big], [2 * expected[0] + 1, *(2 * e for e in expected[1:])])
    assert all(p.grad is None for p in model.parameters() if p.ndim < 2)
    l2 = sum(0.1 * w.square().sum().item() / 2 for w in big)
    assert objective.penalty(model) == pytest.approx(term.item() + l2)


def test_without_a_penalty_nothing_is_touched():
    make_loss(Loss()).penalise(model := small_net())
    assert all(p.grad is None for p in model.parameters())
    assert make_loss(Loss()).penalty(model) == 0


def run(tmp_path, **values) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """The step records and the weights of a short training on digits."""
    about = {"data.limit": 400, "model.name": "linear", "train.max_steps": 3, "train.log_every": 1}
    asking = path_of.Asking(runs=tmp_path, name=f"{len(list(tmp_path.iterdir()))}", open_test=False)
    recipe = Recipe.from_values(
        {**about, "train.batch_size": 60, **{k.replace("__", "."): v for k, v in values.items()}}
    )
    list(trained(recipe, asking))

    done = Run.open(tmp_path, asking.name)
    return [r for _, r in done.records() if r["kind"] == "step"], dict(load_bundle(done.bundle).state)


@pytest.mark.parametrize("loss", [{}, {"loss__weights": "8=5,1=0.1", "loss__ignore": "3"}])
@pytest.mark.parametrize("name", ["cross-entropy", "hinge"])
def test_a_step_in_parts_is_the_step_at_once(tmp_path, name, loss):
    more = {"loss__name": name, "loss__l1": 0.001, **loss}
    once, weights = run(tmp_path, **more)
    parts, others = run(tmp_path, **more, train__batch_size=20, train__accumulate=3)
    assert [r["loss"] for r in parts] == pytest.approx([r["loss"] for r in once], abs=1e-5)
    torch.testing.assert_close(others, weights, rtol=0, atol=1e-6)


def test_a_larger_penalty_makes_smaller_weights_and_both_are_logged(tmp_path):
    norms = []
    for l1 in (0.0, 0.003, 0.03):
        steps, weights = run(tmp_path, loss__l1=l1, optim__weight_decay=0.0)
        norms.append(sum(w.abs().sum().item() for w in weights.values() if w.ndim > 1))
        assert steps[-1]["penalty"] == pytest.approx(l1 * norms[-1], rel=1e-4)
    assert norms == sorted(norms, reverse=True)
    decayed, weights = run(tmp_path, optim__weight_decay=0.1)
    l2 = sum(0.1 * w.square().sum().item() / 2 for w in weights.values() if w.ndim > 1)
    assert decayed[-1]["penalty"] == pytest.approx(l2, rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_from_the_command_line(tmp_path, name):
    done = train(tmp_path, "a", "digits", "--limit", "200", "--loss", name, "--set", "train.max_steps=3", "--no-test")
    assert f"4/9 loss: {name}" in done.out + done.err
    epochs = [record for _, record in done.run("a").records() if record["kind"] == "epoch"]
    assert all(math.isfinite(record[key]) for record in epochs for key in ("train_loss", "val_loss"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--loss", "ce"), "Did you mean 'cross-entropy'?"),
        (("--loss", "mae"), "Did you mean 'l1'?"),
        (("--set", "loss.gamma=1"), "loss.gamma means nothing with loss.name = cross-entropy."),
        (("--loss", "mse", "--set", "loss.delta=2"), "loss.delta means nothing with loss.name = mse."),
        (("--loss", "l1", "--set", "loss.label_smoothing=0"), "loss.label_smoothing means nothing with"),
        (("--set", "loss.weights=ten=2"), "loss.weights: there is no class 'ten'."),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, words, told):
    done = tellapart(tmp_path, "train", "digits", "--limit", "100", *words)
    assert (done.code, told in done.err) == (2, True), done.err
    assert not list((tmp_path / "runs").glob("[!.]*"))


def test_the_loss_finds_a_wrong_label_of_the_pictures_before_the_first_step(tmp_path):
    index = replace(index_of(np.array([0, 1] * 20)), labels=np.array([0, 1] * 19 + [0, 5]))
    with pytest.raises(DataError, match=r"The target of 39.png is 5; expected a class number from 0 to 4."):
        assemble._loss(Recipe(), index, torch.device("cpu"))


@pytest.mark.parametrize("more", [("--loss", "mse"), ("--set", "loss.weights=balanced"), ("--set", "loss.l1=0.1")])
def test_a_plain_script_is_refused_for_a_loss_it_has_no_words_for(tmp_path, more):
    train(tmp_path, "a", "digits", *more, "--set", "train.max_steps=1", "--no-test")
    done = tellapart(tmp_path, "export", "script", "a")
    assert done.code == 2
    assert "A plain script has no words for loss." in done.err


def test_a_class_name_that_is_hostile_can_be_weighed_and_told(tmp_path):
    folder = make_folder(tmp_path / "pictures", classes=("a\nb", "c"))
    more = ("--set", "train.max_steps=1", "--no-test", "--model", "linear")
    train(tmp_path, "a", str(folder), *more, "--set", "loss.ignore=", "--set", "loss.weights=c=2")
    done = tellapart(tmp_path, "train", str(folder), *more, "--set", "loss.weights=d\x1b=2")
    assert done.code == 2
    assert "\x1b" not in done.err


def test_weights_without_names_of_classes_are_refused():
    for loss in (Loss(weights="balanced"), Loss(ignore="a")):
        with pytest.raises(UsageError, match="need an index"):
            make_loss(loss)


def test_what_a_loss_holds_lies_on_its_device():
    made = make_loss(Loss(weights="balanced"), INDEX, device="meta")
    assert made.kept is not None
    assert made.counts is not None
    assert {made.kept.device.type, made.counts.device.type} == {"meta"}
    assert make_loss(Loss(), INDEX, device="meta").kept is None
