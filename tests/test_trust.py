"""What must never be believed: broken numbers, hidden openings, edited recipes, runs that someone else writes."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import process, tellapart, train
from pictures import make_folder
from PIL import Image

from tellapart.data.index import ArrayStore, Index, Strings
from tellapart.data.split import divided, twins
from tellapart.evaluation.metrics import judge
from tellapart.evaluation.predictions import Predictions
from tellapart.models.bundle import load_bundle, save_bundle

SMALL = ("--epochs", "2", "--batch-size", "4")


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a flat source `pets` and a run `sealed` that has not opened its test part."""
    at = tmp_path_factory.mktemp("trust")
    make_folder(at / "pets")
    train(at, "sealed", "./pets", *SMALL, "--no-test")
    return at


def copied(pets: Path, to: Path) -> Path:
    """A copy of everything, with the paths inside the recipe still valid: sources are named relative to the folder."""
    return Path(shutil.copytree(pets, to / "copy"))


def test_a_logit_that_is_no_number_is_a_miss_whatever_the_label() -> None:
    logits = np.full((4, 3), np.nan, np.float32)
    said = Predictions(
        part="test", classes=("a", "b", "c"), keys=tuple("wxyz"), logits=logits, labels=np.zeros(4, np.int64)
    )
    accuracy = judge(said)[0]
    assert (accuracy.value, accuracy.n) == (0.0, 4)


def test_a_run_whose_validation_is_no_number_has_diverged(tmp_path: Path) -> None:
    words = ("--lr", "1e30", "--optimizer", "adam", "--set", "train.max_steps=1", "--epochs", "1", "--run", "wild")
    done = tellapart(tmp_path, "train", "digits", *words)
    assert done.code == 5
    assert "no epoch" in done.err.lower() or "diverged" in done.err
    assert "%" not in done.out


@pytest.mark.parametrize("spoil", [lambda w: w * float("nan"), lambda w: w.double()], ids=["nan", "float64"])
def test_a_model_file_with_odd_weights_is_refused(pets: Path, tmp_path: Path, spoil) -> None:
    bundle = load_bundle(pets / "runs/sealed/model.safetensors")
    state = {name: spoil(w) if w.is_floating_point() else w for name, w in bundle.state.items()}
    save_bundle(replace(bundle, state=state), tmp_path / "odd.safetensors")
    done = tellapart(pets, "predict", str(tmp_path / "odd.safetensors"), "pets")
    assert done.code == 4
    assert "finite" in done.err or "float64" in done.err


def index_of(digests: list[int], labels: list[int], *, parts: list[int], groups: list[int] | None = None) -> Index:
    """An index whose rows with equal numbers are equal pictures."""
    return Index(
        name="made",
        classes=("a", "b"),
        keys=Strings.of(map(str, range(len(digests)))),
        labels=np.array(labels),
        parts=np.array(parts, np.uint8),
        store=ArrayStore(np.zeros((len(digests), 1, 1, 1), np.uint8)),
        groups=None if groups is None else np.array(groups),
        digests=np.array([[d] * 16 for d in digests], np.uint8),
    )


def test_equal_pictures_in_two_parts_and_under_two_classes_are_said() -> None:
    said = twins(index_of([1, 1, 2, 2, 3], [0, 0, 0, 1, 1], parts=[0, 2, 0, 0, 1]))
    assert said == [
        "1 picture with equal pixels in train and test",
        "1 picture with equal pixels under more than one class",
    ]


