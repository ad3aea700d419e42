"""The exported script where pictures may have several classes: it trains, judges and answers as the run does."""

import csv
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import tellapart, train
from marked import SHAPES, make_marked
from test_marks_scores import drawn, of
from test_script import (
    COLOUR,
    HOSTILE,
    SETTLED,
    architecture_of,
    assert_close_weights,
    assigned,
    run_script,
    weights_in,
)

from tellapart.errors import UsageError
from tellapart.evaluation.marks import thresholds
from tellapart.evaluation.metrics import class_curves, sigmoid
from tellapart.models.bundle import load_bundle
from tellapart.recipe import Recipe
from tellapart.shipping.script import SCHEDULES, script_of


def exported(
    model: str = "linear", changes: Mapping[str, Any] = {}, *, classes: tuple[str, ...] = SHAPES, run: str = "r1"
) -> str:
    several = {"data.several": ";", "loss.name": "bce", "loss.label_smoothing": 0.0}
    recipe = Recipe.from_values({**SETTLED, **several, "model.name": model, **changes})
    return script_of(recipe, architecture_of(model, num_classes=len(classes)), COLOUR, classes, run=run)


def functions(text: str, *names: str) -> dict[str, Any]:
    """Some functions of a script, without the rest of it."""
    known: dict[str, Any] = {"torch": torch}
    for name in names:
        start = text.index(f"def {name}(")
        exec(text[start : text.index("\n\n\n", start)], known)
    return known


def parted(table: Path, parts: str) -> Path:
    """The same table with a column of parts, those given in turn."""
    every = parts.split()
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (table.parent / "parts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["path", "labels", "part"])
        writer.writeheader()
        writer.writerows({**row, "part": every[n % len(every)]} for n, row in enumerate(rows))
    return table.parent / "parts.csv"


def test_without_chance_the_script_reaches_the_weights_and_the_thresholds_of_the_run(tmp_path: Path) -> None:
    table = parted(make_marked(tmp_path / "shapes", 120)[0], "train validation test")
    still = ("augment.shift=0", "augment.flip=false", "train.batch_size=40", "train.max_steps=5", "model.width=8")
    words = (word for one in still for word in ("--set", one))
    train(tmp_path, "r1", str(table), "--several", ";", "--epochs", "6", *words)
    done = tellapart(tmp_path, "export", "script", "r1", "--out", "plain.py")
    assert done.code == 0, done.err
    assert "start it with: python plain.py TABLE.csv" in done.out
    ran = run_script((tmp_path / "plain.py").read_text(encoding="utf-8"), table, tmp_path / "at")
    assert ran.returncode == 0, ran.stderr
    bundle = load_bundle(tmp_path / "runs/r1/model.safetensors")
    assert_close_weights(weights_in(tmp_path / "at"), bundle.state)
    assert json.loads((tmp_path / "at/thresholds.json").read_text()) == pytest.approx(bundle.thresholds, abs=1e-3)
    assert json.loads((tmp_path / "at/classes.json").read_text()) == list(SHAPES)
    figures = {(one["name"], one["part"]): one["value"] for one in status(tmp_path)["figures"]}
    assert f"test mean average precision {figures['mean average precision', 'test']:.1%}, " in ran.stdout
    judged = json.loads(tellapart(tmp_path, "test", "r1", "--json").out)["judgement"]["figures"]
    (exact,) = (one["value"] for one in judged if one["name"] == "exact match")
    assert f"every class right: {exact:.1%}" in ran.stdout


def status(at: Path) -> dict[str, Any]:
    return json.loads((at / "runs/r1/status.json").read_text())


def test_it_judges_as_we_do_also_where_probabilities_are_equal() -> None:
    found = functions(exported(), "average_precision", "threshold")
    rounded = drawn(80, 4, seed=1)
    for said in (drawn(200, 5, seed=0), of(np.round(rounded.logits), np.asarray(rounded.marks)), drawn(30, 3, seed=2)):
        assert said.marks is not None
        logits, has = torch.from_numpy(said.logits).double(), torch.from_numpy(said.marks)
        curves, shares = class_curves(said), torch.from_numpy(sigmoid(said.logits))
        for k, (curve, least) in enumerate(zip(curves, thresholds(said), strict=True)):
            assert curve is not None
            own = found["average_precision"](logits[:, k], has[:, k])
            assert own == pytest.approx(curve.average_precision, abs=1e-12)
            assert found["threshold"](shares[:, k], has[:, k]) == pytest.approx(least.value, abs=1e-12)
    few = torch.tensor([True] * 9 + [False] * 40)
    assert found["threshold"](torch.linspace(0, 1, 49).double(), few) == 0.5


def test_a_table_without_parts_keeps_some_pictures_for_validation(tmp_path: Path) -> None:
    table = make_marked(tmp_path / "shapes", 21)[0]
    ran = run_script(exported("quick"), table, tmp_path / "at", "--max-steps", "2")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("n = 3") == 1  # every seventh of 21; and no test was made up
    assert "step 2/2" in ran.stdout
    assert "test mean" not in ran.stdout


def test_hostile_names_signs_and_columns_are_only_names(tmp_path: Path) -> None:
    classes = tuple(sorted((HOSTILE, "b\n$run", "ç\u202e'")))
    columns = {"data.columns": "path=a'$run,label=$classes,split=", "data.several": "|"}
    text = exported("mlp:16", columns, classes=classes, run='import os; os.system("touch hacked")\r"""$classes')
    table, marks = make_marked(tmp_path / "shapes", 20, sign="|")
    rows = [
        (f"img/{n:03d}.png", "|".join(c for c, has in zip(classes, marks[n], strict=True) if has)) for n in range(20)
    ]
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("a'$run", "$classes"), *rows])
    ran = run_script(text, table, tmp_path / "at", "--max-steps", "2")
    assert ran.returncode == 0, ran.stderr
    assert list(tmp_path.rglob("hacked")) == []
    assert json.loads((tmp_path / "at/classes.json").read_text()) == list(classes)


