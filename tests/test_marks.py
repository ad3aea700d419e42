"""Pictures with several classes each, end to end: trained, resumed, judged, asked; whatever needs one class refuses."""

import contextlib
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from marked import SHAPES, make_marked
from PIL import Image

from tellapart.data.index import NONE
from tellapart.errors import Interrupted
from tellapart.evaluation.metrics import sigmoid
from tellapart.evaluation.predictions import Predictions
from tellapart.models.bundle import load_bundle
from tellapart.models.header import read_header
from tellapart.recipe import Recipe
from tellapart.workflow.looking import Eye, Subject, explain
from tellapart.workflow.predict import probabilities
from tellapart.workflow.train import Asking
from tellapart.workflow.train import train as begin

HOSTILE = ("<b>&x</b>", '$\\it{"}', "\u202ecat")
FAST = ("--several", ";", "--epochs", "25", "--set", "model.width=8")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A folder with a run that learned 240 pictures, its test part opened, and a picture of none of the classes."""
    at = tmp_path_factory.mktemp("marks")
    make_marked(at / "shapes", 240)
    dark = np.random.default_rng(9).integers(0, 40, (16, 16, 3), np.uint8)
    Image.fromarray(dark).save(at / "dark.png")
    return train(at, "a", "shapes/labels.csv", *FAST)


def test_a_network_learns_to_tell_what_is_in_a_picture(learned: Done) -> None:
    figures = {(one["name"], one["part"]): one for one in learned.run("a").status()["figures"]}
    assert set(figures) == {(n, p) for n in ("mean average precision", "loss") for p in ("validation", "test")}
    score = figures["mean average precision", "test"]
    assert score["value"] > 0.95
    assert score["low"] < score["value"] <= score["high"]
    assert "      test mean average precision" in learned.out
    assert "accuracy" not in learned.out.replace("average", "")
    assert "average precision [95 % interval]" in learned.out


def test_the_epochs_name_the_score_and_the_best_is_by_it(learned: Done) -> None:
    epochs = [record for _, record in learned.run("a").records() if record["kind"] == "epoch"]
    assert "mean average precision" in learned.err
    assert "  accuracy" not in learned.err
    assert not any("val_accuracy" in epoch or "scored" in epoch for epoch in epochs)
    best = learned.run("a").status()["best"]
    assert best["val_mean_average_precision"] == max(epoch["val_mean_average_precision"] for epoch in epochs)
    recipe = (learned.run("a").folder / "recipe.toml").read_text()
    assert 'name = "bce"  # auto: pictures may have several classes' in recipe
    assert "label_smoothing = 0.0  # auto" in recipe


def test_predictions_hold_the_marks_of_each_picture(learned: Done) -> None:
    _, marks = make_marked(learned.at / "again", 240)
    for part in ("validation", "test"):
        stored = Predictions.load(learned.run("a").predictions(part))
        rows = [int(Path(key).stem) for key in stored.keys]
        assert stored.marks is not None
        assert (stored.marks == marks[rows]).all()
        assert (stored.labels[~stored.marks.any(axis=1)] == 3).all()


def test_the_test_prints_every_score_with_its_interval_and_opens_nothing_twice(learned: Done) -> None:
    done = tellapart(learned.at, "test", "a")
    assert done.code == 0, done.err
    for name in ("mean average precision", "micro F1", "macro F1", "sample F1", "exact match", "Hamming loss", "loss"):
        assert any(line.startswith(name) and "[" in line for line in done.out.splitlines()), name
    assert "with several classes" in done.out
    assert "of the highest F1 on validation" in done.out
    assert done.out.count("blue disc") == 1  # one table of the classes
    document = json.loads(tellapart(learned.at, "test", "a", "--json").out)
    assert document["judgement"]["n"] == len(Predictions.load(learned.run("a").predictions("test")))
    assert len((learned.at / "runs" / "openings.jsonl").read_text().splitlines()) == 1


def test_the_test_judges_another_table_by_the_stored_thresholds(learned: Done) -> None:
    path, marks = make_marked(learned.at / "other", 80, seed=5, names=SHAPES)
    done = tellapart(learned.at, "test", "a", str(path), "--several", ";", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)["judgement"]
    assert [one["value"] for one in found["thresholds"]] == list(load_bundle(learned.run("a").bundle).thresholds)
    assert (found["n"], found["none"]) == (80, int((~marks.any(axis=1)).sum()))
    printed = tellapart(learned.at, "test", "a", str(path), "--several", ";").out
    assert f"mean average precision on {path}" in printed
    refused = tellapart(learned.at, "test", "a", "digits")
    assert (refused.code, "one class each" in refused.err) == (2, True)


def test_predict_names_every_class_above_its_threshold_or_none(learned: Done) -> None:
    _, marks = make_marked(learned.at / "ask", 12, seed=7)
    done = tellapart(learned.at, "predict", "a", "ask/img", "dark.png", "--json")
    *guesses, nothing = json.loads(done.out)["predictions"]
    said = np.array([[name in guess["said"] for name in SHAPES] for guess in guesses])
    assert (said == marks).mean() > 0.9
    assert nothing["said"] == []
    shares = [[one["probability"] for one in guess["top"]] for guess in guesses]
    assert max(abs(sum(row) - 1) for row in shares) > 0.5  # never a softmax
    lines = tellapart(learned.at, "predict", "a", "ask/img", "dark.png").out.splitlines()
    assert f"dark.png  {NONE}; likeliest  " in lines[-1]
    for line, guess in zip(lines[:-1], guesses, strict=True):
        assert all((name in line) == (name in guess["said"]) for name in SHAPES) or not guess["said"]


def test_the_stored_probabilities_are_those_of_predict(learned: Done) -> None:
    stored = Predictions.load(learned.run("a").predictions("test"))
    asked = [f"shapes/{key}" for key in stored.keys[:5]]
    document = json.loads(tellapart(learned.at, "predict", "a", *asked, "--json").out)
    for guess, logits in zip(document["predictions"], stored.logits, strict=False):
        by_name = {one["class"]: one["probability"] for one in guess["top"]}
        assert [by_name[name] for name in stored.classes] == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-4)
    pixels = np.asarray(Image.open(learned.at / asked[0])).transpose(2, 0, 1) / np.float32(255)
    given = probabilities(load_bundle(learned.run("a").bundle), torch.from_numpy(pixels))
    assert given.tolist() == pytest.approx((1 / (1 + np.exp(-stored.logits[0]))).tolist(), abs=1e-4)


def test_the_model_file_keeps_every_score_that_the_test_has_and_the_card_shows_them(
    learned: Done, tmp_path: Path
) -> None:
    judgement = json.loads(tellapart(learned.at, "test", "a", "--json").out)["judgement"]
    kept = load_bundle(learned.run("a").bundle).scores
    assert [one for one in kept if one["part"] == "test"] == judgement["figures"] + judgement["by_class"]
    validation = [one["name"] for one in kept if one["part"] == "validation"]
    assert validation == [one["name"] for one in judgement["figures"]]
    card = tellapart(learned.at, "model", "card", "a").out
    assert '"multi-label"' in card
    for one in judgement["figures"]:
        shown = f"{one['value']:.3f}" if one["name"] == "loss" else f"{100 * one['value']:.1f} %"
        assert f"| {one['name']} | {shown} | " in card
    for one in judgement["by_class"]:
        if one["name"] == "F1":
            assert re.search(rf"^\| {one['about']} \| [\d.]+ % \| {100 * one['value']:.1f} % \(", card, re.M)
    sealed = train(tmp_path, "b", str(learned.at / "shapes/labels.csv"), "--several", ";", "--epochs", "1", "--no-test")
    card = tellapart(sealed.at, "model", "card", "b").out
    assert "which it was chosen by, and its thresholds fitted to" in card
    assert "| exact match | " in card


def test_why_explains_each_class_that_is_said_by_its_own_logit(learned: Done) -> None:
    make_marked(learned.at / "why", 12, seed=11)
    done = tellapart(learned.at, "why", "a", "why/img", "dark.png", "--json", "--nearest", "2")
    assert done.code == 0, done.err
    *found, nothing = json.loads(done.out)["pictures"]
    assert any(len(one["every"]) > 1 for one in found)
    for one in found:
        names = [each["class"] for each in one["every"]] or [one["said"]]
        assert [heat["class"] for heat in one["heat"]] == names
        for heat, each in zip(one["heat"], one["every"], strict=False):
            assert heat["probability"] == pytest.approx(each["probability"], abs=1e-4)
    assert (nothing["every"], len(nothing["nearest"])) == ([], 2)
    printed = tellapart(learned.at, "why", "a", "dark.png", "--class", SHAPES[0], "--method", "hirescam").out
    assert printed.startswith(f"dark.png: {NONE}; likeliest ")
    assert f"  {SHAPES[0]}: The map " in printed


def test_taking_away_what_a_class_looks_at_leaves_the_other_classes(learned: Done) -> None:
    """A shape that is there is hidden: its probability falls, and the map of the other shape does not point at it."""
    chance, bundle = np.random.default_rng(4), load_bundle(learned.run("a").bundle)
    pixels = chance.integers(0, 40, (16, 16, 3), np.uint8)
    pixels[1:6, 1:6, 0] = 230  # the red square, above on the left
    pixels[10:15, 12, 1] = pixels[12, 10:15, 1] = 230  # the green cross, below on the right
    eye = Eye.of(bundle, torch.device("cpu"))
    for name, rows, columns in (("red square", slice(0, 8), slice(0, 8)), ("green cross", slice(8, 16), slice(8, 16))):
        (seen,), way = explain(eye, [Subject(name="x", pixels=pixels)], wanted=name, method="occlusion")
        heat = seen.heats[0].map.clip(0)
        assert way.alone
        assert heat[rows, columns].sum() > heat.sum() / 2, name


def test_the_list_of_runs_says_which_score_it_is(learned: Done) -> None:
    assert "% [" in tellapart(learned.at, "runs").out
    assert "] mAP" in tellapart(learned.at, "runs").out


def test_validation_is_judged_while_the_test_is_sealed_and_the_split_has_every_class(tmp_path: Path) -> None:
    make_marked(tmp_path / "shapes", 120)
    train(tmp_path, "a", "shapes/labels.csv", "--several", ";", "--epochs", "1", "--no-test")
    run = tmp_path / "runs" / "a"
    rows = list(csv.DictReader(io.StringIO((run / "split.csv").read_text())))
    for part in ("train", "validation", "test"):
        assert {name for row in rows if row["part"] == part for name in row["class"].split(" + ")} >= set(SHAPES)
    assert not (run / "predictions" / "test.safetensors").exists()
    changed = (tmp_path / "shapes" / "labels.csv").read_text().replace("blue disc;green cross", "blue disc", 1)
    (tmp_path / "shapes" / "labels.csv").write_text(changed)
    refused = tellapart(tmp_path, "test", "a")
    assert (refused.code, "no longer those" in refused.err) == (7, True)  # its marks belong to the identity


def test_a_stopped_and_resumed_run_has_the_weights_and_records_of_one_never_stopped(tmp_path: Path) -> None:
    make_marked(tmp_path / "shapes", 60)
    words = ("--several", ";", "--augment", "strong", "--set", "augment.mixup=0.4", "--set", "train.log_every=1")
    whole = train(tmp_path, "whole", "shapes/labels.csv", *words, "--epochs", "3", "--no-test")
    recipe = Recipe.from_toml((tmp_path / "runs/whole/recipe.toml").read_text())
    told = iter([None] * 7 + [Interrupted("stopped")] * 9)
    with contextlib.chdir(tmp_path), pytest.raises(Interrupted):
        list(begin(recipe, Asking(runs=tmp_path / "runs", name="cut", asked=lambda: next(told))))
    done = tellapart(tmp_path, "resume", "cut", "--no-test")
    assert done.code == 0, done.err
    first, second = (load_bundle(whole.run(name).bundle).state for name in ("whole", "cut"))
    assert all(bool((first[name] == second[name]).all()) for name in first)
    scores = [
        [r["val_mean_average_precision"] for _, r in whole.run(n).records() if r["kind"] == "epoch"]
        for n in ("whole", "cut")
    ]
    assert scores[0] == scores[1]


def test_hostile_names_stay_inert_and_are_judged(tmp_path: Path) -> None:
    make_marked(tmp_path / "odd", 120, names=(*HOSTILE[:1], "a" * 200, HOSTILE[2]))
    done = train(tmp_path, "a", "odd/labels.csv", "--several", ";", "--epochs", "1")
    for words in (("test", "a"), ("predict", "a", "odd/img/000.png"), ("runs",), ("test", "a", "--json")):
        done = tellapart(tmp_path, *words)
        assert (done.code, "\u202e" in done.out) == (0, False), done.err


REFUSED = {
    "train shapes/labels.csv --several ; --loss cross-entropy": "Use --loss bce",
    "train shapes/labels.csv --several ; --loss focal": "the loss focal knows one",
    "train shapes/labels.csv --several ; --set loss.label_smoothing=0.1": "loss.label_smoothing needs one class",
    "train shapes/labels.csv --several ; --set loss.weights=balanced": "loss.weights needs one class",
    "train shapes/labels.csv --several ; --set train.target=0.9": "train.target needs one class",
    "train shapes/labels.csv --several ; --limit-per-class 9": "data.limit_per_class needs one class",
    "train shapes/labels.csv --several ; --overlay shapes/labels.csv": "data.overlay needs one class",
    "train shapes/labels.csv --several ; --seeds 2": "--seeds needs one class",
    "train shapes/labels.csv --several ; --folds 3": "--folds needs one class",
    "search shapes/labels.csv --several ; --try optim.lr=0.1,0.2": "A search needs one class",
    "baseline shapes/labels.csv --several ;": "A baseline needs one class",
    "advise shapes/labels.csv --several ;": "Advice needs one class",
    "check shapes/labels.csv --several ; --only labels": "The check of labels needs one class",
    "test a --slice brightness": "--slice needs one class",
    "test a --views mirror": "--views needs one class",
    "test a --robustness": "--robustness needs one class",
    "predict a shapes/img/000.png --views mirror": "--views needs one class",
    "predict a shapes/img/000.png --precision 0.9": "--precision needs one class",
    "train shapes/img --several ;": "--several goes with --labels table",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_needs_one_class_says_so_in_a_sentence(learned: Done, words: str) -> None:
    done = tellapart(learned.at, *words.split())
    assert (done.code, REFUSED[words] in done.err) == (2, True), done.err
    assert "Traceback" not in done.err
    if "needs one" in REFUSED[words]:
        assert "multi-label" in done.err


def test_pictures_with_a_wrong_class_are_drawn_and_named_and_each_is_listed_with_its_loss(tmp_path: Path) -> None:
    make_marked(tmp_path / "shapes", 240)
    done = train(tmp_path, "a", "shapes/labels.csv", "--several", ";", "--epochs", "1", "--set", "model.width=8")
    stored, bundle = (Predictions.load(done.run("a").predictions("test")), load_bundle(done.run("a").bundle))
    shares, marks = sigmoid(stored.logits), stored.marks
    assert marks is not None
    said, losses = shares >= bundle.thresholds, -np.log(np.where(marks, shares, 1 - shares))
    order = np.argsort(-losses.mean(axis=1), kind="stable")
    wrong = [n for n in order if (said[n] != marks[n]).any()]
    told = tellapart(tmp_path, "test", "a", "--mistakes", "wrong.png", "--losses", "all.csv")
    assert told.code == 0, told.err
    assert f"{len(wrong)} pictures with a wrong class among {len(stored)} pictures of the test part: " in told.out
    named = [line for line in told.out.splitlines() if line.startswith(("missed ", "false "))]
    assert len(named) == min(10, len(wrong)) > 3
    for n, line in zip(wrong, named, strict=False):
        off = sorted((k for k in range(3) if said[n, k] != marks[n, k]), key=lambda k: -losses[n, k])
        words = (f"{'false' if said[n, k] else 'missed'} {SHAPES[k]} ({100 * shares[n, k]:.1f} %)" for k in off)
        assert line == f"{', '.join(words)}  {stored.keys[n]}"
    with Image.open(tmp_path / "wrong.png") as image:
        assert min(image.size) > 150
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == [stored.keys[n] for n in order]
    for row, n in zip(rows, order, strict=True):
        sets = (" + ".join(np.array(SHAPES)[one[n]]) or NONE for one in (marks, said))
        assert [row["classes"], row["said"]] == list(sets)
        assert float(row["loss"]) == pytest.approx(losses[n].mean())


def test_everything_else_works_on_such_pictures(learned: Done, tmp_path: Path) -> None:
    source = ("shapes/labels.csv", "--several", ";")
    for words in (
        ("data", "show", *source, "--list"),
        ("data", "show", *source),
        ("data", "show", *source, "--index", "3"),
        ("data", "show", *source, "--sees", str(tmp_path / "sees.png")),
        ("data", "batch", *source),
        ("split", *source, "--out", str(tmp_path / "split.csv"), "--folds", "3"),
        ("train", *source, "--dry-run"),
        ("train", *source, "--smoke"),
        (
            "train",
            *source,
            "--split",
            str(tmp_path / "split.csv"),
            "--set",
            "data.folds=3",
            "--set",
            "train.max_steps=2",
        ),
        ("train", *source, "--group-by", "([0-9])[.]png", "--augment", "strong", "--set", "train.max_steps=2"),
        ("train", *source, "--set", "augment.mixup=0.2", "--set", "augment.cutmix=1.0", "--set", "train.max_steps=2"),
    ):
        done = tellapart(learned.at, *words)
        assert done.code == 0, (words, done.err)
    counted = tellapart(learned.at, "data", "show", *source).out.splitlines()
    assert counted[-1].split() == ["all", "240"]  # pictures, not marks
    checked = tellapart(learned.at, "check", *source)
    assert checked.code in (0, 1)
    assert "shortcuts, labels are not looked for" in checked.out + checked.err


def test_a_branch_an_extension_and_a_repetition_go_the_same_way(learned: Done) -> None:
    for words in (
        ("branch", "a", "--lr", "0.01", "--epochs", "1", "--run", "b"),
        ("extend", "b", "--epochs", "2"),
        ("reproduce", "b"),
    ):
        done = tellapart(learned.at, *words)
        assert done.code == 0, (words, done.err)
    recipe = (learned.at / "runs" / "b" / "recipe.toml").read_text()
    assert 'name = "bce"' in recipe
    assert "label_smoothing = 0.0" in recipe


def test_panels_have_the_score_and_no_confusion_matrix(learned: Done) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(learned.run("a").folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"epoch/val_mean_average_precision", "best_model/test_mean average precision"} <= set(tags["scalars"])
    assert not [tag for tag in tags["images"] if "confusion" in tag or "mistakes" in tag]


def test_a_model_file_whose_thresholds_are_none_is_refused(learned: Done, tmp_path: Path) -> None:
    bundle = learned.run("a").bundle
    assert len(read_header(bundle)["thresholds"]) == 3
    for wrong in (b"[2.0", b"[NaN"):
        raw = bundle.read_bytes()
        at = raw.index(b'thresholds\\": [') + len(b'thresholds\\": ')
        (tmp_path / "model.safetensors").write_bytes(raw[:at] + wrong + raw[at + len(wrong) :])
        done = tellapart(learned.at, "predict", str(tmp_path / "model.safetensors"), "shapes/img/000.png")
        assert (done.code, "Traceback" in done.err) == (4, False)


def test_a_run_that_was_stopped_predicts_by_the_sigmoid_too(learned: Done, tmp_path: Path) -> None:
    """A model file that a training leaves when it ends early has thresholds of a half."""
    steps = iter(range(100))
    asking = Asking(runs=tmp_path, name="cut", asked=lambda: Interrupted("stop") if next(steps) > 3 else None)
    recipe = Recipe.from_values({"data.source": str(learned.at / "shapes/labels.csv"), "data.several": ";"})
    with pytest.raises(Interrupted):
        list(begin(recipe, asking))
    assert load_bundle(tmp_path / "cut" / "model.safetensors").thresholds == (0.5, 0.5, 0.5)
