"""Predict: what a model says of files and folders. Every file asked for is in the answer, broken ones too."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tellapart.data.decode import decode, of_image, still, stored_size
from tellapart.data.identity import digest
from tellapart.data.sources.listing import PICTURES
from tellapart.data.square import fitted
from tellapart.errors import DataError, UsageError, refuse_marks
from tellapart.evaluation.predict import calibrated
from tellapart.evaluation.promises import STRANGE
from tellapart.evaluation.views import kinds_of, seen_logits
from tellapart.models.bundle import Bundle
from tellapart.preprocess import Preprocess
from tellapart.run import cores

BATCH, AT_ONCE = 64, 16_000_000
"""Pictures that go through the network together, and numbers of theirs, of which large squares fit fewer."""
PIECE = 16
"""Pictures that a thread opens one after the other: to hand one over costs as much as a small one."""


@dataclass(frozen=True)
class Stored:
    """A picture inside another file: what it is called, and where its bytes lie, or `why` it has none there."""

    name: str
    path: str
    offset: int
    size: int
    why: str = ""

    def __str__(self) -> str:
        return self.name

    def read(self) -> bytes:
        """Its bytes. Raises OSError, and DataError where it has none."""
        if self.why:
            raise DataError(self.why)
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


Picture = str | Path | Stored | bytes | np.ndarray | Tensor | Image.Image
"""A file, a picture in another file, its bytes, an array (H W) or (H W C) uint8, a tensor (C H W) uint8, or an image of
Pillow.
"""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What the model says of one file. `top`: (class name, class number, probability), the likeliest first.

    `size` is (width, height) of the file, `digest` that of its pixels in hex where it was asked for; `error` says why
    there is no answer. `doubt` says why the likeliest class is no answer: the picture is like none of them, or it is
    not sure enough.
    `said`, where a picture may have several classes: those of which the probability reaches the threshold, as in `top`.
    """

    path: str
    top: tuple[tuple[str, int, float], ...] = ()
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    error: str = ""
    doubt: str = ""
    said: tuple[tuple[str, int, float], ...] | None = None


Opened = tuple[Guess, np.ndarray | None]
"""A picture before it is answered: what is known of it, and its square; none where there is an error."""


def files_of(paths: Iterable[str]) -> list[Path]:
    """The files named, and all files below the folders named but hidden ones. Raises UsageError for a missing one."""
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        if name and path.is_dir():
            found += sorted(p for p in path.rglob("*") if not p.is_dir() and not p.name.startswith("."))
        elif name and path.exists():
            found.append(path)
        else:
            raise UsageError(f"There is no file or folder '{name}'.", "Check the spelling and the folder you are in.")
    if not found:
        raise DataError("No files were found there.", f"Pictures end in one of {', '.join(sorted(PICTURES))}.")
    return found


