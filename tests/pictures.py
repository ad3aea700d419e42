"""Tiny folders of real pictures that a network can learn: shared by tests that need files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def make_folder(
    root: Path,
    *,
    classes: Sequence[str] = ("cat", "dog", "fox"),
    per_class: int = 12,
    parts: Sequence[str] = (),
    size: int = 12,
) -> Path:
    """Write `root/class/00.png` …, or `root/part/class/00.png` … with `per_class` pictures in each; gives `root`.

    No two pictures are equal, and the same call writes the same pixels.
    """
    for p, part in enumerate(parts or ("",)):
        for k, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for n in range(per_class):
                Image.fromarray(draw(k, len(classes), (p, k, n), size)).save(folder / f"{n:02d}.png")
    return root


def draw(k: int, num_classes: int, seed: tuple[int, ...], size: int) -> np.ndarray:
    """(S S 3) uint8: dark noise with a bright bar across it, whose height tells class `k`."""
    pixels = np.random.default_rng(seed).integers(0, 60, (size, size, 3), np.uint8)
    top = k * size // num_classes
    pixels[top : top + max(1, size // num_classes)] += 180
    return pixels
