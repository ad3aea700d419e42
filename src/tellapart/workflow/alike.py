"""What the training pictures nearest to others say of them, beside a verdict; those of some mistakes are stored."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tellapart.data.augment import network_input
from tellapart.data.pictures import Pictures
from tellapart.data.seal import SealBroken
from tellapart.errors import TellapartError
from tellapart.evaluation.alikes import Alike, Alikes
from tellapart.evaluation.looks import digest
from tellapart.evaluation.metrics import Figure, share
from tellapart.evaluation.neighbours import FEATURES, Neighbour, last_layer
from tellapart.evaluation.neighbours import nearest as nearest_to
from tellapart.evaluation.predict import thumbnails
from tellapart.evaluation.predictions import Predictions
from tellapart.models.bundle import Bundle
from tellapart.models.frozen import head_of
from tellapart.models.pretrained import given
from tellapart.names import BODY
from tellapart.run import Run
from tellapart.training.fit import Asked
from tellapart.workflow.begin import recipe_of
from tellapart.workflow.heat import shown
from tellapart.workflow.looking import Eye
from tellapart.workflow.models import network_of
from tellapart.workflow.nearest import features_of, known_features
from tellapart.workflow.stoppable import heeding
from tellapart.workflow.trivial import ASKED, BY_FEATURES, KNOWN, NEIGHBOURS, nearest, streamed

BY_OWN = f"the {NEIGHBOURS} nearest by its own features"
"""What is said of asking the nearest pictures in the eyes of the network that is judged."""
FEW, PART, LARGEST = 25_000_000, 4, 50_000_000
"""Training pictures that are compared, at most KNOWN: so many that they have FEW pixels, 500 of 224 x 224, or one for
every PART that training took a step by, where that is more: a pass forward is a third of a step. No more than have
LARGEST features.
"""


def keep_alike(
    run: Run,
    bundle: Bundle,
    model: nn.Module,
    pictures: Pictures,
    said: Predictions,
    device: torch.device,
    *,
    told: Collection[str] = (),
    asked: Asked = lambda: None,
) -> list[Figure]:
    """Store the training pictures nearest to some mistakes among predictions, in the eyes of `model`, that of the
    bundle; and give how often the vote of the nearest is right: by its features, and by those that training began with,
    but for what is `told` already.

    Nothing where a picture may have several classes, where pictures are decoded anew each time, and for a network that
    has no last layer or refuses. Raises the ending that `asked` returns.
    """
    if said.marks is not None or streamed(pictures.pixels):
        return []

    eye = Eye(bundle=bundle, model=model, device=device, progress=heeding(asked))
    try:
        return _kept(run, eye, pictures, said, told)
    except (TellapartError, SealBroken):
        raise
    except Exception:  # a network of someone's own may refuse in any way; its training is not lost by that
        return []


def _kept(run: Run, eye: Eye, pictures: Pictures, said: Predictions, told: Collection[str]) -> list[Figure]:
    first = pictures.index.rows(said.part)[:1]
    head = last_layer(eye.model, _input(eye, pictures, first))
    if not head or all(name.startswith(f"{head}.") for name, _ in eye.model.named_parameters()):
        return []  # what is before the head has learned nothing
    untouched = _untouched(run)
    rows = _compared(run, pictures, features_of(eye, head, pictures, first).size, untouched)
    if len(rows) < NEIGHBOURS:
        return []
    own = known_features(eye, head, pictures, rows, keep=False)
    _store(run, eye, pictures, said, _Known(head, rows, own))
    begun = None if untouched else _begun(run, eye, pictures)
    same = untouched or (begun is not None and _same_body(begun.model, eye.model))
    asking = {BY_FEATURES if same else BY_OWN: eye} | ({} if begun is None or same else {BY_FEATURES: begun})
    found = []
    for about in asking.keys() - told:
        known = own if asking[about] is eye else known_features(asking[about], head, pictures, rows, keep=False)
        found.append(_vote(asking[about], pictures, said, _Known(head, rows, known), about))
    return sorted(filter(None, found), key=lambda one: one.about)


@dataclass(frozen=True)
class _Known:
    """What the layer at `head` is given for training rows (M): features (M F)."""

    head: str
    rows: NDArray[np.int64]
    features: FEATURES


def _input(eye: Eye, pictures: Pictures, rows: NDArray[np.int64]) -> torch.Tensor:
    return network_input(torch.from_numpy(pictures.pixels.gather(rows)).to(eye.device), pictures.preprocess)


def _untouched(run: Run) -> bool:
    """Whether the body of the best model is that of the pretrained weights: the fitted head was the best, or all but
    the head stayed as it was.
    """
    model, best = recipe_of(run).model, run.status().get("best") or {}
    return bool(model.weights) and (best.get("step") == 0 or model.freeze == BODY)


def _compared(run: Run, pictures: Pictures, width: int, untouched: bool) -> NDArray[np.int64]:
    """The training rows that are compared with, by `width` features each: as many as FEW, PART and LARGEST say; where
    the head was fitted to all of them, as many as KNOWN.
    """
    rows = pictures.index.rows("train")
    trained = run.status().get("step", 0) * (recipe_of(run).train.batch_size or 1)
    most = KNOWN if untouched else min(KNOWN, max(FEW // pictures.preprocess.size**2, trained // PART))
    return rows[:: -(-len(rows) // max(1, min(most, LARGEST // width)))]


def _begun(run: Run, eye: Eye, pictures: Pictures) -> Eye | None:
    """The pretrained network that training began with; None where there was none, or its file is gone or another."""
    recipe, told = recipe_of(run), run.status().get("weights")
    try:
        if not told or given(Path(recipe.model.weights), "").digest != told["sha256"]:
            return None
        model = network_of(recipe, len(pictures.index.classes))
    except TellapartError:
        return None
    return replace(eye, model=model.to(eye.device).eval())


def _same_body(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks differ in their heads at most."""
    head, mine, theirs = head_of(one), one.state_dict(), other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in mine.items() if not key.startswith(f"{head}."))


