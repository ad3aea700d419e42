"""Diagnosis in words: curves to labels, remedies that can be typed, shares of time, and two steps layer by layer."""

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import tellapart, train
from numpy.typing import NDArray
from pictures import make_folder
from PIL import Image

from tellapart.data.pictures import MemoryPixels
from tellapart.evaluation.metrics import difference, proportion
from tellapart.evaluation.predictions import Predictions
from tellapart.recipe import Recipe
from tellapart.reporting.diagnosis import (
    About,
    Finding,
    causes,
    collapsed,
    concluded,
    ended_badly,
    label_noise,
    tiny,
    tuned,
    watched,
)
from tellapart.workflow.diagnosing import Watching

SETTLED = {"optim.lr": 0.1, "train.epochs": 20, "input.size": 64, "machine.threads": 1, "augment.preset": "none"}
ABOUT = About(
    recipe=Recipe.from_values(SETTLED),
    num_train=5000,
    classes=4,
    commonest=0.25,
    parameters=20_000,
    usual_lr=0.1,
    cores=2,
)
"""A plain training of four equally common classes, whose loss begins near ln 4 = 1.39."""


def about(**changes: Any) -> About:
    """`ABOUT` with some settings of the recipe (`optim__lr`) or some facts changed."""
    settings = {key.replace("__", "."): value for key, value in changes.items() if "__" in key}
    facts = {key: value for key, value in changes.items() if "__" not in key}
    return replace(ABOUT, recipe=ABOUT.recipe.replaced(settings), **facts)


def epochs(
    train: Sequence[float | None],
    validation: Sequence[float | None],
    accuracy: Sequence[float] | float = 0.9,
    *,
    n: int = 1000,
    lr: Sequence[float] | float = 0.1,
    seconds: float = 1.0,
    waiting: float = 0.01,
) -> list[Mapping[str, Any]]:
    """Records of metrics.jsonl with these curves."""
    accuracies = accuracy if isinstance(accuracy, Sequence) else [accuracy] * len(train)
    rates = lr if isinstance(lr, Sequence) else [lr] * len(train)
    times = {"seconds": seconds, "waiting": waiting, "augmenting": 0.1}
    rows = enumerate(zip(train, validation, accuracies, rates, strict=True))
    return [
        {"epoch": k, "epochs": len(train), "train_loss": t, "val_loss": v, "val_accuracy": a, "val_n": n, "lr": r}
        | times
        for k, (t, v, a, r) in rows
    ]


def answers(right: float, n: int = 1000, part: str = "train", *, sure: float = 3.0) -> Predictions:
    """Stored answers to n pictures of four classes, of which this share is right."""
    labels = np.arange(n) % 4
    said = np.where(np.arange(n) < round(right * n), labels, (labels + 1) % 4)
    logits = np.eye(4, dtype=np.float32)[said] * sure
    return Predictions(part=part, classes=tuple("abcd"), keys=(), logits=logits, labels=labels)


def ended(curves: list[Mapping[str, Any]], right: float, validated: float, how: About = ABOUT) -> Finding:
    """The first finding of a finished training."""
    parts = {"train": answers(right), "validation": answers(validated, part="validation")}
    return concluded(curves, how, **parts, test=None)[0]


FALLING = [1.2 * 0.75**k for k in range(20)]
RISING = [1.0, 0.8, 0.6, 0.5, 0.45, 0.44, 0.46, 0.5, 0.55, 0.6, *np.linspace(0.65, 1.2, 10).tolist()]
OVER = epochs(FALLING, RISING, 0.8)
UNDER = epochs(np.linspace(1.39, 1.25, 20).tolist(), np.linspace(1.39, 1.26, 20).tolist(), 0.35)
GOOD = epochs(FALLING, [loss + 0.05 for loss in FALLING], 0.97)
FLAT = epochs([1.39, 1.41, 1.38, 1.42] * 5, [1.4] * 20, 0.25)


