"""The exported script: it runs without tellapart, trains the same network in the same way, and takes no orders."""

import ast
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from commands import train
from pictures import draw, make_folder
from PIL import Image, ImageOps
from torch import nn
from torchvision import datasets, models, transforms

from tellapart import names
from tellapart.cli.export import command
from tellapart.data.augment import network_input
from tellapart.data.decode import decode
from tellapart.data.square import fitted
from tellapart.errors import StorageError, UsageError
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import load_bundle
from tellapart.models.zoo import build_torchvision
from tellapart.preprocess import Preprocess
from tellapart.recipe import Recipe
from tellapart.shipping.script import OPTIMISERS, SCHEDULES, script_of
from tellapart.training.optim import make_optimiser
from tellapart.training.schedule import rate_of

SETTLED = {
    "augment.shift": 0.1,
    "augment.flip": True,
    "optim.lr": 0.05,
    "optim.nesterov": True,
    "train.epochs": 4,
    "train.patience": 4,
    "train.batch_size": 8,
}
HOSTILE = 'a"); import os; os.system("touch hacked")#'
COLOUR = Preprocess(size=12, channels=3, mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2))
GREY = Preprocess(size=12, channels=1, mean=(0.4,), std=(0.2,))


def architecture_of(model: str, *, num_classes: int = 3, channels: int = 3, size: int = 12) -> Architecture:
    args = {"width": 8} if model == "small" else {}
    return Architecture(name=model, num_classes=num_classes, channels=channels, size=size, args=args)


def exported(
    model: str = "small",
    changes: Mapping[str, Any] = {},
    *,
    preprocess: Preprocess = COLOUR,
    classes: tuple[str, ...] = ("cat", "dog", "fox"),
    run: str = "r1",
) -> str:
    recipe = Recipe.from_values({**SETTLED, "model.name": model, **changes})
    architecture = architecture_of(model, num_classes=len(classes), channels=preprocess.channels, size=preprocess.size)
    return script_of(recipe, architecture, preprocess, classes, run=run)


def assigned(text: str, name: str, **known: Any) -> Any:
    """The value that the script gives to `name` where it is first assigned, computed from `known` names."""
    found = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == name)
    own = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.name in ("resized", "square")]
    exec(ast.unparse(ast.Module([*own], [])), known)
    return eval(ast.unparse(next(found).value), known)


def made_network(text: str) -> Any:
    """What `make_network` of the script gives for three classes."""
    (own,) = (n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.name == "make_network")
    known: dict[str, Any] = {"nn": nn, "models": models, "torch": torch, "CLASSES": ["cat", "dog", "fox"]}
    exec(ast.unparse(own), known)
    return known["make_network"]()