def test_groups_that_share_a_picture_are_one_unit() -> None:
    labels, groups = [0, 1] * 20, [row // 2 for row in range(40)]
    digests = [*range(38), 0, 1]  # the last group holds the pictures of the first
    index = divided(index_of(digests, labels, parts=[255] * 40, groups=groups), validation=0.2, test=0.2, seed=0)
    assert set(index.parts[:2].tolist()) == set(index.parts[38:].tolist())


@pytest.mark.parametrize("verb", ["test", "resume"])
def test_a_recipe_that_was_changed_stops_the_run(pets: Path, tmp_path: Path, verb: str) -> None:
    at = copied(pets, tmp_path)
    recipe = at / "runs/sealed/recipe.toml"
    recipe.write_text(recipe.read_text().replace('fit = "crop"', 'fit = "squash"'))
    if verb == "resume":
        status = at / "runs/sealed/status.json"
        status.write_text(status.read_text().replace('"finished"', '"interrupted"'))
    done = tellapart(at, verb, "sealed")
    assert done.code == 7
    assert "recipe.toml is not as the run wrote it" in done.err


def test_a_run_of_the_same_name_does_not_hide_an_opening(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets")
    train(tmp_path, "a", "./pets", *SMALL)
    shutil.rmtree(tmp_path / "runs/a")
    assert "opened once before, last by a" in train(tmp_path, "a", "./pets", *SMALL).out


def test_a_test_part_that_overlaps_an_opened_one_says_how_much(tmp_path: Path) -> None:
    train(tmp_path, "first", "digits", "--epochs", "1")
    done = train(tmp_path, "other", "digits", "--epochs", "1", "--set", "data.split_seed=1")
    parts = []
    for run in ("first", "other"):
        rows = [line.split(",") for line in (tmp_path / f"runs/{run}/split.csv").read_text().splitlines()[1:]]
        parts.append({row[4] for row in rows if row[2] == "test"})
    shared = len(parts[0] & parts[1])
    assert 0 < shared < 269
    assert f"{shared} of these 269 pictures were opened once before, last by first" in done.out


def test_the_sealed_part_is_not_judged_by_another_door(pets: Path, tmp_path: Path) -> None:
    at = copied(pets, tmp_path)
    done = tellapart(at, "test", "sealed", "./pets")
    assert done.code == 2
    assert "of these pictures are the sealed test part of sealed" in done.err
    assert tellapart(at, "test", "sealed").code == 0
    after = tellapart(at, "test", "sealed", "./pets")
    assert after.code == 0
    assert "of these pictures were in the train part of sealed" in after.out


def test_test_pictures_have_no_say_in_colour_and_augmentation(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", per_class=20)
    for path in (tmp_path / "pets").rglob("*.png"):
        Image.open(path).convert("L").save(path)
    train(tmp_path, "grey", "./pets", *SMALL, "--no-test")
    rows = [line.split(",") for line in (tmp_path / "runs/grey/split.csv").read_text().splitlines()]
    sealed = next(row[0] for row in rows if row[2] == "test")
    picture = Image.open(tmp_path / "pets" / sealed).convert("RGB")
    picture.save(tmp_path / "pets" / sealed)  # grey pixels in a colour file: the same content, so the same part
    train(tmp_path, "again", "./pets", *SMALL, "--no-test")
    recipes = [(tmp_path / f"runs/{run}/recipe.toml").read_text() for run in ("grey", "again")]
    assert recipes[0] == recipes[1]
    assert "channels = 1" in recipes[1]


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_run_that_is_being_written_is_busy(tmp_path: Path) -> None:
    command, environment = process("train", "digits", "--run", "live", "--epochs", "500")
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        while "epoch 1/" not in child.stderr.readline():
            assert child.poll() is None
        done = tellapart(tmp_path, "resume", "live")
        assert (done.code, f"being written by process {child.pid} on " in done.err) == (6, True)
        assert child.poll() is None
        child.kill()
    time.sleep(0.1)
    assert json.loads((tmp_path / "runs/live/status.json").read_text())["state"] == "running"
    assert "resume live" in tellapart(tmp_path, "test", "live").err


@pytest.mark.parametrize("text", ["[]", "{", '{"figures": [{"name": "accuracy"}]}'])
def test_one_damaged_status_does_not_hide_the_other_runs(pets: Path, tmp_path: Path, text: str) -> None:
    at = copied(pets, tmp_path)
    shutil.copytree(at / "runs/sealed", at / "runs/broken")
    (at / "runs/broken/status.json").write_text(text)
    done = tellapart(at, "runs")
    assert done.code == 0
    assert ("damaged" in done.out, "sealed" in done.out) == (True, True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_predict_names_every_file_and_waits_for_none(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    os.mkfifo(tmp_path / "mixed/pipe")
    (tmp_path / "mixed/old.gif").write_bytes(b"GIF89a")
    Image.new("L", (12, 12)).save(tmp_path / "mixed/fine.png")
    done = tellapart(pets, "predict", "sealed", str(tmp_path / "mixed"))
    assert done.code == 3
    assert [("cannot be read" in line) for line in done.out.splitlines()] == [False, True, True]


def test_control_characters_of_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", classes=("cat", "dog\x1b[31m"))
    done = train(tmp_path, "a", "./pets", *SMALL)
    assert "\x1b" not in done.out + done.err


def test_lack_of_memory_names_the_batch_size(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "backward", full)
    done = tellapart(copied(pets, tmp_path), "train", "./pets", "--epochs", "1", "--batch-size", "8")
    assert done.code == 2
    assert "too little memory for a batch of 8 pictures" in done.err
    assert "--batch-size 4, with --set train.accumulate=2" in done.err