# --- curves to labels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curves", "right", "validated", "label"),
    [
        (OVER, 1.0, 0.8, "over-fitting"),
        (UNDER, 0.36, 0.35, "under-fitting"),
        (GOOD, 0.985, 0.97, "fits well"),
        (FLAT, 0.26, 0.25, "not converging"),
        (epochs([1.4, 9.0, 40.0], [3.0, 20.0, 60.0], 0.25), 0.25, 0.25, "diverged"),
        (epochs([1.4, 1.2, None], [1.4, 1.3, None], 0.5), 0.5, 0.5, "not finite"),
        (GOOD, 1.0, 0.8, "over-fitting"),  # by the gap alone
        (GOOD, 0.8, 0.79, "fits, with room to learn more"),
    ],
)
def test_four_curves_and_their_kin_have_their_labels(
    curves: list[Mapping[str, Any]], right: float, validated: float, label: str
) -> None:
    found = ended(curves, right, validated)
    assert found.label == label
    assert f"training {100 * right:.1f} % (n = 1,000), validation {100 * validated:.1f} % (n = 1,000)" in found.text
    assert f"gap {100 * (right - validated):.1f} points [" in found.text


def test_a_gap_on_few_pictures_is_only_perhaps_over_fitting() -> None:
    few = {"train": answers(1.0, 40), "validation": answers(0.9, 20, "validation")}
    found = concluded(GOOD, ABOUT, **few, test=None)
    assert [one.label for one in found] == ["perhaps over-fitting", "tiny validation part"]
    assert found[0].text.endswith("too few pictures to tell")


def test_over_fitting_is_said_once_with_the_epoch_it_began() -> None:
    watching = Watching(ABOUT, [])
    said = [(epoch["epoch"] + 1, one.text) for epoch in OVER for one in watching.after(epoch)]
    assert [at for at, _ in said] == [11]  # three epochs in a row are far enough above the sixth
    assert said[0][1].startswith(
        "over-fitting: since epoch 6 the validation loss rises (0.44 → 0.65) while the training"
    )


def test_a_resumed_run_does_not_say_it_again() -> None:
    assert list(Watching(ABOUT, OVER[:12]).after(OVER[12])) == []
    assert len(list(Watching(ABOUT, OVER[:10]).after(OVER[10]))) == 1


def test_while_it_runs_a_loss_that_does_not_fall_is_said_after_five_epochs() -> None:
    watching = Watching(ABOUT, [])
    said = [(epoch["epoch"] + 1, one.text) for epoch in FLAT for one in watching.after(epoch)]
    assert said == [(5, "not converging: the training loss is not falling in 5 epochs (1.39 → 1.39); try --lr 0.01")]


def test_a_loss_that_does_not_fall_at_a_tiny_rate_needs_a_higher_one() -> None:
    assert ended(FLAT, 0.25, 0.25, about(optim__lr=1e-5)).remedies == ("--lr 0.01",)
    assert ended(UNDER, 0.35, 0.35, about(optim__lr=1e-5)).remedies == ("--lr 0.01",)


@pytest.mark.parametrize(
    "curves",
    [
        epochs([1.39 - 0.04 * k for k in range(20)], [1.2 - 0.05 * k for k in range(20)]),  # augmentation, dropout
        epochs([0.9, 0.62, *np.linspace(0.55, 0.51, 18)], [0.4, 0.2, *np.linspace(0.15, 0.14, 18)]),  # smoothing
        epochs(
            FALLING, [0.5, 0.2, 0.9, 0.8, 1.1, 0.7, 0.3, *np.linspace(0.19, 0.1, 13)], lr=[0.05 * k for k in range(20)]
        ),
        epochs(FALLING, [max(0.3, loss) for loss in FALLING]),  # it stays where it is
        epochs(FALLING, [*FALLING[:10], *[FALLING[9] + 0.02] * 10]),  # a hair
        epochs(FALLING[:12], [0.3, *[0.36] * 11], n=20),  # a fifth, of twenty pictures
        epochs([1.7, 1.5, 1.45, 1.4, *[1.4] * 8], [2.0, 264.0, *[90.0] * 10], 0.6),  # shaken, nothing learned yet
        epochs([0.2, 0.19, 0.2, 0.19, 0.2, 0.19], [0.2] * 6, 0.97),  # a network that could do it already
    ],
)
def test_no_false_alarm_while_it_runs(curves: list[Mapping[str, Any]]) -> None:
    watching = Watching(ABOUT, [])
    assert [one.text for epoch in curves for one in watching.after(epoch)] == []


# --- causes and remedies ----------------------------------------------------------------------------------------------


def test_causes_are_named_from_pictures_and_parameters() -> None:
    few = about(num_train=100, parameters=138_357_544, model__name="vgg16")
    words = "100 training pictures, 138 million parameters: too little data for too large a network"
    assert causes(few) == f" ({words})"
    assert words in ended(OVER, 1.0, 0.8, few).text
    assert "--model small" in ended(OVER, 1.0, 0.8, few).remedies
    assert causes(ABOUT) == ""
    assert causes(about(num_train=500)).endswith("(500 training pictures, 20,000 parameters: too little data)")


