"""Data in words: a summary, one picture, one batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.data.decode import decode
from tellapart.data.index import Index
from tellapart.figures.inert import in_line
from tellapart.figures.letters import apart
from tellapart.recipe import Recipe, printable
from tellapart.workflow.data import Summary


def summary_lines(summed: Summary) -> Iterator[str]:
    """Counts per class and part as a table."""
    yield f"{summed.name}: {summed.total:,} pictures of {len(summed.classes)} classes"
    yield from (f"  {line}" for line in summed.said)
    yield from (f"  left out: {line}" for line in summed.ignored)
    names = apart(summed.classes, in_line)
    width = max(len("class"), *map(len, names))
    yield f"{'id':>4}  {'class':<{width}}  " + "  ".join(f"{part:>10}" for part in summed.parts)
    for k, name in enumerate(names):
        yield f"{k:>4}  {name:<{width}}  " + "  ".join(f"{counts[k]:>10,}" for counts in summed.parts.values())
    every = [summed.pictures.get(part, sum(counts)) for part, counts in summed.parts.items()]
    yield f"{'':>4}  {'all':<{width}}  " + "  ".join(f"{count:>10,}" for count in every)


def key_lines(index: Index) -> Iterator[str]:
    """Every key with its class, as they can be printed."""
    return (f"{printable(key)}\t{printable(index.called(row))}" for row, key in enumerate(index.keys))


def about_one(index: Index, row: int, number: int) -> str:
    """One picture: its place, its size, its class by number and by name."""
    pixels = decode(index.store.read(row))
    height, width, channels = pixels.shape
    called = in_line(index.called(row))
    own = f"class {int(index.labels[row])} {called}" if index.marks is None else f"has {called}"
    return (
        f"picture {number}: {index.keys[row]}, {width} x {height} {'grey' if channels == 1 else 'RGB'}, "
        f"values {pixels.min()} to {pixels.max()}, {own}"
    )


def exported(pictures: list[tuple[np.ndarray, str]], path: Path) -> str:
    """Write the pictures as one array (N H W C), and say so. Raises UsageError when their sizes differ."""
    import io

    from tellapart.errors import UsageError
    from tellapart.files import write_result

    shapes = {pixels.shape for pixels, _ in pictures}
    if len(shapes) != 1:
        raise UsageError(
            f"Pictures of {len(shapes)} different shapes do not fit into one array.", "Choose a --part or a class."
        )
    out = io.BytesIO()
    np.save(out, np.stack([pixels for pixels, _ in pictures]))
    write_result(path, out.getvalue())
    return f"{len(pictures)} pictures exported: {path.absolute()}"


def _tensor(tensor: Any) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def batch_lines(recipe: Recipe) -> Iterator[str]:
    """The first training batch of a recipe, described."""
    import torch

    from tellapart.data.augment import network_input
    from tellapart.data.loader import Loader
    from tellapart.workflow.prepare import prepare
    from tellapart.workflow.settle import Settled

    pictures = prepare(Settled(recipe, {})).pictures
    loader = Loader(
        pictures=pictures,
        rows=pictures.index.rows("train"),
        batch_size=recipe.train.batch_size,
        seed=recipe.data.split_seed,
        device=torch.device("cpu"),
    )
    first = next(loader.epoch(0))
    images = network_input(first.images, pictures.preprocess)
    sizes = loader.sizes()
    names = ", ".join(pictures.index.called(row) for row in first.rows[:8].tolist())
    yield f"as stored   {_tensor(first.images)}, values {int(first.images.min())} to {int(first.images.max())}"
    yield f"as input    {_tensor(images)}, values {float(images.min()):.3f} to {float(images.max()):.3f}"
    yield f"labels      {_tensor(first.labels)}: {names}, …"
    yield f"an epoch    {len(sizes)} batches, the last of {sizes[-1]}, {sum(sizes):,} training pictures"
