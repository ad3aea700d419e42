"""Simple classifiers on features or grey pixels: what any network has to be better than."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize, one_hot

from tellapart.data.augment import network_input
from tellapart.data.loader import Loader
from tellapart.data.pictures import Pictures, PixelSource, StreamedPixels
from tellapart.errors import DataError
from tellapart.evaluation.metrics import Figure, share

SIDE, BATCH, NEIGHBOURS, ROWS = 16, 32, 5, 1024
"""The small grey copy is SIDE x SIDE; pictures at a time; neighbours that vote; rows compared at a time."""
BY_FEATURES = f"the {NEIGHBOURS} nearest by pretrained features"
"""What is said of asking the nearest pictures, where the body of a pretrained network has looked at all of them."""
KNOWN, ASKED = 20_000, 2_000
"""Pictures that are compared with, and that are compared, at most, beside a verdict."""


def small_grey(images: Tensor) -> Tensor:
    """(B C S S) to (B F), F at most SIDE SIDE: the mean of the colours, and of each field of pixels."""
    return adaptive_avg_pool2d(images.mean(1, keepdim=True), min(SIDE, images.shape[-1])).flatten(1)


def trivial(pictures: Pictures, part: str, device: torch.device) -> list[Figure]:
    """The accuracy on one part of always saying the commonest class of training, and of asking the nearest training
    pictures by their small grey copies, of some thousands; the latter only where pictures are kept decoded.
    """
    index = pictures.index
    known, asked = index.rows("train"), index.rows(part)
    commonest = int(np.bincount(index.labels[known]).argmax())
    always = f"always {index.classes[commonest]}"
    found = [share("accuracy", index.labels[asked] == commonest, part, always, groups=_of(index.groups, asked))]
    if streamed(pictures.pixels):
        return found
    known, asked = (rows[:: -(-len(rows) // most)] for rows, most in ((known, KNOWN), (asked, ASKED)))
    before, now = (features(pictures, rows, small_grey, device) for rows in (known, asked))
    said = nearest(before, torch.from_numpy(index.labels[known]), now, classes=len(index.classes)).numpy()
    words = f"the {NEIGHBOURS} nearest small grey copies"
    return [*found, share("accuracy", said == index.labels[asked], part, words, groups=_of(index.groups, asked))]


def _of(groups: NDArray[np.int64] | None, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    return None if groups is None else groups[rows]


def streamed(pixels: PixelSource) -> bool:
    """Whether pictures are decoded anew each time."""
    while not isinstance(pixels, StreamedPixels) and (inner := getattr(pixels, "inner", None)) is not None:
        pixels = inner
    return isinstance(pixels, StreamedPixels)


def features(
    pictures: Pictures,
    rows: NDArray[np.int64],
    body: Callable[[Tensor], Tensor],
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """(N F) of some pictures, on the CPU. Raises DataError where they are not finite."""
    found = []
    loader = Loader(pictures=pictures, rows=rows, batch_size=BATCH, device=device, shuffle=False)
    with torch.inference_mode():
        for batch in loader.epoch(0):
            found.append(body(network_input(batch.images, pictures.preprocess)).float().cpu())
            progress(sum(map(len, found)), len(rows))
    features = torch.cat(found)
    if not features.isfinite().all():
        raise DataError("The features are not finite numbers.", "Take other weights.")
    return features


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