def every_finding() -> list[Finding]:
    """Each kind of finding, with as many remedies as there are."""
    worst = about(num_train=100, parameters=10**8, model__name="vgg16", loss__label_smoothing=0.0)
    slow = epochs(FALLING, FALLING, seconds=60.0, waiting=0.5)
    long = epochs(FALLING, FALLING, seconds=60.0)
    curves = [ended(OVER, 1.0, 0.8, worst), ended(OVER, 1.0, 0.8), ended(FLAT, 0.2, 0.2)]
    strong = about(augment__preset="strong", model__name="linear", train__epochs=20)
    found = [*curves, ended(UNDER, 0.3, 0.3, strong), ended(UNDER, 0.3, 0.3), ended_badly("the loss is nan", ABOUT)]
    found += [*watched(slow, ABOUT), *watched(slow, about(decoded_gb=30.5)), *watched(slow, about(machine__workers=4))]
    parts = {"train": answers(1.0), "validation": answers(1.0, part="validation"), "test": None}
    found += concluded(long, ABOUT, **parts)[1:] + concluded(long, about(device="cuda"), **parts)[1:]
    found += filter(None, [tiny(answers(0.9, 20)), collapsed(answers(0.0, 100), ABOUT)])
    return [*found, *([noise] if (noise := label_noise(*noisy(), ABOUT)) else [])]


def test_every_remedy_can_be_typed() -> None:
    flags = {name: set() for name in ("train", "check")}
    for name in flags:
        flags[name] = {opt for param in import_module(f"tellapart.cli.{name}").command.params for opt in param.opts}
    remedies = {remedy for finding in every_finding() for remedy in finding.remedies} - {"more pictures"}
    assert len(remedies) > 15
    for remedy in remedies:
        verb = "check" if "tellapart check" in remedy else "train"
        assert set(re.findall(r"--[a-z-]+", remedy)) & flags[verb], remedy
        for setting, value in re.findall(r"--set (\S+)=(\S+)", remedy):
            Recipe.from_values({setting: value})


# --- training, validation and test ------------------------------------------------------------------------------------


def test_the_interval_of_a_difference_is_newcombes() -> None:
    low, high = difference(proportion("accuracy", 56, 70, "a"), proportion("accuracy", 48, 80, "b"))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)  # the paper's own example (a), method 10


@pytest.mark.parametrize(
    ("test", "meaning"),
    [(0.9, "no sign of being mis-tuned"), (0.8, "mis-tuned to validation"), (0.97, "pictures are easier")],
)
def test_validation_is_compared_with_the_test(test: float, meaning: str) -> None:
    found = tuned(answers(0.9, part="validation"), answers(test, part="test"))
    assert found.text.startswith(
        f"90.0 % (n = 1,000) and {100 * test:.1f} % (n = 1,000), {100 * (0.9 - test):+.1f} points ["
    )
    assert meaning in found.text


def test_a_class_that_is_never_found_is_named_and_a_rare_miss_is_not() -> None:
    good = answers(0.9, part="validation")
    assert collapsed(good, ABOUT) is None
    logits = good.logits.copy()
    logits[:, 2] = -9
    found = collapsed(replace(good, logits=logits), ABOUT)
    assert found is not None
    n = int((good.labels == 2).sum())
    assert found.text == f"not one picture of {good.classes[2]} (n = {n})"
    assert found.remedies == ("--set loss.weights=balanced", "more pictures")
    assert collapsed(replace(good, logits=logits), about(loss__weights="balanced")).remedies == ("more pictures",)  # type: ignore[union-attr]
    few = np.flatnonzero(good.labels != 2)
    few = np.concatenate([few, np.flatnonzero(good.labels == 2)[:4]])
    assert collapsed(replace(good, logits=logits[few], labels=good.labels[few]), ABOUT) is None


def test_a_tiny_validation_part_is_named_and_a_common_one_is_not() -> None:
    found = tiny(answers(0.9, 24, "validation"))
    assert found is not None
    assert found.text.startswith("24 pictures cannot tell accuracies apart that differ by less than ")
    assert "--folds 5" in found.remedies
    assert tiny(answers(0.9, 60, "validation")) is None
    assert tiny(answers(0.5, 200, "validation")) is None


