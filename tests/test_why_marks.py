"""`tellapart why RUN --mistakes` where a picture may have several classes: which pictures, which classes of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from marked import SHAPES, make_marked
from PIL import Image
from test_marks_scores import drawn, of

from tellapart.evaluation.marks import called, wrong_classes, wrong_pictures
from tellapart.evaluation.metrics import sigmoid
from tellapart.evaluation.predictions import Predictions
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import load_bundle
from tellapart.workflow.looking import Eye, Subject, explain
from tellapart.workflow.why import title

PICTURE = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned little, its test part sealed."""
    folder = tmp_path_factory.mktemp("why")
    make_marked(folder / "shapes", 240)
    train(folder, "a", "shapes/labels.csv", "--several", ";", "--epochs", "1", "--set", "model.width=8", "--no-test")
    return folder


def expected(at: Path, run: str, part: str) -> list[tuple[str, list[str], list[str], list[str]]]:
    """Of each wrong picture: its key, its classes, those missed and those wrongly said, by hand from what is stored."""
    stored = Predictions.load(at / "runs" / run / f"predictions/{part}.safetensors")
    bundle, found = load_bundle(at / "runs" / run / "model.safetensors"), []
    assert stored.marks is not None
    for key, logits, marks in zip(stored.keys, stored.logits, stored.marks, strict=True):
        shares, losses, missed, extra = sigmoid(logits[None])[0], [], [], []
        for k, name in enumerate(SHAPES):
            losses.append(-np.log(shares[k] if marks[k] else 1 - shares[k]))
            said = shares[k] >= bundle.thresholds[k]
            missed += [(losses[-1], name)] * bool(marks[k] and not said)
            extra += [(losses[-1], name)] * bool(said and not marks[k])
        own = [name for name, has in zip(SHAPES, marks, strict=True) if has]
        if missed or extra:
            ordered = [[name for _, name in sorted(one, reverse=True)] for one in (missed, extra)]
            found.append((float(np.mean(losses)), (key, own, *ordered)))
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])]


def told(done: Done) -> list[tuple[str, list[str], list[str], list[str]]]:
    assert done.code == 0, done.err
    pictures = json.loads(done.out)["pictures"]
    return [(one["path"], one["classes"], one["missed"], one["wrongly_said"]) for one in pictures]


def test_pictures_with_a_wrong_class_come_by_their_loss_each_once_with_its_wrong_classes(at: Path) -> None:
    known = expected(at, "a", "validation")
    done = tellapart(at, "why", "a", "--mistakes", "500", "--nearest", "0", "--json")
    assert len(known) > 5
    assert told(done) == known
    found = json.loads(done.out)
    counted = f"{len(known)} pictures with a wrong class among 39 validation pictures; shown: {len(known)}, "
    assert found["notes"] == [counted + "the largest loss first"]
    for one in found["pictures"]:
        assert {heat["class"] for heat in one["heat"]} == {*one["missed"], *one["wrongly_said"]}
    assert not (at / "runs/openings.jsonl").exists()
    assert not (at / "runs/a/heat-validation.safetensors").exists()  # the report of such a run shows none


def test_a_mistake_is_told_in_words_and_drawn(at: Path) -> None:
    key, own, missed, extra = expected(at, "a", "validation")[0]
    done = tellapart(at, "why", "a", "--mistakes", "500", "--nearest", "0", "--out", "why.png")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    at_key = next(n for n, line in enumerate(lines) if line.startswith(f"{key}: "))
    said, *wrong = lines[at_key].split("; ")
    both = ("missed", missed), ("wrongly said", extra)
    assert wrong == [f"{what}: {', '.join(names)}" for what, names in both if names]
    called_so = {*own, *extra} - {*missed}
    assert ("none of the classes" in said) == (not called_so)
    assert {name for name in SHAPES if f"{name} " in said} >= called_so
    explained = [line.strip().split(": ")[0] for line in lines[at_key + 1 :: 2][: len(missed) + len(extra)]]
    assert set(explained) == {*missed, *extra}
    with Image.open(at / "why.png") as image:
        assert image.height > 300


def test_the_heat_is_for_the_wrong_classes_three_at_most_or_for_the_one_asked_for(at: Path) -> None:
    bundle = load_bundle(at / "runs/a/model.safetensors")
    names, half = ("a", "b", "c", "d"), (0.5,) * 4
    made = Architecture(name="linear", num_classes=4, channels=3, size=8)
    state = build(made, seed=0).state_dict()
    four = replace(bundle, architecture=made, classes=names, thresholds=half, state=state, goldens=())
    eye, pixels = Eye.of(replace(four, preprocess=replace(bundle.preprocess, size=8)), torch.device("cpu")), PICTURE
    one = Subject(name="x", pixels=pixels, has=("a",), wrong=("d", "c", "b", "a"))
    (seen,), way = explain(eye, [one])
    assert [heat.name for heat in seen.heats] == ["d", "c", "b"]
    assert (way.alone, one.missed, one.wrongly_said) == (True, ["a"], ["d", "c", "b"])
    shares = dict(zip(names, eye.shares(eye.input(one)), strict=True))
    for heat in seen.heats:
        assert heat.trust.probability == pytest.approx(shares[heat.name], abs=1e-6)
    (seen,), _ = explain(eye, [one], wanted="a")
    assert [heat.name for heat in seen.heats] == ["a"]
    assert title(seen).endswith("; missed: a; wrongly said: d, c, b")


def test_mistakes_of_a_test_part_are_explained_once_it_is_open(at: Path, tmp_path: Path) -> None:
    shutil.copytree(at / "runs", tmp_path / "runs")
    shutil.copytree(at / "shapes", tmp_path / "shapes")
    words = ("why", "a", "--mistakes", "500", "--part", "test", "--nearest", "0", "--json")
    sealed = tellapart(tmp_path, *words)
    assert (sealed.code, "is sealed, and to explain its mistakes opens nothing" in sealed.err) == (2, True)
    assert tellapart(tmp_path, "test", "a").code == 0
    done = tellapart(tmp_path, *words)
    assert told(done) == expected(tmp_path, "a", "test")
    assert "choose nothing by what is seen of test pictures" in done.out


def test_wrong_classes_are_ordered_by_the_loss_of_each_and_pictures_by_theirs() -> None:
    said = drawn(200, 5, seed=3, sure=0.5)
    named = called(said.logits, [0.4] * 5)
    rows = wrong_pictures(said, named)
    assert said.marks is not None
    assert set(rows) == {n for n in range(200) if (named[n] != said.marks[n]).any()}
    shares = sigmoid(said.logits)
    losses = -np.log(np.where(said.marks, shares, 1 - shares))
    assert np.diff(losses[rows].mean(axis=1)).max() <= 1e-9
    for row in rows:
        wrong = wrong_classes(said, named[row], row)
        assert sorted(wrong) == np.flatnonzero(named[row] != said.marks[row]).tolist()
        assert losses[row, wrong].tolist() == sorted(losses[row, wrong], reverse=True)
    right = of(np.array([[3.0, -3.0]]), np.array([[1, 0]]))
    assert wrong_pictures(right, called(right.logits, [0.5, 0.5])) == []
