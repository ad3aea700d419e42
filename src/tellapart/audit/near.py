"""Near duplicates: the same picture recompressed, resized or mirrored, told from pictures that only look alike.

Two small grey copies are compared in their 63 lowest frequencies (2-D DCT, without the mean). Recompressing leaves an
error there of a few grey levels whatever the picture, while pictures that only look alike differ in proportion to
their contrast; so a pair counts when its error e is below half the square root of its contrast c, both in levels (rms).
Measured by scripts/prove/duplicates.py. The mean brightness bounds the search: only neighbours in its order are met.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.audit.facts import SIDE

LOW = 8
BRIGHTER, COLOURED = 5.0, 12.0
"""Levels by which the mean brightness, and the mean of a channel, of a copy may differ."""
LIMIT, BAND = 0.5, 1.2
"""The largest e / sqrt(c) of a pair, and how much further is looked to see whether look-alikes come close."""
LOOSE = 0.17
"""Share of the contrast by which a pair may differ before a difference in size is taken out."""
SMALL = 64
"""A shorter side below this loses low frequencies when it is resized."""
MOST = 1_000_000
"""No more pairs than this are looked for; so many are one finding, not a million."""
FLAT = 1.0
"""Contrast in levels below which a picture is even, and like any other even one."""
KERNELS = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)
"""How a copy may have been made smaller; the kinder one counts."""
FOLDS = 5
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
BLOCK = 2048

Pairs = NDArray[np.int64]


def spectrum(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 64): the lowest frequencies of the grey copies, the mean set to 0, scaled so that norms are rms levels."""
    k = np.arange(SIDE)
    basis = np.cos(np.pi * (2 * k[None] + 1) * k[:LOW, None] / (2 * SIDE)) * np.sqrt(2 / SIDE)
    basis[0] /= np.sqrt(2)
    waves = (basis / np.sqrt(SIDE)).astype(np.float32)
    blocks = [waves @ (thumbs[at : at + BLOCK] @ LUMA) @ waves.T for at in range(0, len(thumbs), BLOCK)]
    found = np.concatenate([*blocks, np.empty((0, LOW, LOW), np.float32)]).reshape(-1, LOW * LOW)
    found[:, 0] = 0
    return found


def near_pairs(thumbs: NDArray[np.uint8], sizes: NDArray[np.int64], *, mirrored: bool) -> Pairs:
    """(P, 2): rows that show one picture; with `mirrored`, one of the two is turned left to right.

    thumbs: (N, 32, 32, 3); sizes: (N, 2), height and width of the pictures themselves.
    """
    loose = LOOSE if sizes.min(initial=SMALL) < SMALL and (sizes != sizes[:1]).any() else 0.0
    found, errors = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for pairs in _candidates(thumbs, loose, mirrored=mirrored):
        error = _errors(thumbs, sizes, pairs, mirrored=mirrored)
        close = error < BAND * LIMIT
        found.append(pairs[close])
        errors.append(error[close])
        if sum(map(len, found)) > MOST:
            break
    every = np.concatenate(errors)
    return np.concatenate(found)[every < _limit(every)]


def _limit(errors: NDArray[np.float64]) -> float:
    """LIMIT, or less where pairs that only look alike reach below it: their number grows steeply with the error.

    Copies are as many as pairs with a somewhat larger error, or more; look-alikes are far fewer.
    """
    limit = LIMIT
    while limit > 0.1 and (errors < limit).sum() < ((errors >= limit) & (errors < BAND * limit)).sum():
        limit -= 0.025
    return limit


def _candidates(thumbs: NDArray[np.uint8], loose: float, *, mirrored: bool) -> Iterator[Pairs]:
    """Pairs of like brightness whose spectra are near, block by block."""
    waves, bright = spectrum(thumbs), (thumbs.mean(axis=(1, 2)) @ LUMA).astype(np.float64)
    contrast = np.linalg.norm(waves, axis=1)
    waves /= np.maximum(contrast, FLAT)[:, None]
    other = waves * np.tile((-1.0) ** np.arange(LOW), LOW).astype(np.float32) if mirrored else waves
    # from e² < max(loose² c², (BAND LIMIT)² c) and e² = 2 c² (1 - cosine) for pictures of one contrast c
    least = 1 - np.maximum(loose**2 / 2, (BAND * LIMIT) ** 2 / (2 * np.maximum(contrast, FLAT))).astype(np.float32)
    order = np.argsort(bright, kind="stable")
    order = order[contrast[order] > FLAT]
    ends = np.searchsorted(bright[order], bright[order] + BRIGHTER, side="right")
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        against = order[start : ends[min(start + BLOCK, len(order)) - 1]]
        first, second = np.nonzero(waves[rows] @ other[against].T > least[rows, None])
        later = second > first
        yield np.stack([rows[first[later]], against[second[later]]], axis=1)


def _errors(
    thumbs: NDArray[np.uint8], sizes: NDArray[np.int64], pairs: Pairs, *, mirrored: bool
) -> NDArray[np.float64]:
    """(P): e / sqrt(c) of each candidate, by a second and finer look; infinite where the colours differ."""
    first, second = thumbs[pairs[:, 0]], thumbs[pairs[:, 1]]
    second = second[:, :, ::-1] if mirrored else second
    colour = np.abs(first.mean(axis=(1, 2)) - second.mean(axis=(1, 2))).max(axis=1) < COLOURED
    short = sizes.min(axis=1)[pairs]
    resized = np.flatnonzero(
        (short.min(axis=1) < SMALL) & (sizes[pairs[:, 0]] != sizes[pairs[:, 1]]).any(axis=1) & colour
    )
    errors = _error(first, second)
    for kernel in KERNELS if len(resized) else ():
        alike = np.stack([first[resized], second[resized]], axis=1)
        for n, at in enumerate(resized):
            larger = int(short[at, 1] > short[at, 0])
            height, width = sizes[pairs[at, 1 - larger]].tolist()
            alike[n, larger] = _as_small(alike[n, larger], height, width, kernel)
        errors[resized] = np.minimum(errors[resized], _error(alike[:, 0], alike[:, 1]))
    return np.where(colour, errors, np.inf)


def _error(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(P): e / sqrt(c) of small copies (P, 32, 32, 3)."""
    a, b = spectrum(first), spectrum(second)
    contrast = np.sqrt(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return np.linalg.norm(a - b, axis=1).astype(np.float64) / np.sqrt(np.maximum(contrast, FLAT))


def _as_small(thumb: NDArray[np.uint8], height: int, width: int, kernel: Image.Resampling) -> NDArray[np.uint8]:
    """A small copy as it would be had its picture been `height` x `width` before."""
    image = Image.fromarray(thumb).resize((min(width, SIDE), min(height, SIDE)), kernel)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def components(count: int, pairs: Pairs) -> NDArray[np.int64]:
    """(count): the smallest row that each row is joined with through pairs."""
    above = np.arange(count)
    while len(pairs):
        low, high = above[pairs].min(axis=1), above[pairs].max(axis=1)
        if (low == high).all():
            break
        np.minimum.at(above, high, low)
        above = above[above]
    while (above != above[above]).any():
        above = above[above]
    return above


def folds_of(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n): a fold from 0 to FOLDS - 1 for each row; all rows of a unit are in one."""
    names, unit = np.unique(units, return_inverse=True)
    return np.random.default_rng(0).permutation(len(names))[unit] % FOLDS
