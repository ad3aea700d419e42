"""Near duplicates: the same picture recompressed, resized, mirrored or made grey, told from ones that only look alike.

Two small grey copies are compared by 2-D DCT. The 63 lowest frequencies find the candidates; then those between the
radii of RING decide: there recompressing leaves an error of a few grey levels whatever the picture, while pictures that
only look alike differ most there, and in proportion to their contrast. So a pair counts when its error e is below LIMIT
times the square root of its contrast c, both in levels (rms). Measured by scripts/prove/duplicates.py on 70,000 digits.
The mean brightness bounds the search: only neighbours in its order are met.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.audit.facts import SIDE

LOW = 8
RING = 2.5, 14.0
"""Lower ones hold what clipping and rounding shift, higher ones what a smaller copy has lost."""
BRIGHTER, COLOURED = 5.0, 12.0
"""Levels by which the mean brightness, and the mean of a channel, of a copy may differ."""
LIMIT, BAND = 0.65, 1.2
"""The largest e / sqrt(c) of a pair, and how much further is looked to see whether look-alikes come close."""
LOOSE = 0.21
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
Grey = NDArray[np.float32]


def spectrum(thumbs: NDArray[np.uint8]) -> Grey:
    """(N, 64): the lowest frequencies of the grey copies, the mean set to 0, scaled so that norms are rms levels."""
    blocks = [_waves(thumbs[at : at + BLOCK] @ LUMA, LOW) for at in range(0, len(thumbs), BLOCK)]
    found = np.concatenate([*blocks, np.empty((0, LOW, LOW), np.float32)]).reshape(-1, LOW * LOW)
    found[:, 0] = 0
    return found


def _waves(grey: Grey, count: int) -> Grey:
    """(N, count, count): the lowest frequencies of grey copies (N, 32, 32)."""
    k = np.arange(SIDE)
    basis = np.cos(np.pi * (2 * k[None] + 1) * k[:count, None] / (2 * SIDE)) * np.sqrt(2) / SIDE
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32) @ grey @ basis.astype(np.float32).T


def near_pairs(thumbs: NDArray[np.uint8], sizes: NDArray[np.int64], *, mirrored: bool) -> Pairs:
    """(P, 2): rows that show one picture; with `mirrored`, one of the two is turned left to right.

    thumbs: (N, 32, 32, 3); sizes: (N, 2), height and width of the pictures themselves.
    """
    loose = LOOSE if sizes.min(initial=SMALL) < SMALL and (sizes != sizes[:1]).any() else 0.0
    found, errors = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    for pairs in _candidates(thumbs, sizes, loose, mirrored=mirrored):
        error = _errors(thumbs, sizes, pairs, mirrored=mirrored)
        close = error < BAND * LIMIT
        found.append(pairs[close])
        errors.append(error[close])
        if sum(map(len, found)) > MOST:
            break
    every = np.concatenate(errors)
    return np.concatenate(found)[every < _limit(every)]


def _limit(errors: Grey) -> float:
    """LIMIT, or less where pairs that only look alike reach below it: their number grows steeply with the error.

    Copies are as many as pairs with a somewhat larger error, or more; look-alikes are far fewer.
    """
    limit = LIMIT
    while limit > 0.1 and (errors < limit).sum() < ((errors >= limit) & (errors < BAND * limit)).sum():
        limit -= 0.025
    return limit


def _candidates(
    thumbs: NDArray[np.uint8], sizes: NDArray[np.int64], loose: float, *, mirrored: bool
) -> Iterator[Pairs]:
    """Pairs of like brightness whose spectra are near, at most 4 BLOCK at a time."""
    waves, bright = spectrum(thumbs), (thumbs.mean(axis=(1, 2)) @ LUMA).astype(np.float64)
    contrast = np.linalg.norm(waves, axis=1)
    waves /= np.maximum(contrast, FLAT)[:, None]
    other = waves * np.tile((-1.0) ** np.arange(LOW), LOW).astype(np.float32) if mirrored else waves
    # from e² < max(loose² c², (BAND LIMIT)² c) and e² = 2 c² (1 - cosine) for pictures of one contrast c
    least = (1 - (BAND * LIMIT) ** 2 / (2 * np.maximum(contrast, FLAT))).astype(np.float32)
    order = np.argsort(bright, kind="stable")
    order = order[contrast[order] > FLAT]
    ends = np.searchsorted(bright[order], bright[order] + BRIGHTER, side="right")
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        against = order[start : ends[min(start + BLOCK, len(order)) - 1]]
        cosine = waves[rows] @ other[against].T
        first, second = np.nonzero(cosine > np.minimum(least[rows, None], np.float32(1 - loose**2 / 2)))
        pairs = np.stack([rows[first], against[second]], axis=1)
        differ = (sizes[pairs[:, 0]] != sizes[pairs[:, 1]]).any(axis=1)
        pairs = pairs[(second > first) & (differ | (cosine[first, second] > least[pairs[:, 0]]))]
        yield from (pairs[at : at + 4 * BLOCK] for at in range(0, len(pairs), 4 * BLOCK))


def _errors(thumbs: NDArray[np.uint8], sizes: NDArray[np.int64], pairs: Pairs, *, mirrored: bool) -> Grey:
    """(P): e / sqrt(c) of each candidate, by a second and finer look; infinite where the colours differ."""
    less = sizes.min(axis=1)[pairs]
    pairs = np.where(less[:, :1] > less[:, 1:], pairs[:, ::-1], pairs)  # the smaller picture first
    means = thumbs[pairs].mean(axis=(2, 3))
    grey = (np.ptp(means, axis=2) == 0).any(axis=1)
    alike = grey | (np.abs(means[:, 0] - means[:, 1]).max(axis=1) < COLOURED)
    first, second = (thumbs[rows] @ LUMA for rows in pairs.T)
    second = second[:, :, ::-1] if mirrored else second
    errors, size = _error(first, second), sizes[pairs[:, 0]]
    resized = alike & (less.min(axis=1) < SMALL) & (size != sizes[pairs[:, 1]]).any(axis=1)
    for height, width in np.unique(size[resized], axis=0).tolist():
        rows = np.flatnonzero(resized & (size == (height, width)).all(axis=1))
        for kernel in KERNELS:
            errors[rows] = np.minimum(errors[rows], _error(first[rows], _as_small(second[rows], height, width, kernel)))
    return np.where(alike, errors, np.float32(np.inf))


def _error(first: Grey, second: Grey) -> Grey:
    """(P): e / sqrt(c) of grey copies (P, 32, 32)."""
    radius = np.hypot(*np.indices((int(RING[1]), int(RING[1]))))
    a, b = _waves(first, len(radius)), _waves(second, len(radius))
    error = np.linalg.norm((a - b)[:, (radius >= RING[0]) & (radius < RING[1])], axis=1)
    a[:, 0, 0] = b[:, 0, 0] = 0
    contrast = np.linalg.norm(a, axis=(1, 2)) * np.linalg.norm(b, axis=(1, 2))
    return error / np.maximum(contrast, FLAT**2) ** 0.25


def _as_small(grey: Grey, height: int, width: int, kernel: Image.Resampling) -> Grey:
    """Grey copies as they would be had their pictures been `height` x `width` before."""
    small = [_resizing(SIDE, min(side, SIDE), kernel) for side in (height, width)]
    back = [_resizing(len(matrix), SIDE, Image.Resampling.BILINEAR) for matrix in small]
    return back[0] @ (small[0] @ grey @ small[1].T).clip(0, 255) @ back[1].T


def _resizing(old: int, new: int, kernel: Image.Resampling) -> Grey:
    """(new, old): what resizing does along one side."""
    return np.asarray(Image.fromarray(np.eye(old, dtype=np.float32)).resize((old, new), kernel))


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
