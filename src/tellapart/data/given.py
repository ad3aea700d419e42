"""Pictures given in Python: any Dataset of (picture, label), or arrays; and the one converter to pixels."""

import operator
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.data.decode import of_image
from tellapart.data.index import NO_PART, Index, Strings, naturally
from tellapart.data.sources.listing import few
from tellapart.errors import DataError, UsageError

LAYOUTS = ("HWC", "CHW")


class Pairs(Protocol):
    """What a `torch.utils.data.Dataset` with random access is: a size, and (picture, label) by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> Any: ...


def from_dataset(
    dataset: Pairs, *, classes: Sequence[str] = (), name: str = "dataset", layout: str = "", bgr: bool = False
) -> Index:
    """The pictures of a Dataset; each item is read once here for its label, and again when pixels are needed.

    Args:
        dataset: gives (picture, label); for pictures see `picture_of`. Labels are numbers from 0, or class names.
        classes: names in the order of the numbers; without them `dataset.classes`, else the numbers themselves.
        layout: "HWC" or "CHW"; '' finds out from the shape. bgr: arrays are in OpenCV's order of colours.

    Raises DataError naming the first item that is not such a pair, and for a Dataset that gives an item another picture
    each time: tellapart augments by itself.
    """
    store, size = DatasetStore(dataset, layout, bgr), _size(dataset)
    if not size:
        raise DataError(f"The dataset '{name}' is empty, or does not say its size.", "It needs __len__ and pictures.")
    if not np.array_equal(store.read(0), store.read(0)):
        raise DataError(
            f"The dataset '{name}' gives item 0 another picture each time.",
            "Leave its random transforms out: tellapart moves and mirrors training pictures by itself.",
        )
    labels = [_label(store.item(row)[1], row) for row in range(size)]
    names = _names(labels, classes or getattr(dataset, "classes", ()))
    number = {label: k for k, label in enumerate(names)}
    if unknown := [label for label in labels if label not in number]:
        raise DataError(
            f"The dataset '{name}' has the label {unknown[0]!r}, and {len(names)} classes are named.",
            "Give classes= with a name for every label.",
        )
    if len(names) < 2 or len(set(names.values())) < len(names):
        raise DataError(
            f"The dataset '{name}' has the classes {few(list(names.values()), 8)}.",
            "Telling apart needs two or more, of different names.",
        )
    width = len(str(size - 1))
    return Index(
        name=name,
        classes=tuple(names.values()),
        keys=Strings.of(f"{name}/{row:0{width}d}" for row in range(size)),
        labels=np.array([number[label] for label in labels], np.int64),
        parts=np.full(size, NO_PART, np.uint8),
        store=store,
        said=(f"Labels: as the dataset '{name}' gives them.",),
    )


def from_arrays(
    pixels: Sequence[Any] | NDArray[Any],
    labels: Sequence[Any] | NDArray[Any],
    *,
    classes: Sequence[str] = (),
    name: str = "arrays",
    layout: str = "HWC",
    bgr: bool = False,
) -> Index:
    """The pictures of an array (N H W C), (N C H W) or (N H W), or a list of arrays, with one label each."""
    if len(pixels) != len(labels):
        raise DataError(f"There are {len(pixels):,} pictures and {len(labels):,} labels.", "Give one label a picture.")
    pairs = list(zip(pixels, labels, strict=True))
    return from_dataset(pairs, classes=classes, name=name, layout=layout, bgr=bgr)


def picture_of(value: Any, *, layout: str = "", bgr: bool = False) -> NDArray[np.uint8]:
    """One picture (H W C) uint8 RGB or grey: of a PIL image, or an array or tensor HWC, CHW or HW.

    Whole numbers are taken from 0 to 255, floating-point ones from 0 to 1 (what ToTensor gives), times 255 and rounded.
    Raises DataError for anything else, and for a shape that can be read in two ways.
    """
    if layout not in ("", *LAYOUTS):
        raise UsageError(f"Unknown layout {layout!r}.", f"Choose one of: {', '.join(LAYOUTS)}.")
    if isinstance(value, Image.Image):
        return of_image(value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, or one that needs a gradient
        raise DataError(f"A {type(value).__name__} is not a picture: {error}") from error
    upright = _upright(_eight_bits(array, value), layout)
    return np.ascontiguousarray(upright[:, :, ::-1] if bgr and upright.shape[2] == 3 else upright)


def _eight_bits(array: NDArray[Any], value: Any) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    top = {"f": 1, "i": 255}.get(array.dtype.kind, 0)
    if not top or not array.size:
        raise DataError(
            f"A {type(value).__name__} of {array.dtype} and shape {array.shape} is not a picture.",
            "Give a PIL image, uint8 from 0 to 255, or what ToTensor gives.",
        )
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= top):  # so that NaN is refused too
        raise DataError(
            f"A picture of {array.dtype} has values from {low:g} to {high:g}; they should be from 0 to {top}.",
            "Leave Normalize out, and give uint8 or what ToTensor gives: tellapart scales and normalises by itself.",
        )
    return np.rint(array * (255 / top)).astype(np.uint8)


def _upright(array: NDArray[np.uint8], layout: str) -> NDArray[np.uint8]:
    """The same picture as (H W C)."""
    if array.ndim == 2:
        return array[:, :, None]
    ways = [way for way in LAYOUTS if array.ndim == 3 and array.shape[way.index("C")] in (1, 3) and array.size]
    ways = [way for way in ways if not layout or way == layout]
    if len(ways) != 1:
        why = "may be read as HWC and as CHW" if ways else f"is not {layout or 'HWC or CHW'} with 1 or 3 channels"
        raise DataError(f"The shape {array.shape} {why}.", "Say layout='HWC' or layout='CHW'." if ways else "")
    return array if ways == ["HWC"] else array.transpose(1, 2, 0)


def _size(dataset: Pairs) -> int:
    """How many items there are; 0 for an IterableDataset, which cannot say."""
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return 0


def _label(label: Any, row: int) -> int | str:
    try:
        return label if isinstance(label, str) else operator.index(label)  # also of NumPy's numbers, and of tensors
    except TypeError as error:
        what = f"Item {row} of the dataset has the label {label!r}, a {type(label).__name__}."
        raise DataError(what, "A label is a whole number or the name of a class.") from error


def _names(labels: Sequence[int | str], classes: Any) -> dict[int | str, str]:
    """The class names by label, in their order."""
    known = [", ".join(name) if isinstance(name, tuple) else str(name) for name in classes]
    if all(isinstance(label, str) for label in labels):
        return {name: name for name in known or naturally(set(map(str, labels)))}
    return dict(enumerate(known)) or {k: str(k) for k in sorted({k for k in labels if isinstance(k, int)})}


@dataclass(frozen=True)
class DatasetStore:
    """The pictures of a Dataset, converted when read; one at a time, for a Dataset need not bear threads."""

    dataset: Pairs
    layout: str
    bgr: bool
    alone: Any = field(default_factory=threading.Lock)

    def read(self, row: int, most: int = -1) -> NDArray[np.uint8]:
        return picture_of(self.item(row)[0], layout=self.layout, bgr=self.bgr)

    def stamps(self, rows: NDArray[np.int64]) -> None:
        """Nothing tells whether an item of a Dataset has changed, so none is kept."""

    def item(self, row: int) -> tuple[Any, Any]:
        """The pair (picture, label) of one row. Raises DataError when the Dataset gives something else, or fails."""
        try:
            with self.alone:
                pair = self.dataset[row]
        except Exception as error:  # the Dataset is foreign code
            raise DataError(f"Item {row} of the dataset cannot be read: {type(error).__name__}: {error}.") from error
        if isinstance(pair, tuple | list) and len(pair) == 2:
            return pair[0], pair[1]
        raise DataError(
            f"Item {row} of the dataset is a {type(pair).__name__}, not a pair.", "It should be (picture, label)."
        )
