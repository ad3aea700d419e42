"""A model meets pictures, every row once, in order; nothing is padded and nothing is counted twice."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tellapart.data.augment import network_input
from tellapart.data.loader import Batch, Loader, sizes_of
from tellapart.data.pictures import Pictures
from tellapart.data.sources.listing import shown
from tellapart.data.square import centre
from tellapart.errors import DivergedError
from tellapart.evaluation.metrics import sigmoid, softmax
from tellapart.evaluation.predictions import Predictions
from tellapart.models.bundle import Bundle
from tellapart.models.look import still
from tellapart.preprocess import Preprocess
from tellapart.recipe import printable

THUMBNAIL = 64
BATCH, AT_ONCE = 256, 8 * 224 * 224
"""Pictures that are fetched together, and pixels that go through the network together: on a CPU 32 pictures of 224 px
take 1.3 to 1.7 times as long as in pieces of 8, and 2.7 to 4 times the memory (mobilenet_v2, resnet18, resnet50).
"""


def logits_of(model: nn.Module, batches: Iterable[Batch], preprocess: Preprocess) -> Iterator[NDArray[np.float32]]:
    """The logits (B K) of each batch, in eval mode and without a graph; each module's own mode is restored."""
    with still(model), torch.inference_mode():
        for batch in batches:
            once = AT_ONCE if batch.images.device.type == "cpu" else BATCH * AT_ONCE
            pieces = batch.images.split(max(1, once // preprocess.size**2))
            logits = [model(network_input(piece, preprocess)).float().cpu() for piece in pieces]
            yield torch.cat(logits).numpy()


def logits_of_rows(
    model: nn.Module,
    pictures: Pictures,
    rows: NDArray[np.int64],
    *,
    device: torch.device,
    read: Callable[[Iterable[Batch]], Iterable[Batch]] = iter,
) -> NDArray[np.float32]:
    """The logits (N K) of some rows, in their order, as they are: no augmentation. `read` takes up the batches."""
    loader = Loader(pictures=pictures, rows=rows, batch_size=BATCH, device=device, shuffle=False)
    return np.concatenate(list(logits_of(model, read(loader.epoch(0)), pictures.preprocess)))


def calibrated(bundle: Bundle, logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The probabilities (N K) that a model tells for its logits: by the softmax at its temperature; where a picture may
    have several classes, by the sigmoid.
    """
    return sigmoid(logits) if bundle.thresholds else softmax(logits / bundle.temperature)


def spans(n: int) -> list[slice]:
    """The batches in which n rows are judged."""
    sizes = sizes_of(n, BATCH)
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def predict_part(model: nn.Module, pictures: Pictures, part: str, *, device: torch.device) -> Predictions:
    """What the model says of every picture of one part, with keys, labels and small copies, fit to be stored.

    Raises DivergedError for an answer that is no number.
    """
    index, rows = pictures.index, pictures.index.rows(part)
    keys = tuple(index.keys[int(row)] for row in rows)
    logits = logits_of_rows(model, pictures, rows, device=device)
    refuse_not_finite(logits, keys)
    return Predictions(
        part=part,
        classes=index.classes,
        keys=keys,
        logits=logits,
        labels=index.labels[rows],
        thumbnails=thumbnails(pictures, rows),
        groups=None if index.groups is None else index.groups[rows],
        marks=index.marked(rows),
    )


def refuse_not_finite(logits: NDArray[np.float32], keys: Sequence[str]) -> None:
    """Raises DivergedError, with the first picture, for answers (N K) that are no numbers: neither right nor wrong."""
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise DivergedError(
            f"The network's answer for {printable(shown(keys[bad[0]]))} is not a finite number, as for {len(bad):,} of "
            f"{len(keys):,} pictures; such a model cannot be judged.",
            "Its weights are finite: a value inside overflows. Train with a smaller rate, or with normalisation.",
        )


def thumbnails(pictures: Pictures, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(N T T C) small copies of what the network saw, so that mistakes can be shown without the pictures."""
    size = pictures.preprocess.size
    step = -(-size // THUMBNAIL)
    squares = (pictures.pixels.gather(rows[n : n + BATCH]) for n in range(0, len(rows), BATCH))
    chunks = [centre(square, size)[:, ::step, ::step].copy() for square in squares]
    return np.concatenate(chunks) if chunks else np.zeros((0, 1, 1, pictures.preprocess.channels), np.uint8)
