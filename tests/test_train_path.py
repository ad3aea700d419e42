"""The whole path of a training, as a person takes it: what is said, what is written, what is the same the next time."""

import csv
import json
import math
import platform
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import GOLDEN, OVERWRITE, Done, golden, process, tellapart, train
from pictures import make_folder
from safetensors.torch import load_file
from torch import Tensor

from tellapart import names
from tellapart.cli import VERBS
from tellapart.data.augment import network_input
from tellapart.data.pictures import StreamedPixels
from tellapart.data.sources import open_source
from tellapart.data.square import fitted
from tellapart.errors import Interrupted
from tellapart.evaluation.predictions import Predictions
from tellapart.models.bundle import load_bundle
from tellapart.recipe import Recipe
from tellapart.workflow import keeping, prepare
from tellapart.workflow.same import processor
from tellapart.workflow.train import Asking
from tellapart.workflow.train import train as training

STAGES = ["data", "batches", "network", "loss", "optimiser", "settings", "training", "test", "saved"]
EPOCH = (
    r"epoch {}/2  train loss \d+\.\d{{4}}  validation loss \d+\.\d{{4}}  accuracy \d+\.\d % \(n = 269\)  "
    r"[\d,]+ pictures/s(  best so far)?"
)
SHARE = r"\d+\.\d % \[\d+\.\d, \d+\.\d\]"


def weights(done: Done, name: str) -> dict[str, Tensor]:
    return load_file(done.run(name).bundle)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """`train digits --epochs 2`: the run `first`."""
    return train(tmp_path_factory.mktemp("two"), "first", "digits", "--epochs", "2", "--set", "train.log_every=5")


# --- what is said -----------------------------------------------------------------------------------------------------


def test_the_nine_stages_are_said_in_order_on_stderr(two: Done) -> None:
    assert re.findall(r"^(\d)/9 (\w+):", two.err, re.M) == [(str(n), word) for n, word in enumerate(STAGES, 1)]


def test_settings_that_change_what_is_learned_are_said_when_they_are_not_the_usual_ones(two: Done, tmp_path) -> None:
    assert re.search(r"^6/9 settings: epochs 2, steps \d+, seed 0$", two.err, re.M)
    words = ("optim.clip=1", "train.ema=0.9", "machine.precision=bf16", "train.accumulate=2")
    flags = [word for setting in words for word in ("--set", setting)]
    done = train(tmp_path, "a", "digits", "--limit", "200", "--epochs", "1", "--model", "linear", "--no-test", *flags)
    assert ", seed 0, clip 1.0, accumulate 2, ema 0.9, precision bf16\n" in done.err
    swa = train(tmp_path, "b", "digits", "--limit", "200", "--epochs", "2", "--no-test", "--set", "train.swa=0.5")
    assert ", seed 0, swa 0.5\n" in swa.err


