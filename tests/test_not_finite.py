"""Not a number is an event: it is noticed within a step wherever it comes from, is never saved and never the best."""

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import tellapart, train

from tellapart.errors import DivergedError
from tellapart.models.bundle import load_bundle
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.training.checkpoint import load_checkpoint, newest_first
from tellapart.training.watch import first_bad
from tellapart.workflow import fitting, keeping
from tellapart.workflow import train as training
from tellapart.workflow.events import Epoch, Event, Step
from tellapart.workflow.fitting import Pieces
from tellapart.workflow.train import Asking

VALUES = {
    "data.source": "digits",
    "data.limit": 90,
    "train.epochs": 4,
    "train.batch_size": 16,
    "model.width": 4,
    "machine.device": "cpu",
    "machine.save_seconds": 0,
}
BAD = (math.nan, math.inf, -math.inf)


class BadLoss:
    """The loss, which is bad when it is time."""

    def __init__(self, planted: "Planted", usual: Any) -> None:
        self.planted, self.usual = planted, usual

    def __call__(self, *words: Any) -> Any:
        return self.usual(*words) * (self.planted.bad if self.planted.due("loss") else 1.0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.usual, name)


class Planted:
    """A number that is none, put into one thing at one step of a training."""

    def __init__(self, what: str, step: int, bad: float, patch: pytest.MonkeyPatch) -> None:
        self.what, self.step, self.bad, self.done = what, step, bad, 0
        put_together = training.put_together
        patch.setattr(keeping, "SHARE", math.inf)
        patch.setattr(training, "put_together", lambda *w, **n: self.watch(put_together(*w, **n)))

    def watch(self, pieces: Pieces) -> Pieces:
        """Remember the network."""
        self.pieces = pieces
        parameter = next(pieces.model.parameters())
        parameter.register_hook(lambda g: torch.full_like(g, self.bad) if self.due("gradient") else g)
        return replace(pieces, loss=BadLoss(self, pieces.loss))

    def due(self, what: str) -> bool:
        """Whether it is time: in the step after `step` others."""
        return what == self.what and self.done == self.step

    def train(self, recipe: Recipe, runs: Path, events: list[Event]) -> None:
        """Train, and keep what happened."""
        for event in training.train(recipe, Asking(runs=runs, name="a", open_test=False)):
            events.append(event)
            self.seen(event)

    def seen(self, event: Event) -> None:
        """Count steps; between two of them weights and statistics go bad."""
        if not isinstance(event, Step):
            return
        self.done += 1
        tensors = {"weight": self.pieces.model.parameters, "buffer": self.pieces.model.buffers}
        if self.due(self.what) and self.what in tensors:
            with torch.no_grad():
                next(t for t in tensors[self.what]() if t.is_floating_point()).view(-1)[0] = self.bad


CASES = [(what, n) for what in ("loss", "gradient", "weight", "buffer") for n in range(3)]


@pytest.mark.parametrize(("what", "n"), CASES, ids=[f"{what}-{n}" for what, n in CASES])
def test_it_is_noticed_within_a_step_and_finite_weights_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, n: int
) -> None:
    chance = random.Random(f"{what} {n}")
    planted = Planted(what, chance.randint(2, 17), BAD[n], monkeypatch)
    events: list[Event] = []
    with pytest.raises(DivergedError) as told:
        planted.train(Recipe.from_values(VALUES), tmp_path, events)
    run = Run(tmp_path / "a")
    assert planted.done == planted.step  # not one step more
    assert "finite" in told.value.message or "the loss is" in told.value.message
    assert told.value.exit_code == 5
    assert run.status()["state"] == "diverged"
    kept = [load_checkpoint(one) for one in newest_first(run.folder / "checkpoints")]
    assert kept[0].position.step in (planted.step, planted.step - 1)
    for checkpoint in kept:
        assert first_bad({**checkpoint.optimiser, **checkpoint.model}) == ""
    load_bundle(run.bundle).module()
    assert "model.safetensors" in told.value.hint
    best = [event for event in events if isinstance(event, Epoch) and event.best]
    assert (run.status()["best"] or {"epoch": None})["epoch"] == (best[-1].epoch if best else None)


def test_weights_that_went_bad_before_anything_was_saved_are_said_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted("buffer", 2, math.nan, monkeypatch)
    monkeypatch.setattr(keeping, "FIRST_SECONDS", 1e9)
    recipe = Recipe.from_values({**VALUES, "machine.save_seconds": 1e9})
    with pytest.raises(DivergedError, match="No finite model was reached"):
        planted.train(recipe, tmp_path, [])
    assert not (tmp_path / "a/model.safetensors").exists()


@pytest.mark.parametrize("bad", BAD)
def test_a_validation_that_is_no_number_is_never_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    validated, epochs = fitting.validated, []

    def spoiled(*words: Any) -> tuple[float, float, int]:
        loss, accuracy, n = validated(*words)
        epochs.append(accuracy)
        return (bad, 1.0, n) if len(epochs) == 2 else (loss, accuracy, n)

    monkeypatch.setattr(fitting, "validated", spoiled)
    words = ("digits", "--limit", "90", "--epochs", "3", "--batch-size", "16", "--set", "train.target=1", "--no-test")
    run = train(tmp_path, "a", *words).run("a")
    assert len(epochs) == 3  # nor does it end the training by reaching the target
    assert run.status()["best"]["epoch"] != 1
    records = [record for _, record in run.records() if record["kind"] == "epoch"]
    assert (records[1]["best"], records[1]["val_loss"]) == (False, None)


def test_a_healthy_training_is_left_alone(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", "digits", "--limit", "90", "--epochs", "2", "--no-test", "--run", "a")
    assert done.code == 0
    assert "finite" not in done.err