class Classifier:
    """A model that is ready to answer: `tellapart.load` gives one. Several threads may ask the same one."""

    def __init__(self, bundle: Bundle, *, device: torch.device | str = "cpu") -> None:
        self.bundle, self.device = bundle, torch.device(device)
        self.model = bundle.module(self.device)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return self.bundle.classes

    @property
    def batch(self) -> int:
        """How many pictures go through the network together."""
        to = self.bundle.preprocess
        return max(1, min(BATCH, AT_ONCE // (to.side**2 * to.channels)))

    def squares(self, pictures: Iterable[Picture]) -> Tensor:
        """Those (B S S C) uint8 of the pictures that can be read."""
        to = self.bundle.preprocess
        found = [square for _, square in (_opened(one, to, False) for one in pictures) if square is not None]
        return torch.from_numpy(np.stack(found)) if found else torch.zeros(0, to.size, to.size, to.channels)

    def predict(self, picture: Picture, *, top_k: int = 5, precision: float | None = None, views: str = "") -> Guess:
        """What one picture shows. What cannot be read has no answer but an `error`.

        `precision`: unsure where answers are not right so often; `views`: "mirror", "shift" or both.
        Raises TypeError and DataError for what is no picture and for arrays of other kinds and shapes, UsageError for
        a precision that the model does not promise.
        """
        return next(self.each([picture], top_k=top_k, precision=precision, kinds=kinds_of(views)))

    def each(
        self,
        pictures: Iterable[Picture] | str | Path | bytes | Image.Image,
        *,
        top_k: int = 5,
        precision: float | None = None,
        kinds: Sequence[str] = (),
        digests: bool = False,
    ) -> Iterator[Guess]:
        """One Guess for every picture, in order, by several views of each where `kinds` of views are named. Pictures
        are opened ahead by threads; a path, bytes or an image is one picture. `digests`: of each one's pixels too,
        which may take as long as the answer.
        """
        if top_k < 1:
            raise UsageError(f"top_k is {top_k}; at least one class is named.")
        least = _promised(self.bundle, precision, kinds)
        to, batch = self.bundle.preprocess, self.batch
        every = [pictures] if isinstance(pictures, str | Path | bytes | Image.Image) else pictures
        waiting = _ahead(lambda picture: _opened(picture, to, digests), every, 2 * batch)
        while opened := list(islice(waiting, batch)):
            squares = [square for _, square in opened if square is not None]
            stacked = torch.from_numpy(np.stack(squares)) if squares else None
            said = iter(() if stacked is None else _said(self.model, stacked, self.bundle, self.device, kinds))
            for guess, square in opened:
                yield guess if square is None else _answered(guess, *next(said), self.bundle, top_k, least)


def load(model: str | Path, *, runs: str | Path = "runs", device: str = "cpu") -> Classifier:
    """The classifier of a model.safetensors, or of a run by its name or folder: `load("RUN").predict("cat.jpg")`.

    Nothing in the file is executed. Raises StorageError for a file that is broken or no model, UsageError for a run
    that is not there.
    """
    from tellapart.workflow import devices
    from tellapart.workflow.models import find_model

    return Classifier(find_model(Path(runs), str(model))[0], device=devices.choose(device))


def _promised(bundle: Bundle, precision: float | None, kinds: Sequence[str]) -> float:
    """The probability from which on answers are right so often; 0 where nothing is asked for."""
    refuse_marks(bundle.thresholds and (precision is not None or kinds), "--precision" if precision else "--views")
    if precision is not None and precision not in bundle.promises:
        some = ", ".join(f"{one:g}" for one in sorted(bundle.promises)) or "nothing"
        said = f"This model promises {some}; received {precision:g}."
        raise UsageError(said, "0.9, 0.95 and 0.99 are promised, as far as its validation pictures can show them.")
    if precision is not None and kinds:
        raise UsageError("What a model promises is of one look at each picture.", "Leave out --views, or --precision.")
    return 0.0 if precision is None else bundle.promises[precision]


def _ahead(work: Callable[[Picture], Opened], pictures: Iterable[Picture], most: int) -> Iterator[Opened]:
    """The work on each picture, in order, done by threads before it is asked for; at most so many wait."""
    coming, processors = iter(pictures), cores()
    first = list(islice(coming, 2))
    every = chain(first, coming)
    pieces = iter(lambda: list(islice(every, min(PIECE, most))), [])
    if len(first) < 2 or processors < 2:
        yield from (work(picture) for piece in pieces for picture in piece)
        return
    with ThreadPoolExecutor(processors) as pool:
        waiting: deque[Future[list[Opened]]] = deque()
        try:
            for piece in pieces:
                waiting.append(pool.submit(lambda some: [work(one) for one in some], piece))
                if len(waiting) * PIECE >= most:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def _opened(picture: Picture, preprocess: Preprocess, digests: bool) -> tuple[Guess, np.ndarray | None]:
    name = str(picture) if isinstance(picture, str | Path | Stored) else ""
    try:
        raw = _raw(picture)
        pixels = decode(raw)
    except (DataError, OSError) as error:
        if isinstance(picture, np.ndarray | Tensor):  # no picture is broken here, but the program that made it
            raise
        return Guess(path=name, error=getattr(error, "message", str(error))), None
    named = Guess(path=name, size=stored_size(raw, pixels), digest=digest(pixels).hex() if digests else "")
    return named, fitted(pixels, preprocess)


def _raw(picture: Picture) -> bytes | np.ndarray:
    """The bytes of a file, or (H W C) or (H W) uint8 of an array, a tensor (C H W), or an image of Pillow."""
    if isinstance(picture, str | Path):
        if not os.path.isfile(picture):
            raise DataError("It is not a regular file." if os.path.exists(picture) else "There is no such file.")
        with open(picture, "rb") as file:
            return file.read()
    if isinstance(picture, Stored):
        return picture.read()
    if isinstance(picture, Tensor):
        if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[0] not in (1, 3) or not picture.numel():
            received = f"{str(picture.dtype).removeprefix('torch.')} of the shape {tuple(picture.shape)}"
            convert = " From 0 to 1, give (255 * x).round().to(torch.uint8)." * picture.is_floating_point()
            said = f"A tensor must be uint8 from 0 to 255, (C, H, W) with C 1 or 3; received {received}."
            raise TypeError(said + convert)
        return picture.permute(1, 2, 0).contiguous().cpu().numpy()
    if isinstance(picture, bytes | np.ndarray):
        return picture
    if isinstance(picture, Image.Image):
        return of_image(still(picture))
    received = type(picture).__name__
    raise TypeError(f"A picture is a path, bytes, an array, a tensor or a Pillow image; received {received}.")


def probabilities(bundle: Bundle, images: Tensor, *, device: torch.device | str = "cpu") -> Tensor:
    """Probabilities (K) of one picture (C S S), or (B K) of a batch (B C S S), with values from 0 to 1. Those of
    classes of which a picture may have several do not add up to 1.

    Raises TypeError for anything but a tensor of floating-point numbers, DataError for other shapes and values.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        received = f"a tensor of {images.dtype}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise TypeError(f"Expected a float32 tensor with values from 0 to 1, as ToTensor gives; received {received}.")
    to, batch = bundle.preprocess, images if images.ndim == 4 else images[None]
    if batch.shape[1:] != (to.channels, to.size, to.size):
        wanted = f"({to.channels}, {to.size}, {to.size}), or a batch of such"
        raise DataError(f"Expected a picture {wanted}; received the shape {tuple(images.shape)}.")
    if batch.numel() and not (batch.min() >= 0 and batch.max() <= 1):  # so that NaN is refused too
        raise DataError(
            f"Expected values from 0 to 1; received {batch.min():g} to {batch.max():g}.",
            "Leave Normalize out: the model brings its own.",
        )
    if not len(batch):
        return torch.zeros(0, len(bundle.classes))
    said = _said(bundle.module(device), batch.permute(0, 2, 3, 1) * 255, bundle, device, ())
    shares = torch.from_numpy(np.stack([shares for shares, _ in said]))
    return shares if images.ndim == 4 else shares[0]


def _said(
    model: torch.nn.Module, squares: Tensor, bundle: Bundle, device: torch.device | str, kinds: Sequence[str]
) -> list[tuple[np.ndarray, float]]:
    """Probabilities (K), and the largest logit of the plain look, of each square (B S S C) of values from 0 to 255."""
    with torch.inference_mode():
        plain = seen_logits(model, squares.to(device), bundle.preprocess, (), temperature=bundle.temperature)
        many = plain
        if kinds:
            many = seen_logits(model, squares.to(device), bundle.preprocess, kinds, temperature=bundle.temperature)
    return list(zip(calibrated(bundle, many.numpy()), plain.max(1).values.tolist(), strict=True))


def _answered(guess: Guess, shares: np.ndarray, score: float, bundle: Bundle, top_k: int, least: float) -> Guess:
    if not np.isfinite(shares).all():
        return replace(guess, error="The network's answer is not a finite number.")
    order, values = np.argsort(-shares, kind="stable").tolist(), shares.tolist()
    top = tuple((bundle.classes[k], k, values[k]) for k in order[:top_k])
    if bundle.thresholds:
        every = ((bundle.classes[k], k, values[k]) for k in order)
        return replace(guess, top=top, said=tuple(one for one in every if one[2] >= bundle.thresholds[one[1]]))
    return replace(guess, top=top, doubt=_doubt(bundle, score, float(shares.max()), least))


def _doubt(bundle: Bundle, score: float, sure: float, least: float) -> str:
    if bundle.known is not None and score < bundle.known:
        reached = f"{1 - STRANGE:.0%} of known pictures reach {bundle.known:.3g}"
        return f"unknown: like none of the classes (score {score:.3g}, {reached})"
    return f"unsure: {100 * sure:.1f} % is less than the {100 * least:.1f} % it takes" if sure < least else ""