def test_every_epoch_is_one_line_with_losses_accuracy_n_and_speed(two: Done) -> None:
    lines = [line for line in two.err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2
    assert all(re.fullmatch(EPOCH.format(n), line) for n, line in enumerate(lines, 1))


def test_the_verdict_has_both_accuracies_with_n_and_interval(two: Done) -> None:
    for part in ("validation", "test"):
        assert re.search(rf"^ *{part} accuracy  {SHARE}  \(95 % interval, n = 269\)$", two.out, re.M)
    assert "this test part was never opened before" in two.out


def test_the_class_table_has_every_class_with_its_own_n(two: Done) -> None:
    rows = re.findall(rf"^(\d) +(\d+)  {SHARE} +\d+  {SHARE}$", two.out, re.M)
    assert [name for name, _ in rows] == [str(k) for k in range(10)]
    assert sum(int(n) for _, n in rows) == 269


def test_the_end_names_the_run_folder_and_four_next_commands_that_exist(two: Done) -> None:
    assert f"run folder: {two.run('first').folder}\n" in two.out
    verbs = re.findall(r"^  tellapart (\w+) first\b", two.out, re.M)
    assert len(verbs) == 4
    assert set(verbs) <= set(VERBS)


def test_json_is_one_document_whose_figures_all_have_n_and_interval(tmp_path: Path) -> None:
    document = json.loads(train(tmp_path, "a", "digits", "--epochs", "2", "--json").out)
    for figure in document["figures"]:
        assert figure["part"] in ("validation", "test")
        assert figure["name"]
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["n"] > 0
    headline = {(f["part"], f["name"]) for f in document["figures"] if not f["about"]}
    assert headline == {(p, n) for p in ("validation", "test") for n in ("accuracy", "top-5 accuracy", "loss")}
    assert len([f for f in document["figures"] if f["about"]]) == 20


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_run_folder_is_the_promised_tree(two: Done) -> None:
    folder = two.run("first").folder
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    golden("run_folder.txt", "\n".join(re.sub(r"(tfevents)\..*", r"\1.HOST", name) for name in names) + "\n")


def test_metrics_are_one_object_a_line_with_steps_and_epochs(two: Done) -> None:
    records = [json.loads(line) for line in (two.run("first").folder / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if record["kind"] == "step"]
    assert [record["step"] for record in steps] == list(range(5, 41, 5))
    assert all(record["lr"] > 0 and record["grad_norm"] > 0 and record["loss"] > 0 for record in steps)
    assert [record["epoch"] for record in records if record["kind"] == "epoch"] == [0, 1]


def test_status_and_log_say_that_it_finished(two: Done) -> None:
    run = two.run("first")
    assert run.status()["state"] == "finished"
    assert run.status()["step"] == run.status()["total_steps"] == 40
    said = [line for line in two.out.splitlines() if line.startswith(("fits", "validation and test"))]
    assert (run.folder / "log.txt").read_text() == two.err + "\n".join(said) + "\n"


def test_command_txt_holds_the_words_that_were_typed(two: Done) -> None:
    words = "tellapart train digits --epochs 2 --set train.log_every=5 --run first\n"
    assert (two.run("first").folder / "command.txt").read_text() == words


def test_the_recipe_of_the_run_reads_back_equal_with_origins_as_comments(two: Done) -> None:
    text = (two.run("first").folder / "recipe.toml").read_text()
    origins = dict(re.findall(r"^(\w+) = .*?  # (.*)$", text, re.M))
    recipe = Recipe.from_toml(text)
    assert recipe.to_toml() == re.sub(r"  # .*", "", text)
    assert (recipe.train.epochs, recipe.train.log_every, recipe.optim.lr) == (2, 5, 0.1)
    assert (origins["epochs"], origins["log_every"], origins["momentum"]) == ("--epochs", "--set", "default")
    assert origins["lr"].startswith("auto: ")


def test_split_csv_has_every_picture_in_exactly_one_part(two: Done) -> None:
    with (two.run("first").folder / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["key"] for row in rows}) == len(rows) == 1797
    assert Counter(row["part"] for row in rows) == {"train": 1259, "validation": 269, "test": 269}
    assert max(len({row["part"] for row in rows if row["digest"] == d}) for d in {row["digest"] for row in rows}) == 1


@pytest.mark.parametrize("part", ["validation", "test"])
def test_the_model_file_gives_the_stored_logits(two: Done, part: str) -> None:
    bundle, stored = load_bundle(two.run("first").bundle), Predictions.load(two.run("first").predictions(part))
    index = open_source("digits")
    place = {key: row for row, key in enumerate(index.keys)}
    pixels = [index.store.read(place[key]) for key in stored.keys]
    images = torch.from_numpy(np.stack([fitted(p, bundle.preprocess) for p in pixels if isinstance(p, np.ndarray)]))
    with torch.inference_mode():
        logits = bundle.module()(network_input(images, bundle.preprocess)).numpy()
    assert np.abs(logits - stored.logits).max() < 1e-5
    assert stored.labels.tolist() == [int(index.labels[place[key]]) for key in stored.keys]


def test_tensorboard_has_the_scalars_ten_pictures_and_the_graph(two: Done) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: Any = EventAccumulator(str(two.run("first").folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    epoch = {f"epoch/{name}" for name in ("train_loss", "val_loss", "val_accuracy", "lr", "pictures_per_second")}
    steps = {"train/loss", "train/penalty", "train/lr", "train/grad_norm"}
    ends = [f"best_model/{part}_{name}" for part in ("validation", "test") for name in ("accuracy", "loss")]
    bounds = {f"{end}_{which}" for end in ends if "accuracy" in end for which in ("low", "high")}
    assert set(events.Tags()["scalars"]) == epoch | steps | set(ends) | bounds
    assert [event.step for event in events.Scalars("train/loss")] == list(range(5, 41, 5))
    assert [event.step for event in events.Scalars("epoch/val_accuracy")] == [1, 2]
    assert len(events.Images("data/first_pictures")) == 10
    assert len(events.Graph().node) > 5


# --- what is the same the next time -----------------------------------------------------------------------------------

SHARDS = 29  # times the decoding of the 1797 digits asks whether to stop, 64 at a time
SHORT = ("digits", "--epochs", "1", "--no-test")


def test_two_nameless_runs_in_one_second_have_two_folders(tmp_path: Path) -> None:
    for _ in range(2):
        assert tellapart(tmp_path, "train", *SHORT, "--model", "linear").code == 0
    assert len(list((tmp_path / "runs").glob("*-digits-linear*"))) == 2


def test_the_seed_decides_every_bit_of_the_weights(tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        done = train(tmp_path, name, *SHORT, "--seed", seed)
    assert equal(weights(done, "a"), weights(done, "b"))
    assert not equal(weights(done, "a"), weights(done, "c"))


UNKEPT = ("--set", "machine.cache=0")


def test_files_streamed_by_any_number_of_workers_give_the_weights_of_memory_and_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "pets")
    words = ("pets", "--epochs", "2", "--batch-size", "8", "--no-test")
    kept = weights(train(tmp_path, "cached", *words), "cached")
    assert equal(kept, weights(train(tmp_path, "cached-2", *words), "cached-2"))
    assert equal(kept, weights(train(tmp_path, "memory", *words, *UNKEPT), "memory"))
    calls = []
    gather = StreamedPixels.gather
    monkeypatch.setattr(prepare, "memory_budget", lambda: 0)
    monkeypatch.setattr(StreamedPixels, "gather", lambda self, rows: calls.append(1) or gather(self, rows))
    for workers in ("0", "1", "2"):
        calls.clear()
        done = train(tmp_path, f"w{workers}", *words, "--set", f"machine.workers={workers}", *UNKEPT)
        assert equal(kept, weights(done, f"w{workers}"))
        assert len(calls) >= 6  # three batches in each of two epochs


def test_the_first_twenty_losses_are_the_recorded_ones(tmp_path: Path) -> None:
    done = train(tmp_path, "a", *SHORT, "--set", "train.max_steps=20", "--set", "train.log_every=1")
    losses = [record["loss"] for _, record in done.run("a").records() if record["kind"] == "step"]
    here = [torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability(), processor()]
    if OVERWRITE:
        (GOLDEN / "losses.json").write_text(json.dumps({"build": here, "losses": losses}, indent=1) + "\n")
    recorded = json.loads((GOLDEN / "losses.json").read_text())
    assert len(losses) == 20
    exact = recorded["build"] == here
    assert losses == (recorded["losses"] if exact else pytest.approx(recorded["losses"], abs=1e-3))


def test_a_stopped_and_resumed_run_has_the_weights_and_records_of_one_never_stopped(tmp_path: Path) -> None:
    words = ("digits", "--epochs", "2", "--no-test", "--set", "train.log_every=1")
    whole = train(tmp_path, "whole", *words).run("whole")
    recipe = Recipe.from_toml((whole.folder / "recipe.toml").read_text())
    for name, stop in (("early", 7), ("late", 33)):
        told = iter([None] * (stop + SHARDS) + [Interrupted("stopped")])
        with pytest.raises(Interrupted):
            list(training(recipe, Asking(runs=tmp_path / "runs", name=name, asked=lambda told=told: next(told))))
        done = tellapart(tmp_path, "resume", name, "--no-test")
        assert done.code == 0, done.err
        assert equal(weights(done, "whole"), weights(done, name))
        steps = [(r["step"], r["loss"]) for _, r in done.run(name).records() if r["kind"] == "step"]
        assert steps == [(r["step"], r["loss"]) for _, r in whole.records() if r["kind"] == "step"]
    assert tellapart(tmp_path, "resume", "whole").code == 2


# --- the ways to train ------------------------------------------------------------------------------------------------

TWO_STEPS = ("--set", "train.max_steps=2", "--no-test")


@pytest.mark.parametrize("model", ["mlp:16", "mlp:8,8", "linear", "quick", "small"])
def test_each_model_of_our_own_trains(tmp_path: Path, model: str) -> None:
    done = train(tmp_path, "a", "digits", "--model", model, *TWO_STEPS)
    assert done.run("a").status()["step"] == 2
    assert load_bundle(done.run("a").bundle).architecture.name == model


@pytest.mark.parametrize("optimizer", names.OPTIMIZERS)
def test_each_optimiser_takes_steps_that_change_the_weights(tmp_path: Path, optimizer: str) -> None:
    words = ("digits", "--optimizer", optimizer, "--model", "linear", "--no-test", "--set", "optim.warmup=0")
    train(tmp_path, "one", *words, "--set", "train.max_steps=1")
    done = train(tmp_path, "two", *words, "--set", "train.max_steps=2")
    assert not equal(weights(done, "one"), weights(done, "two"))


def test_a_batch_of_zero_is_one_of_all_pictures(tmp_path: Path) -> None:
    words = ("digits", "--limit", "200", "--batch-size", "0", "--epochs", "3", "--no-test")
    for name, more in (("whole", ()), ("parts", ("--set", "train.accumulate=3"))):
        done = train(tmp_path, name, *words, *more)
        assert done.run(name).status()["step"] == 3
    assert "batches: 1 of 141" in done.err


def test_limit_takes_that_many_pictures_with_every_class_among_them(tmp_path: Path) -> None:
    done = train(tmp_path, "a", "digits", "--limit", "200", "--batch-size", "32", *TWO_STEPS)
    assert sum(done.run("a").status()["counts"].values()) == 200
    assert "200 pictures of 10 classes" in done.err


def test_training_stops_early_when_validation_stands_still(tmp_path: Path) -> None:
    words = ("--model", "linear", "--lr", "1e-30", "--set", "optim.schedule=constant", "--epochs", "50")
    done = train(tmp_path, "a", "digits", "--no-test", *words, "--patience", "1")
    assert done.run("a").status()["epoch"] == 2


@pytest.mark.parametrize("seconds", ["60", "0"])
def test_save_every_keeps_the_checkpoint_of_each_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    monkeypatch.setattr(keeping, "SHARE", math.inf)  # with 0 seconds a save is due at every step anyway
    words = ("digits", "--model", "linear", "--no-test", "--epochs", "3", "--set", "train.save_every=1")
    kept = train(tmp_path, "a", *words, "--set", f"machine.save_seconds={seconds}").run("a").folder / "checkpoints"
    steps = [entry.name for entry in kept.iterdir() if entry.name.startswith("step-")]
    assert sorted(steps) == ["step-000020", "step-000040", "step-000060", *["step-000060-mid"] * (seconds == "0")]


def test_training_works_where_tensorboard_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['tensorboard'] = None\n")
    words, environment = process("train", *SHORT, "--model", "linear", "--run", "a", before=tmp_path)
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/a/model.safetensors").is_file()
    assert not list(tmp_path.rglob("*tfevents*"))
