"""Baselines: how far simple classifiers come on features or pixels, judged by validation: what training must beat."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tellapart.data.pictures import Pictures
from tellapart.errors import refuse_marks
from tellapart.evaluation.metrics import Figure, share
from tellapart.models.frozen import frozen
from tellapart.models.pretrained import at_hand, given
from tellapart.recipe import Recipe
from tellapart.training.probe import FOLDS, probed
from tellapart.workflow.choose import opened_or_fetched, selected
from tellapart.workflow.events import Event, Said
from tellapart.workflow.stoppable import to_judge
from tellapart.workflow.train import Asking, accepted, pictures_of
from tellapart.workflow.trivial import NEIGHBOURS, SIDE, features, nearest, nearest_mean, small_grey


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The accuracy of each simple classifier on validation, the best first; by which features; the seconds of each."""

    source: str
    features: str
    figures: list[Figure]
    seconds: dict[str, float]
    trained_on: int

    def to_json(self) -> dict[str, Any]:
        """Everything as plain numbers and words."""
        return {"format": 1, **asdict(self), "figures": [figure.to_json() for figure in self.figures]}

    def lines(self) -> Iterator[str]:
        """Everything for a person."""
        yield f"features: {self.features}; of {self.trained_on:,} training pictures"
        yield f"{'classifier':<14}  {'validation accuracy [95 % interval]':<37}  seconds"
        for one in self.figures:
            share = f"{100 * one.value:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}] (n = {one.n:,})"
            yield f"{one.about:<14}  {share:<37}  {self.seconds[one.about]:.2f}"
        yield f"what training has to beat: {100 * self.figures[0].value:.1f} % ({self.figures[0].about})"


def baseline(recipe: Recipe, asking: Asking) -> Iterator[Event | Baseline]:
    """Judge simple classifiers on the validation part; the last event is the Baseline. The test part stays sealed.

    The features are those of the pretrained network of the recipe's weights, or of one that torch has fetched before;
    without any, the grey values of a small copy of each picture. Raises TellapartError.
    """
    refuse_marks(recipe.data.several, "A baseline")
    recipe, origins, said = _with_features(recipe, asking)
    yield from (Said(stage=-1, text=line) for line in said)
    settled, device = accepted(recipe, replace(asking, origins=origins))
    prepared = yield from pictures_of(settled, None, asking)
    pictures, weights = prepared.pictures, settled.recipe.model.weights
    if weights:
        name, body = frozen(given(Path(weights), settled.recipe.model.name))
        body, words = body.to(device), f"of {name}, {Path(weights).name}"
    else:
        side = min(SIDE, pictures.preprocess.size)
        body, words = (
            small_grey,
            f"the grey values of a copy of {side} x {side} pixels: no pretrained weights are here",
        )
    pictures = to_judge(pictures, asking.asked)
    known, asked = (
        features(pictures, pictures.index.rows("train"), body, device, asking.progress),
        features(pictures, pictures.index.rows("validation"), body, device, asking.progress),
    )
    if weights:
        words = f"{known.shape[1]:,} numbers a picture, {words}"
    yield judged(pictures, known, asked, source=settled.recipe.data.source, words=words)


def _with_features(recipe: Recipe, asking: Asking) -> tuple[Recipe, dict[str, str], tuple[str, ...]]:
    """The recipe with the weights that torch has fetched before, where none are named; and what is said of it."""
    if recipe.model.weights:
        return recipe, dict(asking.origins), ()
    index = selected(recipe, lambda source: opened_or_fetched(source, recipe, asking.fetching))
    found, said = at_hand(len(index))
    if found is None:
        return recipe, dict(asking.origins), said
    values = {"model.weights": str(found.path), "model.name": found.name}
    return recipe.replaced(values), {**asking.origins, **dict.fromkeys(values, "at hand")}, said


def judged(pictures: Pictures, known: Tensor, asked: Tensor, *, source: str, words: str) -> Baseline:
    """Every classifier, fitted to the features of the training part and judged by those of validation (N F)."""
    index = pictures.index
    rows, labels = index.rows("train"), torch.from_numpy(index.labels[index.rows("train")])
    truth = torch.from_numpy(index.labels[index.rows("validation")])
    groups = None if index.groups is None else index.groups[rows]
    together = None if index.groups is None else index.groups[index.rows("validation")]
    ways: dict[str, Callable[[], Tensor]] = {
        "majority": lambda: labels.bincount().argmax().expand(len(asked)),
        "nearest mean": partial(nearest_mean, known, labels, asked, classes=len(index.classes)),
        f"{NEIGHBOURS} nearest": partial(nearest, known, labels, asked, classes=len(index.classes)),
        "linear probe": lambda: linear(known, labels, asked, groups, classes=len(index.classes)),
    }
    figures, seconds = [], {}
    for name, guess in ways.items():
        began = time.monotonic()
        figures.append(share("accuracy", (guess() == truth).numpy(), "validation", name, groups=together))
        seconds[name] = round(time.monotonic() - began, 4)
    figures.sort(key=lambda one: -one.value)
    return Baseline(source=source, features=words, figures=figures, seconds=seconds, trained_on=len(rows))


def linear(known: Tensor, labels: Tensor, asked: Tensor, groups: NDArray[np.int64] | None, *, classes: int) -> Tensor:
    """The class (N) by logistic regression, its penalty chosen by cross-validation on the known rows; see
    `training/probe.py`.
    """
    folds = torch.zeros(len(labels), dtype=torch.int64)
    for label in labels.unique():
        own = (labels == label).nonzero().squeeze(1)
        folds[own] = torch.arange(len(own)) % FOLDS
    folds = folds if groups is None else torch.from_numpy(groups % FOLDS)
    found = probed(known, labels, folds, classes=classes)
    return (asked @ found.weight.T + found.bias).argmax(1)
