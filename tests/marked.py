"""Tiny pictures that may show several things, or nothing: shared by tests of pictures with several classes each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SHAPES = ("blue disc", "green cross", "red square")
SIDE = 16


def shown(chance: np.random.Generator, marks: Sequence[bool]) -> np.ndarray:
    """(S S 3) uint8: dark noise with each shape that is marked, somewhere."""
    pixels = chance.integers(0, 40, (SIDE, SIDE, 3), np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    for k, channel in enumerate((2, 1, 0)):
        down, right = chance.integers(3, SIDE - 3, 2)
        square = abs(y - down).clip(abs(x - right)) < 3
        shape = ((y - down) ** 2 + (x - right) ** 2 <= 9, (y == down) | (x == right), square)
        if marks[k]:
            pixels[shape[k], channel] = 230
    return pixels


def make_marked(
    root: Path, n: int = 120, *, sign: str = ";", names: Sequence[str] = SHAPES, seed: int = 0
) -> tuple[Path, np.ndarray]:
    """Write `root/img/000.png` … and `root/labels.csv`; gives the table and which of `names` each picture has (n 3)."""
    chance = np.random.default_rng(seed)
    marks = chance.random((n, 3)) < (0.6, 0.4, 0.25)
    (root / "img").mkdir(parents=True)
    lines = ["path,labels"]
    for row in range(n):
        Image.fromarray(shown(chance, marks[row])).save(root / "img" / f"{row:03d}.png")
        cell = sign.join(name for name, has in zip(names, marks[row], strict=True) if has)
        lines.append(f'img/{row:03d}.png,"{cell}"')
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "labels.csv", marks