def _vote(eye: Eye, pictures: Pictures, said: Predictions, known: _Known, about: str) -> Figure | None:
    """How often the vote of the nearest is right; None where features are no numbers."""
    rows = np.arange(len(said))[:: -(-len(said) // ASKED)]
    mine = features_of(eye, known.head, pictures, pictures.index.rows(said.part)[rows])
    if not (np.isfinite(known.features).all() and np.isfinite(mine).all()):
        return None
    labels, before = torch.from_numpy(pictures.index.labels[known.rows]), torch.from_numpy(known.features)
    answers = nearest(before, labels, torch.from_numpy(mine), classes=len(said.classes)).numpy()
    groups = None if said.groups is None else said.groups[rows]
    some = f" of {len(known.rows):,}" * (len(known.rows) < len(pictures.index.rows("train")))
    words = about.replace(" nearest", f" nearest{some}")
    return share("accuracy", answers == said.labels[rows], said.part, words, groups=groups)


def _store(run: Run, eye: Eye, pictures: Pictures, said: Predictions, known: _Known) -> None:
    """Store what is nearest to some mistakes."""
    wrong, index = shown(said), pictures.index
    mine = features_of(eye, known.head, pictures, index.rows(said.part)[wrong]) if wrong else []
    near = [(row, one) for row, own in zip(wrong, mine, strict=True) for one in _nearest(own, known)]
    small = thumbnails(pictures, np.array([one.row for _, one in near], np.int64))
    each = [
        Alike(row=row, key=index.keys[one.row], name=index.called(one.row), distance=one.distance, small=copy)
        for (row, one), copy in zip(near, small, strict=True)
    ]
    train = len(index.rows("train"))
    alikes = Alikes(of=digest(said), layer=known.head, compared=len(known.rows), train=train, each=each)
    alikes.save(run.nearest(said.part))


def _nearest(own: FEATURES, known: _Known) -> list[Neighbour]:
    return nearest_to(own, known.features, known.rows, NEIGHBOURS)