def noisy(*, doubt: float = 0.0) -> tuple[Predictions, Predictions]:
    """Answers to a training part of which 60 of 400 are answered otherwise than labelled, less surely by `doubt`."""
    surely = 3 + np.linspace(-1, 1, 400, dtype=np.float32)[:, None]
    clean = answers(1.0, 400)
    wrong = (np.arange(400) % 20 < 3)[:, None]
    logits = clean.logits * surely / 3 * np.where(wrong, 1 - doubt, 1)
    labels = np.where(wrong[:, 0], (clean.labels + 1) % 4, clean.labels)
    return replace(clean, logits=logits, labels=labels), replace(clean, logits=clean.logits * surely / 3)


def test_labels_contradicted_as_surely_as_others_are_confirmed_are_suspected() -> None:
    found = label_noise(*noisy(), ABOUT)
    assert found is not None
    assert found.text == "it contradicts 30 of 400 training labels as surely as it is right on validation"
    assert label_noise(*noisy(doubt=0.4), ABOUT) is None  # plain mistakes, made with doubt
    assert label_noise(answers(1.0), answers(1.0), ABOUT) is None
    assert label_noise(answers(0.5), answers(0.5), ABOUT) is None  # it knows too little to contradict


# --- time -------------------------------------------------------------------------------------------------------------


def test_waiting_is_said_when_it_costs_something() -> None:
    slow = watched(epochs(FALLING[:2], FALLING[:2], seconds=2.0, waiting=0.6), ABOUT)
    assert [one.line() for one in slow] == [
        "loader-bound: 60% of the time went by waiting for pictures, 10% augmenting, 30% computing; "
        "without the wait it would be up to 2.5 times as fast; try --set machine.workers=2"
    ]
    for waiting, seconds in ((0.2, 9.0), (0.6, 0.2)):
        assert watched(epochs(FALLING[:2], FALLING[:2], waiting=waiting, seconds=seconds), ABOUT) == []
    assert watched(epochs(FALLING[:1], FALLING[:1], seconds=9.0, waiting=0.9), ABOUT) == []  # it fills a cache
    again = watched(epochs(FALLING, FALLING, seconds=9.0, waiting=0.9), about(decoded_gb=30.5))
    assert again[0].remedies == ("--set machine.cache=31",)


def test_computing_is_said_of_long_trainings_only() -> None:
    parts = {"train": answers(1.0), "validation": answers(1.0, part="validation"), "test": None}
    long = concluded(epochs(FALLING, FALLING, seconds=7.0), ABOUT, **parts)
    assert [one.label for one in long] == ["fits well", "compute-bound"]
    assert "--set machine.threads=2 (up to 2.0 times as fast)" in long[1].remedies
    assert [one.label for one in concluded(epochs(FALLING, FALLING), ABOUT, **parts)] == ["fits well"]


