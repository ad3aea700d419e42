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
from torch.nn.functional import adaptive_avg_pool2d, normalize, one_hot

from tellapart.data.augment import network_input
from tellapart.data.loader import Loader
from tellapart.data.pictures import Pictures
from tellapart.errors import DataError
from tellapart.evaluation.metrics import Figure, proportion
from tellapart.models.frozen import frozen
from tellapart.models.pretrained import at_hand, given
from tellapart.recipe import Recipe
from tellapart.training.probe import FOLDS, probed
from tellapart.workflow.choose import opened_or_fetched, selected
from tellapart.workflow.events import Event, Said
from tellapart.workflow.train import Asking, accepted, pictures_of

SIDE, BATCH, NEIGHBOURS, ROWS = 16, 32, 5, 1024
"""The small grey copy is SIDE x SIDE; pictures at a time; neighbours that vote; rows compared at a time."""


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
            _small_grey,
            f"the grey values of a copy of {side} x {side} pixels: no pretrained weights are here",
        )
    known, asked = (
        _features(pictures, "train", body, device, asking),
        _features(pictures, "validation", body, device, asking),
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


def _small_grey(images: Tensor) -> Tensor:
    """(B C S S) to (B F), F at most SIDE SIDE: the mean of the colours, and of each field of pixels."""
    return adaptive_avg_pool2d(images.mean(1, keepdim=True), min(SIDE, images.shape[-1])).flatten(1)


def _features(
    pictures: Pictures, part: str, body: Callable[[Tensor], Tensor], device: torch.device, asking: Asking
) -> Tensor:
    """(N F) of the pictures of a part, on the CPU."""
    rows, found = pictures.index.rows(part), []
    loader = Loader(pictures=pictures, rows=rows, batch_size=BATCH, device=device, shuffle=False)
    with torch.inference_mode():
        for batch in loader.epoch(0):
            found.append(body(network_input(batch.images, pictures.preprocess)).float().cpu())
            asking.progress(sum(map(len, found)), len(rows))
            if (ending := asking.asked()) is not None:
                raise ending
    features = torch.cat(found)
    if not features.isfinite().all():
        raise DataError("The features are not finite numbers.", "Take other weights.")
    return features


def judged(pictures: Pictures, known: Tensor, asked: Tensor, *, source: str, words: str) -> Baseline:
    """Every classifier, fitted to the features of the training part and judged by those of validation (N F)."""
    index = pictures.index
    rows, labels = index.rows("train"), torch.from_numpy(index.labels[index.rows("train")])
    truth = torch.from_numpy(index.labels[index.rows("validation")])
    groups = None if index.groups is None else index.groups[rows]
    ways: dict[str, Callable[[], Tensor]] = {
        "majority": lambda: labels.bincount().argmax().expand(len(asked)),
        "nearest mean": partial(nearest_mean, known, labels, asked, classes=len(index.classes)),
        f"{NEIGHBOURS} nearest": partial(nearest, known, labels, asked, classes=len(index.classes)),
        "linear probe": lambda: linear(known, labels, asked, groups, classes=len(index.classes)),
    }
    figures, seconds = [], {}
    for name, guess in ways.items():
        began = time.monotonic()
        hits = int((guess() == truth).sum())
        figures.append(proportion("accuracy", hits, len(truth), "validation", name))
        seconds[name] = round(time.monotonic() - began, 4)
    figures.sort(key=lambda one: -one.value)
    return Baseline(source=source, features=words, figures=figures, seconds=seconds, trained_on=len(rows))


def nearest_mean(known: Tensor, labels: Tensor, asked: Tensor, *, classes: int) -> Tensor:
    """The class (N) whose mean of the known features (M F) is nearest to each asked row (N F)."""
    shares = one_hot(labels, classes).double()
    means = (shares / shares.sum(0)).T @ known.double()
    return torch.cdist(asked.double(), means).argmin(1)


def nearest(known: Tensor, labels: Tensor, asked: Tensor, *, classes: int) -> Tensor:
    """The class (N) that most of the NEIGHBOURS known rows (M F) with the nearest direction have; of several the
    first.
    """
    towards, most = normalize(known.double()).T, min(NEIGHBOURS, len(known))
    found = [(normalize(some.double()) @ towards).topk(most).indices for some in asked.split(ROWS)]
    return one_hot(labels[torch.cat(found)], classes).sum(1).argmax(1)


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
