"""Predict: what a model says of files and folders. Every file asked for is in the answer, broken ones too."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tellapart.data.augment import network_input
from tellapart.data.decode import decode
from tellapart.data.identity import digest
from tellapart.data.sources.listing import PICTURES
from tellapart.data.square import fitted
from tellapart.errors import DataError, UsageError
from tellapart.evaluation.metrics import softmax
from tellapart.models.bundle import Bundle
from tellapart.preprocess import Preprocess

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What the model says of one file. `top`: (class name, class number, probability), the likeliest first.

    `size` is (width, height) of the file, `digest` that of its pixels in hex; `error` says why there is no answer.
    """

    path: str
    top: tuple[tuple[str, int, float], ...] = ()
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    error: str = ""


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


def predict(bundle: Bundle, paths: list[Path], *, device: torch.device, top_k: int = 5) -> Iterator[Guess]:
    """One Guess for every path, in order."""
    model = bundle.module(device)
    for start in range(0, len(paths), BATCH):
        opened = [_opened(path, bundle.preprocess) for path in paths[start : start + BATCH]]
        squares = [square for _, square in opened if square is not None]
        shares = iter(_shares(model, torch.from_numpy(np.stack(squares)), bundle, device).numpy() if squares else ())
        for guess, square in opened:
            yield guess if square is None else _answered(guess, next(shares), bundle.classes, top_k)


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
    """Probabilities (K) of one picture (C S S), or (B K) of a batch (B C S S), with values from 0 to 1.

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
    shares = _shares(bundle.module(device), batch.permute(0, 2, 3, 1) * 255, bundle, device)
    return shares if images.ndim == 4 else shares[0]


def _shares(model: torch.nn.Module, squares: Tensor, bundle: Bundle, device: torch.device | str) -> Tensor:
    """Probabilities (B K) of the squares (B S S C), values from 0 to 255."""
    with torch.inference_mode():
        logits = model(network_input(squares.to(device), bundle.preprocess)).float().cpu()
    return torch.from_numpy(softmax(logits.numpy() / bundle.temperature))


def _answered(guess: Guess, shares: np.ndarray, classes: tuple[str, ...], top_k: int) -> Guess:
    best = np.argsort(-shares, kind="stable")[:top_k]
    top = tuple((classes[int(k)], int(k), float(shares[k])) for k in best)
    return replace(guess, top=top)