def test_a_slow_loader_is_said_once_and_a_quick_one_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("digits", "--limit", "300", "--no-test", "--epochs", "2", "--model", "linear")
    assert "loader-bound" not in train(tmp_path, "quick", *words).err
    gather = MemoryPixels.gather

    def slowly(self: MemoryPixels, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        time.sleep(0.15)
        return gather(self, rows)

    monkeypatch.setattr(MemoryPixels, "gather", slowly)
    done = train(tmp_path, "slow", *words)
    assert done.err.count("note: loader-bound: ") == 1
    assert done.out.count("loader-bound: ") == 1
    records = [record for _, record in done.run("slow").records() if record["kind"] == "epoch"]
    assert all(0.3 < r["waiting"] < 1 and 0 <= r["augmenting"] < 0.5 for r in records)


# --- whole runs -------------------------------------------------------------------------------------------------------


def nonsense(root: Path) -> Path:
    """Noise with labels that mean nothing: all that can be done is to learn it by heart."""
    for k, name in enumerate(("cat", "dog", "fox")):
        (root / name).mkdir(parents=True)
        for n in range(40):
            pixels = np.random.default_rng((k, n)).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{n}.png")
    return root


QUICK = ("--model", "mlp:256", "--optimizer", "adam", "--set", "optim.schedule=constant", "--lr", "0.003")
PARTS = ("--set", "data.validation=0.4", "--set", "data.test=0.1")


def test_a_run_that_learns_by_heart_says_so_and_its_twin_does_not(tmp_path: Path) -> None:
    plain = (
        *QUICK,
        "--augment",
        "none",
        "--set",
        "loss.label_smoothing=0",
        "--epochs",
        "30",
        "--patience",
        "30",
        *PARTS,
    )
    done = train(tmp_path, "heart", str(nonsense(tmp_path / "noise")), *plain)
    assert done.err.count("note: over-fitting: since epoch ") == 1
    found = done.run("heart").status()["diagnosis"]
    assert [one["label"] for one in found] == ["over-fitting", "validation and test", "tiny validation part"]
    assert "too little data" in found[0]["text"]
    assert "--augment light" in found[0]["remedies"]
    assert f"over-fitting: {found[0]['text']}" in done.out
    assert f"over-fitting: {found[0]['text']}" in (done.run("heart").folder / "log.txt").read_text()
    pets = make_folder(tmp_path / "pets", per_class=40)
    twin = train(tmp_path, "twin", str(pets), *plain)
    assert "note: over" not in twin.err
    assert "\nfits well: training 100.0 % (n = 60), validation 100.0 % (n = 48), gap 0.0 points [" in twin.out


def test_a_rate_far_too_low_underfits_and_one_far_too_high_diverges(tmp_path: Path) -> None:
    low = train(tmp_path, "low", "digits", "--no-test", "--epochs", "10", "--lr", "1e-5")
    assert "\nunder-fitting: training " in low.out
    assert "; always saying the commonest class would give 10.2 %; try --lr 0.01\n" in low.out
    high = tellapart(tmp_path, "train", "digits", "--lr", "1e6", "--run", "high")
    assert high.code == 5
    (found,) = high.run("high").status()["diagnosis"]
    assert (found["label"], found["remedies"][0]) == ("diverged", "--lr 0.1")


def test_opening_the_test_later_compares_it_with_validation(tmp_path: Path) -> None:
    done = train(tmp_path, "a", "digits", "--limit", "300", "--no-test", "--epochs", "2", "--json")
    before = [finding["label"] for finding in json.loads(done.out)["diagnosis"]]
    for _ in range(2):  # the second time the stored predictions are judged
        again = json.loads(tellapart(tmp_path, "test", "a", "--json").out)["diagnosis"]
        assert [finding["label"] for finding in again] == [*before, "validation and test"]


def test_every_step_can_be_printed(tmp_path: Path) -> None:
    words = ("digits", "--limit", "200", "--no-test", "--epochs", "2", "--set", "train.log_every=1")
    done = train(tmp_path, "a", *words)
    steps = re.findall(r"^step (\d+)  loss \d+\.\d{4}  rate \S+  gradient (\S+)$", done.err, re.MULTILINE)
    records = [record for _, record in done.run("a").records() if record["kind"] == "step"]
    assert [int(step) for step, _ in steps] == [record["step"] for record in records]
    assert all(float(norm) > 0 for _, norm in steps)


# --- two steps, layer by layer ----------------------------------------------------------------------------------------


def test_debug_prints_two_steps_layer_by_layer_and_makes_no_run(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", "digits", "--model", "mlp:16", "--set", "optim.clip=0.1", "--debug")
    assert done.code == 0
    assert done.out.startswith("digits, mlp:16, batches of 64\nstep 1  loss ")
    assert len(re.findall(r"^step [12]  loss .*rate .*gradient ", done.out, re.MULTILINE)) == 2
    rows = re.findall(r"^  (\d)\s+(\w+)\s+64 x (\d+)\s+([\d,]+)  (\S+)$", done.out, re.MULTILINE)
    layers = [("0", "Flatten", "64", "0"), ("1", "Linear", "16", "1,040"), ("2", "ReLU", "16", "0")]
    assert [row[:4] for row in rows] == [*layers, ("3", "Linear", "10", "170")] * 2
    norms = [float(row[4]) for row in rows if row[4] != "–"]
    whole = [float(norm) for norm in re.findall(r"^step .*gradient (\S+)$", done.out, re.MULTILINE)]
    assert [math.hypot(*norms[:2]), math.hypot(*norms[2:])] == pytest.approx(whole, rel=0.01)
    assert not (tmp_path / "runs").exists()


def test_debug_of_a_training_is_not_the_traceback_of_an_error(tmp_path: Path) -> None:
    typo = tellapart(tmp_path, "train", "digts", "--debug")
    assert (typo.code, typo.out) == (2, "")
    assert "Did you mean 'digits'?" in typo.err
    mixed = tellapart(tmp_path, "train", "digits", "--debug", "--json")
    assert mixed.code == 2
    assert "--debug makes no run and judges nothing." in mixed.err
    high = tellapart(tmp_path, "train", "digits", "--debug", "--lr", "1e9")
    assert high.code == 5
    assert "diverged at step 2" in high.err
