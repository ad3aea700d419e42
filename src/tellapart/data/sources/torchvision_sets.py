"""`torchvision:NAME`: a data set of torchvision whose files are already there, read as torchvision reads it."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.data.catalogue import TORCHVISION_SETS
from tellapart.data.given import Pairs, from_dataset
from tellapart.data.index import NO_PART, Index
from tellapart.data.select import stacked
from tellapart.errors import DataError, UsageError, unknown
from tellapart.names import PARTS
from tellapart.recipe import printable

SPLITS = {"train": ("train", "trainval"), "validation": ("val", "valid"), "test": ("test",)}
"""What torchvision calls the parts; the first word that a set knows is taken."""


def torchvision_set(name: str, root: Path) -> Index:
    """The pictures of `torchvision.datasets.NAME` below `root`, with the parts it has. Nothing is downloaded.

    Raises UsageError for a name not in `TORCHVISION_SETS`, DataError when its files are not there or are damaged.
    """
    if name not in TORCHVISION_SETS:
        raise unknown("data set of torchvision", name, TORCHVISION_SETS)
    try:
        from torchvision import datasets
    except ModuleNotFoundError as error:
        raise UsageError("torchvision is not installed.", "python3 -m pip install torchvision") from error
    index: Index | None = None
    for part, dataset in _parts(getattr(datasets, name), name, root):
        place = np.full(len(dataset), PARTS.index(part) if part else NO_PART, np.uint8)
        more = replace(
            from_dataset(dataset, classes=getattr(dataset, "categories", ()), name=part or name), parts=place
        )
        index = more if index is None else stacked(index, more)
    if index is None:
        raise DataError(f"torchvision:{name} has no part that is known.", f"Known are: {', '.join(SPLITS)}.")
    return replace(index, name=name, said=(f"torchvision:{name}: labels and parts as torchvision reads them.",))


def _parts(make: Callable[..., Any], name: str, root: Path) -> Iterator[tuple[str, Pairs]]:
    """The parts of one set, found by the signature of its class: `train`, `split`, or no parts ('')."""
    takes = inspect.signature(make).parameters
    ways: list[tuple[str, dict[str, Any]]] = [("", {})]
    if "train" in takes:
        ways = [("train", {"train": True}), ("test", {"train": False})]
    elif "split" in takes:
        ways = [(part, {"split": word}) for part, names in SPLITS.items() for word in names]
    done = set()
    for part, asked in ways:
        if part in done:
            continue
        try:
            yield part, make(str(root), **asked)
            done.add(part)
        except ValueError:  # a split this set does not have
            continue
        except (RuntimeError, OSError, ImportError) as error:
            command = f"from torchvision.datasets import {name}; {name}({str(root)!r}, download=True)"
            raise DataError(
                f"torchvision:{name} cannot be read below {root}: {printable(str(error))}",
                f'Fetch it once: python3 -c "{command}"' if "download" in takes else "Put its files there.",
            ) from error
