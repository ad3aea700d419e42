"""The files of TensorBoard's projector: points of many dimensions with their names and small pictures."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.figures.grid import save_picture
from tellapart.files import write_atomically
from tellapart.recipe import printable

CONFIG = """embeddings {{ tensor_name: "{name}" tensor_path: "features.tsv" metadata_path: "names.tsv"
  sprite {{ image_path: "thumbnails.png" single_image_dim: {side} single_image_dim: {side} }} }}
"""


def write_projector(
    folder: Path,
    points: NDArray[np.float32],
    names: Sequence[tuple[str, str]],
    thumbnails: NDArray[np.uint8],
    *,
    name: str,
) -> None:
    """Points (N F) with class and key of each, and thumbnails (N T T C), into the folder of a run's board."""
    rows = ("\t".join(f"{value:.6g}" for value in point) for point in points.tolist())
    write_atomically(folder / "features.tsv", "".join(f"{row}\n" for row in rows))
    lines = [("class", "picture"), *names]
    write_atomically(folder / "names.tsv", "".join(f"{printable(a)}\t{printable(b)}\n" for a, b in lines))
    save_picture(_sprite(thumbnails), folder / "thumbnails.png")
    write_atomically(folder / "projector_config.pbtxt", CONFIG.format(name=name, side=thumbnails.shape[1]))


def _sprite(thumbnails: NDArray[np.uint8]) -> Image.Image:
    """A square of thumbnails, row by row: as many rows as columns, which is how the projector counts."""
    number, side, _, channels = thumbnails.shape
    across = math.ceil(math.sqrt(number))
    tiles = np.zeros((across * across, side, side, channels), np.uint8)
    tiles[:number] = thumbnails
    sheet = tiles.reshape(across, across, side, side, channels).swapaxes(1, 2).reshape(across * side, -1, channels)
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)
