"""Predict: what a model says of files and folders. Every file asked for is in the answer, broken ones too."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tellapart.data.decode import decode
from tellapart.data.identity import digest
from tellapart.data.sources.listing import PICTURES
from tellapart.data.square import fitted
from tellapart.errors import DataError, UsageError, refuse_marks
from tellapart.evaluation.metrics import sigmoid, softmax
from tellapart.evaluation.promises import STRANGE
from tellapart.evaluation.views import seen_logits
from tellapart.models.bundle import Bundle
from tellapart.preprocess import Preprocess

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What the model says of one file. `top`: (class name, class number, probability), the likeliest first.

    `size` is (width, height) of the file, `digest` that of its pixels in hex; `error` says why there is no answer.
    `doubt` says why the likeliest class is no answer: the picture is like none of them, or it is not sure enough.
    `said`, where a picture may have several classes: those of which the probability reaches the threshold, as in `top`.
    """

    path: str
    top: tuple[tuple[str, int, float], ...] = ()
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    error: str = ""
    doubt: str = ""
    said: tuple[tuple[str, int, float], ...] | None = None


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


def predict(
    bundle: Bundle,
    paths: list[Path],
    *,
    device: torch.device,
    top_k: int = 5,
    precision: float | None = None,
    kinds: Sequence[str] = (),
) -> Iterator[Guess]:
    """One Guess for every path, in order, by several views of each where `kinds` of views are named.

    Raises UsageError for a precision that the model does not promise.
    """
    model, least = bundle.module(device), _promised(bundle, precision, kinds)
    for start in range(0, len(paths), BATCH):
        opened = [_opened(path, bundle.preprocess) for path in paths[start : start + BATCH]]
        squares = [square for _, square in opened if square is not None]
        said = iter(_said(model, torch.from_numpy(np.stack(squares)), bundle, device, kinds) if squares else ())
        for guess, square in opened:
            yield guess if square is None else _answered(guess, *next(said), bundle, top_k, least)


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


def _opened(path: Path, preprocess: Preprocess) -> tuple[Guess, np.ndarray | None]:
    if not path.is_file():
        return Guess(path=str(path), error="It is not a regular file."), None
    try:
        pixels = decode(path.read_bytes())
    except (DataError, OSError) as error:
        return Guess(path=str(path), error=getattr(error, "message", str(error))), None
    named = Guess(path=str(path), size=(pixels.shape[1], pixels.shape[0]), digest=digest(pixels).hex())
    return named, fitted(pixels, preprocess)


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
    if bundle.thresholds:
        return list(zip(sigmoid(plain.numpy()), plain.max(1).values.tolist(), strict=True))
    shares = softmax(many.numpy() / bundle.temperature)
    return list(zip(shares, plain.max(1).values.tolist(), strict=True))


def _answered(guess: Guess, shares: np.ndarray, score: float, bundle: Bundle, top_k: int, least: float) -> Guess:
    every = tuple((bundle.classes[k], k, float(shares[k])) for k in np.argsort(-shares, kind="stable").tolist())
    top = every[:top_k]
    if bundle.thresholds:
        return replace(guess, top=top, said=tuple(one for one in every if one[2] >= bundle.thresholds[one[1]]))
    return replace(guess, top=top, doubt=_doubt(bundle, score, float(shares.max()), least))


def _doubt(bundle: Bundle, score: float, sure: float, least: float) -> str:
    if bundle.known is not None and score < bundle.known:
        reached = f"{1 - STRANGE:.0%} of known pictures reach {bundle.known:.3g}"
        return f"unknown: like none of the classes (score {score:.3g}, {reached})"
    return f"unsure: {100 * sure:.1f} % is less than the {100 * least:.1f} % it takes" if sure < least else ""
