"""What the network sees: pictures beside their tensors, class by class; a chain of steps, tile by tile; one file."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tellapart.data.augment import augmenter, network_input
from tellapart.data.decode import decode
from tellapart.data.loader import Batch, Loader
from tellapart.data.per_sample import chained, per_sample
from tellapart.data.square import fitted
from tellapart.data.steps import made, parsed
from tellapart.errors import DataError, UsageError
from tellapart.preprocess import Preprocess
from tellapart.recipe import printable
from tellapart.workflow.prepare import prepare
from tellapart.workflow.settle import Settled, refuse_impossible

EPOCHS = 4
MOST = 20
"""Training tensors of each picture, and classes, on one sheet."""


class Tile(NamedTuple):
    """A picture (H W C) uint8 with its caption."""

    pixels: NDArray[np.uint8]
    caption: str


def sheet(settled: Settled) -> list[Tile]:
    """Six tiles a class: a training picture as it is, the tensor it is judged by, and those of four epochs.

    Tensors are shown back as pictures, by undoing mean and deviation. At most twenty classes, the first ones.
    """
    refuse_impossible(settled)
    prepared = prepare(settled)
    pictures, asked, index = prepared.pictures, prepared.recipe.augment, prepared.pictures.index
    train = index.rows("train")
    rows = np.array([train[index.labels[train] == k][0] for k in np.unique(index.labels[train])[:MOST]])
    seed, cpu = prepared.recipe.train.seed, torch.device("cpu")
    loader = Loader(pictures=pictures, rows=rows, batch_size=len(rows), device=cpu, seed=seed, shuffle=False)
    change = per_sample(chained(asked.steps)) if asked.steps else augmenter(asked, len(index.classes))
    batches = [next(loader.epoch(epoch)) for epoch in range(EPOCHS)]
    shown = [undone(batch, pictures.preprocess) for batch in (batches[0], *map(change, batches))]
    captions = ("as judged", *(f"epoch {epoch + 1}" for epoch in range(EPOCHS)))
    tiles = []
    for n, row in enumerate(rows.tolist()):
        tiles.append(Tile(decode(index.store.read(row)), printable(index.called(row))))
        tiles += [Tile(pixels[n], caption) for pixels, caption in zip(shown, captions, strict=True)]
    return tiles


def undone(batch: Batch, preprocess: Preprocess) -> NDArray[np.uint8]:
    """What the network is given of a batch, turned back into pictures (B S S C): mean and deviation undone."""
    tensors = network_input(batch.images, preprocess).permute(0, 2, 3, 1)
    levels = (tensors * torch.tensor(preprocess.std) + torch.tensor(preprocess.mean)) * 255
    return levels.round().clamp(0, 255).to(torch.uint8).numpy()


def walked(path: Path, text: str) -> list[tuple[str, Tile]]:
    """One picture after each step of a chain: a line with shape, type and range, and a tile. Chance has the seed 0."""
    pixels = decode(path.read_bytes())
    picture: Any = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    torch.default_generator.manual_seed(0)
    found = [_told(printable(path.name), picture)]
    for step in parsed(text):
        picture = made(step)(picture)
        found.append(_told(step.text, picture))
    return found


def _told(name: str, picture: Any) -> tuple[str, Tile]:
    values = picture.numpy() if isinstance(picture, Tensor) else np.asarray(picture)
    low, high = values.min(), values.max()
    span = f"{low:.3f} to {high:.3f}" if values.dtype.kind == "f" else f"{low} to {high}"
    shape = " x ".join(map(str, values.shape))
    planes = values.transpose(1, 2, 0) if isinstance(picture, Tensor) else values
    if values.dtype.kind == "f":  # 0 to 1, or beyond it after normalize: then black and white are the ends
        black, white = min(0.0, float(low)), max(1.0, float(high))
        planes = ((planes - black) / (white - black) * 255).round().astype(np.uint8)
    return f"{shape} {values.dtype}, {span}", Tile(planes, f"{name}\n{shape}\n{span}")


def input_of(path: Path, preprocess: Preprocess) -> Tensor:
    """A picture file as a network takes it (1 C S S). Raises UsageError for no file, DataError for no picture."""
    if not path.is_file():
        raise UsageError(f"There is no file '{printable(str(path))}'.", "Name one picture file.")
    try:
        pixels = decode(path.read_bytes())
    except (DataError, OSError) as error:
        raise DataError(f"{printable(str(path))}: {getattr(error, 'message', error)}") from error
    return network_input(torch.from_numpy(np.stack([fitted(pixels, preprocess)])), preprocess)