@pytest.mark.parametrize(
    ("header", "cells", "told"),
    [
        (
            "file,labels,part",
            ",red square,train",
            "has the columns ['file', 'labels', 'part']; expected path and labels.",
        ),
        ("path,labels,part", "x.png,red sqare;blue disc,train", "x.png has the classes ['red sqare', 'blue disc']"),
        ("path,labels,part", "x.png,blue disc,dev", "has other words than train, val and test."),
    ],
)
def test_a_table_that_does_not_fit_is_said(tmp_path: Path, header: str, cells: str, told: str) -> None:
    (tmp_path / "labels.csv").write_text(f"{header}\n{cells}\n")
    ran = run_script(exported(), tmp_path / "labels.csv", tmp_path / "at")
    assert (ran.returncode, told in ran.stderr, "Traceback" in ran.stderr) == (1, True, False), ran.stderr


def test_its_sign_and_its_columns_are_those_of_the_recipe() -> None:
    text = exported(changes={"data.several": " ", "data.columns": "path=file,label=tags"})
    assert assigned(text, "SIGN") is None  # split at any space
    assert assigned(text, "(PATH, LABELS, PART)") == ("file", "tags", "part")
    assert assigned(exported(), "SIGN") == ";"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.columns": "group=patient"}, "no words for a column of groups"),
        ({"data.limit": 9}, "takes a table as it is, and has no words for data.limit = 9"),
        ({"loss.name": "cross-entropy"}, "no words for loss.name = cross-entropy"),
        ({"augment.mixup": 0.2}, "no words for augment.mixup"),
    ],
)
def test_what_such_a_script_cannot_say_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        exported(changes=changes)


@pytest.mark.parametrize("model", ["small", "linear", "resnet18"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_script_is_clean_and_has_the_nine_steps_in_order(tmp_path: Path, model: str, schedule: str) -> None:
    text = exported(model, {"optim.schedule": schedule})
    ruff = Path(sys.executable).with_name("ruff")
    for way in (["check", "--select", "E,F,W,I,B,UP,SIM,RUF"], ["format", "--diff"]):
        words = [str(ruff), *way, "--isolated", "--line-length", "120", "--stdin-filename", "script.py", "-"]
        done = subprocess.run(words, input=text, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(text.splitlines()) < 270
    headings = [line.strip()[2] for line in text.splitlines() if line.strip()[:2] == "# " and line.strip()[2].isdigit()]
    assert headings == list("123456789")  # step 8 stands inside step 7, after every epoch
    assert "import tellapart" not in text
    assert "softmax" not in text
