"""Golden samples: chosen when a model is made, replayed wherever it is used. What differs is named by its stage."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from tellapart.data.augment import network_input
from tellapart.data.decode import decode
from tellapart.data.index import Index
from tellapart.data.square import fitted
from tellapart.errors import DataError
from tellapart.evaluation.metrics import softmax
from tellapart.evaluation.predict import calibrated
from tellapart.evaluation.predictions import Predictions
from tellapart.figures.inert import in_line
from tellapart.models.bundle import Bundle
from tellapart.models.golden import Golden

SIDE = 256
"""The longest side of a sample, in pixels."""

TOLERANCE = 1e-4
"""How far a probability may be off: other processors and libraries add up in another order."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One golden sample on this machine: whether pixels and square have the same bits, and how far the largest
    probability is off. `said` is the class this machine says, `expected` the one that was said.
    """

    name: str
    said: str
    expected: str
    pixels: bool
    square: bool
    off: float

    @property
    def sound(self) -> bool:
        """The same class, and probabilities within the tolerance."""
        return self.said == self.expected and self.off <= TOLERANCE

    def words(self) -> str:
        """What differs first: decoding, preprocessing, or the network."""
        if self.sound:
            return f"the same: {in_line(self.said)}, probabilities within {self.off:.1e}"
        stage = "the network computes otherwise" if self.off > TOLERANCE else "the names of the classes are others"
        stage = stage if self.square else "the square made of it is another: resizing or colour differ"
        stage = stage if self.pixels else "its decoded pixels are others: the decoder differs"
        return f"{in_line(self.said)} instead of {in_line(self.expected)}, probabilities off by {self.off:.2g}; {stage}"


def replayed(bundle: Bundle, *, device: torch.device) -> list[Replay]:
    """Every golden sample of a model, on this machine."""
    model = bundle.module(device)
    return [_replay(bundle, model, golden, device) for golden in bundle.goldens]


def _replay(bundle: Bundle, model: nn.Module, golden: Golden, device: torch.device) -> Replay:
    expected = golden.said or _answer(bundle, golden.shares)
    try:
        now = made(bundle, model, golden.file, golden.name, device)
    except DataError as error:
        return Replay(name=golden.name, said=error.message, expected=expected, pixels=False, square=False, off=1.0)
    return Replay(
        name=golden.name,
        said=now.said,
        expected=expected,
        pixels=now.pixels == golden.pixels,
        square=now.square == golden.square,
        off=float(np.abs(np.subtract(now.shares, golden.shares)).max()),
    )


def _answer(bundle: Bundle, shares: Sequence[float]) -> str:
    """The likeliest class; where a picture may have several, all that reach their threshold."""
    if not bundle.thresholds:
        return bundle.classes[int(np.argmax(shares))]
    every = zip(bundle.classes, shares, bundle.thresholds, strict=True)
    return " and ".join(name for name, share, least in every if share >= least) or "none of the classes"


def made(bundle: Bundle, model: nn.Module, file: bytes, name: str, device: torch.device) -> Golden:
    """What comes out for the bytes of a picture file, here. Raises DataError for what is no picture."""
    pixels = decode(file)
    square = fitted(pixels, bundle.preprocess)
    with torch.inference_mode():
        logits = model(network_input(torch.tensor(square)[None].to(device), bundle.preprocess)).float().cpu().numpy()
    shares = tuple(calibrated(bundle, logits.astype(np.float64))[0].tolist())
    hashes, said = {"pixels": _hash(pixels), "square": _hash(square)}, _answer(bundle, shares)
    return Golden(name=name, file=file, shares=shares, said=said, **hashes)


def _hash(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def chosen(
    bundle: Bundle,
    model: nn.Module,
    index: Index,
    rows: NDArray[np.int64],
    validation: Predictions,
    *,
    device: torch.device,
    count: int,
) -> tuple[Golden, ...]:
    """The surest right answers of up to `count` classes, evenly spaced, among the pictures at `rows` of validation;
    made small, so that they travel with the model. `model` is that of the bundle.
    """
    picked = _picked(validation, count, bundle.thresholds)
    small = ((_small(decode(index.store.read(int(rows[n])))), name) for n, name in picked)
    return tuple(made(bundle, model, file, name, device) for file, name in small)


def _picked(validation: Predictions, count: int, thresholds: Sequence[float]) -> Iterator[tuple[int, str]]:
    """(row among validation, class) of each sample. A picture of several classes stands for the rarest of them."""
    marks = validation.marks
    if marks is None:
        said, sure = validation.logits.argmax(1), softmax(validation.logits).max(1)
        sure = np.where(said == validation.labels, sure, -1.0)
    else:  # right for every class, and the surer the farther the nearest of them is from its threshold
        least = np.clip(thresholds, 1e-6, 1 - 1e-6)
        away = validation.logits - np.log(least / (1 - least))
        sure = np.where(((away > 0) == marks).all(1), np.abs(away).min(1), -1.0)
    there = [k for k in range(len(validation.classes)) if sure[validation.labels == k].max(initial=-1.0) > 0]
    for k in np.unique(np.linspace(0, len(there) - 1, count).round().astype(int)).tolist() if there else ():
        own = np.flatnonzero(validation.labels == there[k])
        yield int(own[sure[own].argmax()]), validation.classes[there[k]]


def _small(pixels: NDArray[np.uint8]) -> bytes:
    """The picture with no side above SIDE, as a PNG file."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