def run_script(text: str, folder: Path, at: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python script.py FOLDER WORDS…` in the new folder `at`, where importing tellapart fails."""
    at.mkdir()
    (at / "tellapart.py").write_text('raise ImportError("there is no tellapart here")')
    (at / "script.py").write_text(text, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = (sys.executable, "script.py", str(folder), *words)
    return subprocess.run(words, cwd=at, env=environment, capture_output=True, text=True, timeout=120)


def shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def weights_in(at: Path) -> dict[str, torch.Tensor]:
    return torch.load(at / "weights.pth", weights_only=True)


def assert_close_weights(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    """What a script has learned is what a run has, up to rounding."""
    assert shapes(found) == shapes(wanted)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


# --- it trains --------------------------------------------------------------------------------------------------------


def test_without_chance_the_script_reaches_the_weights_of_the_run(tmp_path):
    folder = make_folder(tmp_path / "pets", classes=("2", "10", "fox"), parts=("train", "val", "test"))
    # One batch holds all 36 pictures, so that their order, too, is no chance.
    still = (
        "augment.shift=0",
        "augment.flip=false",
        "train.batch_size=36",
        "train.max_steps=5",
    )  # one batch holds them all
    train(tmp_path, "r1", str(folder), "--epochs", "6", *(word for one in still for word in ("--set", one)))
    done = CliRunner().invoke(
        command, ["script", "r1", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "plain.py")]
    )
    assert done.exit_code == 0, done.output
    ran = run_script((tmp_path / "plain.py").read_text(encoding="utf-8"), folder, tmp_path / "at")
    assert ran.returncode == 0, ran.stderr
    bundle = load_bundle(tmp_path / "runs/r1/model.safetensors")
    assert_close_weights(weights_in(tmp_path / "at"), bundle.state)
    assert json.loads((tmp_path / "at/classes.json").read_text()) == list(bundle.classes) == ["2", "10", "fox"]
    assert "step 5/5" in ran.stdout
    assert "test accuracy" in ran.stdout


def test_a_folder_without_validation_keeps_some_training_pictures_for_it(tmp_path):
    folder = make_folder(tmp_path / "pets", parts=("train",), per_class=7)
    ran = run_script(exported("quick"), folder, tmp_path / "at", "--max-steps", "2")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("n = 3") == 1  # every seventh of 21; and no test was made up
    assert "step 2/2" in ran.stdout
    assert shapes(weights_in(tmp_path / "at")) == shapes(build(architecture_of("quick")).state_dict())


def test_hostile_names_are_only_names(tmp_path):
    classes = tuple(sorted((HOSTILE, "b\n$run", "ç\u202e'")))
    run = '# -*- coding: utf-7 -*-\nimport os; os.system("touch hacked")\r"""\x0c\u2028$classes'
    text = exported("mlp:16", classes=classes, run=run)
    assert assigned(text, "CLASSES") == list(classes)
    assert "coding" not in "".join(text.splitlines()[:2])
    assert text.isascii() or "\u202e" not in text
    folder = make_folder(tmp_path / "pets", classes=classes, parts=("train", "val"))
    ran = run_script(text, folder, tmp_path / "at", "--max-steps", "2")
    assert ran.returncode == 0, ran.stderr
    assert list(tmp_path.rglob("hacked")) == []
    assert json.loads((tmp_path / "at/classes.json").read_text()) == list(classes)
    assert shapes(weights_in(tmp_path / "at")) == shapes(build(architecture_of("mlp:16")).state_dict())


# --- it says what the recipe says -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["quick", "linear", "mlp:16", "mlp:3,3", "resnet18"])
def test_the_network_starts_from_the_same_weights(model):
    network = made_network(exported(model, {"train.seed": 5}))
    ours = build(architecture_of(model), seed=5).state_dict()
    assert shapes(network.state_dict()) == shapes(ours)
    assert all(torch.equal(tensor, ours[name]) for name, tensor in network.state_dict().items())


def test_every_torchvision_network_is_made_as_tellapart_makes_it(monkeypatch):
    monkeypatch.setattr("torchvision.models.get_model", lambda *args, **kwargs: (args, kwargs))
    for model in names.TORCHVISION_MODELS:
        assert made_network(exported(model)) == build_torchvision(model, 3)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.7])
def test_the_learning_rate_of_every_step_is_that_of_the_recipe(schedule, warmup):
    changes = {"optim.schedule": schedule, "optim.warmup": warmup, "optim.step_every": 2, "optim.step_factor": 0.3}
    optim = Recipe.from_values({**SETTLED, **changes}).optim
    ours, text = rate_of(optim, total_steps=40, steps_per_epoch=10), exported("linear", changes)
    known = {"RATE": assigned(text, "RATE"), "math": math}
    for step in range(40):
        assert assigned(text, "rate", progress=step / 40, epoch=step // 10, **known) == pytest.approx(ours(step))
    assert ("import math" in text) == (schedule == "cosine")


@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_the_optimiser_makes_the_same_steps(optimizer, dampening):
    changes = {
        "optim.name": optimizer,
        "optim.dampening": dampening,
        "optim.nesterov": not dampening,
        "optim.weight_decay": 0.1,
        "optim.beta1": 0.9 if dampening else 0.8,
    }
    text, optim = exported("quick", changes), Recipe.from_values({**SETTLED, **changes}).optim
    plain, own = (build(architecture_of("quick")).double() for _ in range(2))
    known: dict[str, Any] = {"network": plain, "torch": torch}
    for name in ("RATE", "decayed", "spared", "groups", "optimizer"):
        known[name] = assigned(text, name, **known)
    images = torch.rand(4, 3, 12, 12, dtype=torch.float64)
    ours = make_optimiser(own, optim)
    for _ in range(3):
        for network, optimiser in ((plain, known["optimizer"]), (own, ours)):
            optimiser.zero_grad()
            network(images).square().mean().backward()
        known["optimizer"].step()
        ours.step(optim.lr or 0.0)
    for one, other in zip(plain.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("square", [{"fit": "crop"}, {"fit": "squash"}, {"fit": "crop", "short": 14}, {"fit": "pad"}])
@pytest.mark.parametrize("base", [COLOUR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("filter", names.FILTERS)
def test_a_picture_file_becomes_the_same_tensor(tmp_path, base, filter, square):
    preprocess = Preprocess(**{**base.to_json(), "filter": filter, **square, "mean": base.mean, "std": base.std})
    image = Image.fromarray(draw(1, 3, (1,), 40)).resize((48, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    known = {"transforms": transforms, "ImageOps": ImageOps, "nn": torch.nn, "torch": torch, "SIZE": 12}
    look = assigned(exported(preprocess=preprocess), "look", **known)
    got = transforms.Compose(look)(datasets.folder.pil_loader(str(tmp_path / "turned.jpg")))
    pixels = torch.from_numpy(fitted(decode((tmp_path / "turned.jpg").read_bytes()), preprocess).copy())
    torch.testing.assert_close(got, network_input(pixels[None], preprocess)[0], rtol=1e-4, atol=1e-4)


def test_only_training_pictures_are_moved_as_the_recipe_says():
    known = {"transforms": transforms, "SIZE": 12}
    assert assigned(exported(changes={"augment.shift": 0.0, "augment.flip": False}), "augmentation", **known) == []
    crop, flip = assigned(exported(changes={"augment.shift": 0.25}), "augmentation", **known)
    assert (crop.padding, crop.padding_mode, flip.p) == (3, "reflect", 0.5)
    assert crop(torch.rand(3, 12, 12)).shape == (3, 12, 12)


def test_other_settings_are_those_of_the_recipe():
    text = exported("linear", {"train.max_steps": 9, "train.drop_last": True, "loss.label_smoothing": 0.0})
    assert "default=9" in text
    assert "drop_last=True" in text
    assert "CrossEntropyLoss(label_smoothing=0.0)" in text
    assert "best_epoch >=" not in text
    assert "epoch - best_epoch >= 2" in exported("linear", {"train.patience": 2})


# --- it reads well ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["small", "quick", "linear", "mlp:16", "resnet18", "inception_v3"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_script_is_clean_and_short_and_has_the_nine_steps_in_order(tmp_path, model, schedule):
    text = exported(model, {"optim.schedule": schedule}, classes=tuple(f"class {n}" for n in range(30)))
    ruff = Path(sys.executable).with_name("ruff")
    for way in (["check", "--select", "E,F,W,I,B,UP,SIM,RUF"], ["format", "--diff"]):
        words = [str(ruff), *way, "--isolated", "--line-length", "120", "--stdin-filename", "script.py", "-"]
        done = subprocess.run(words, input=text, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert done.returncode == 0 or (way[0] == "format" and "CLASSES" in done.stdout), done.stdout + done.stderr
    own = text if model != "small" else text[: text.index("def pooling")] + text[text.index("torch.manual_seed") :]
    assert len(own.splitlines()) < 180
    assert len(text.splitlines()) < 210
    headings = [line.strip()[2] for line in text.splitlines() if line.strip()[:2] == "# " and line.strip()[2].isdigit()]
    assert headings == list("123456789")  # step 8 stands inside step 7, after every epoch
    assert "import tellapart" not in text


# --- the command ------------------------------------------------------------------------------------------------------


def test_an_open_recipe_and_strange_arguments_are_refused():
    with pytest.raises(UsageError, match=r"optim\.lr"):
        exported("linear", {"optim.lr": None})
    odd = Architecture(name="small", num_classes=2, channels=3, size=12, args={"x=1); import os#": 1})
    with pytest.raises(StorageError, match="width"):
        script_of(Recipe.from_values(SETTLED), odd, COLOUR, ("a", "b"), run="r1")


def test_importing_the_script_trains_nothing_and_gives_the_network_for_weights_that_are_there(tmp_path):
    torch.save(build(architecture_of("quick"), seed=3).state_dict(), tmp_path / "weights.pth")
    (tmp_path / "network.py").write_text(exported("quick"), encoding="utf-8")
    program = "import sys, torch; sys.argv.append('--no-such-flag'); from network import CHANNELS, SIZE, make_network\n"
    program += "network = make_network(); network.load_state_dict(torch.load('weights.pth', weights_only=True))\n"
    program += "print(tuple(network(torch.ones(1, CHANNELS, SIZE, SIZE)).shape))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "(1, 3)\n"), done.stderr
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"weights.pth", "network.py"}


@pytest.mark.parametrize("there", ["weights.pth", "classes.json"])
def test_the_script_leaves_files_that_are_there_alone_until_told_otherwise(there, tmp_path):
    folder, text = make_folder(tmp_path / "pets", parts=("train",), per_class=7), exported("linear")
    first = run_script(text, folder, tmp_path / "at", "--max-steps", "1")
    assert first.returncode == 0, first.stderr
    for name in {"weights.pth", "classes.json"} - {there}:
        (tmp_path / "at" / name).unlink()
    (tmp_path / "at" / there).write_text("mine")
    words = [sys.executable, "script.py", str(folder), "--max-steps", "1"]
    done = subprocess.run(words, cwd=tmp_path / "at", capture_output=True, text=True, timeout=120)
    assert (done.returncode, f"{there} exists already. Start in another folder, or give --force" in done.stderr) == (
        1,
        True,
    ), done.stderr
    assert (tmp_path / "at" / there).read_text() == "mine"
    done = subprocess.run([*words, "--force"], cwd=tmp_path / "at", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert shapes(weights_in(tmp_path / "at")) == shapes(build(architecture_of("linear")).state_dict())


def test_an_existing_file_is_written_over_only_when_told_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(tmp_path, "torch", "digits", "--epochs", "1", "--set", "train.max_steps=1")
    assert CliRunner().invoke(command, ["script", "torch"]).exit_code == 0
    again = CliRunner().invoke(command, ["script", "torch"])
    assert isinstance(again.exception, UsageError)
    assert "--force" in again.exception.hint
    Path("train-torch.py").write_text("old")
    done = CliRunner().invoke(command, ["script", "torch", "--force"])
    assert "python train-torch.py FOLDER" in done.output
    assert "CLASSES" in Path("train-torch.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changes", [{"data.include": "cat,dog"}, {"data.limit": 9}, {"data.labels": "filename"}, {"data.test_from": "more"}]
)
def test_a_choice_of_pictures_that_a_script_would_ignore_is_refused(changes):
    (key, value) = next(iter(changes.items()))
    with pytest.raises(UsageError, match=f"no words for {key} = {value}"):
        exported(changes=changes)
    assert exported(changes={"data.labels": "folders", "data.split_seed": 3, "data.validation": 0.2})
