"""Parity: the same files, from their bytes, by the model and by what was exported of it; how far the two agree."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tellapart.data.augment import network_input
from tellapart.data.decode import decode
from tellapart.data.square import fitted
from tellapart.evaluation.judgement import finite
from tellapart.evaluation.paired import Paired, paired
from tellapart.evaluation.predict import calibrated
from tellapart.models.bundle import Bundle
from tellapart.preprocess import Preprocess
from tellapart.recipe import printable
from tellapart.shipping.predict_onnx import opened
from tellapart.shipping.unknown import Unknown, unknown_of

BATCH, WORST = 64, 5
LEAST, CLEAR = 0.995, 0.1
"""Of the pictures whose two likeliest classes are further apart than CLEAR, or twice the bound if that is less, this
share has to get the same class; where a picture may have several, the same answer for each whose probability is so far
from its threshold."""
ENOUGH = 200
"""Fewer pictures prove little, and it is said how little."""
LOSS = 0.01
"""A smaller file fails when it is, surely, worse by more than this share of the pictures."""
BOUNDS = {"square": 1e-4, "float32": 0.01, "fp16": 0.05, "int8": 1.0}
"""How far a probability may be off, more than ten times what was measured (docs/export.md): "square" is of squares, the
others of pictures, where a few values may be off by one level. Eight bits are judged by class and accuracy alone."""
LOWEST = {"int8": 0.95}
"""The share of clear pictures, where it is not LEAST."""

Floats = NDArray[np.float64]
Answers = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Probabilities and logits (N K) of pictures (N H W C) uint8 of one size."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One file: what it is called, its bytes, and its class number, or None where that is not known. `marks` (K): which
    classes it has, where a picture may have several.
    """

    key: str
    file: bytes
    label: int | None
    marks: NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True)
class Worst:
    """A picture whose probabilities differ most: what each says of it, and by how much they differ."""

    key: str
    ours: str
    theirs: str
    off: float


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far two ways of judging the same n pictures agree.

    `same`: that get the same class; `clear` and `agreed`: those of which the class is clear, and those of them that get
    the same; `largest`: the largest difference of a probability. `accuracy`: of both on the `judged` ones whose classes
    may be used, and `change`, what the exported one has more, paired. `about`: which pictures; `fault`: what makes the
    difference. `other`: what the file says of the model that is not so, such as the names of its classes.
    `several`: a picture may have several classes; then `same` get the same set of them, `clear` have a clear answer for
    one at least, `agreed` the same for all that are clear, and `accuracy` is the share of exact matches. `unknown`:
    what became of that answer, or None where the model never gives it.
    """

    about: str
    n: int
    same: int
    clear: int
    agreed: int
    largest: float
    bound: float
    least: float
    finite: bool
    worst: tuple[Worst, ...]
    accuracy: tuple[float, float] | None
    change: Paired | None
    judged: int = 0
    several: bool = False
    unknown: Unknown | None = None
    fault: str = ""
    other: str = ""

    @property
    def sound(self) -> bool:
        """Whether what was exported may be said to be this model."""
        told = self.n > 0 and self.finite and not self.other and not self.fault
        return told and self.near and (self.unknown is None or self.unknown.sound(self.least))

    @property
    def near(self) -> bool:
        """Whether classes, probabilities and accuracy are those of this model."""
        near = self.largest <= self.bound and self.agreed >= self.least * self.clear
        return near and not (self.change is not None and self.change.high < -LOSS)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; what is no finite number is null, for JSON has none."""
        return finite({"format": 1, "sound": self.sound, "few": self.few, **asdict(self)})

    def words(self) -> str:
        """One sentence."""
        if not self.n:
            return "nothing is proved: there is no picture to compare on"
        off = f"{self.largest:.2g}" if self.finite else "not finite"
        few = "; too few pictures to prove it" * bool(self.few)
        return (
            f"{self.agreed:,} of {self.clear:,} clear pictures get the same class{'es' * self.several} "
            f"({self.same:,} of all {self.n:,} {self.about}); "
            f"largest difference of a probability {off}, bound {self.bound:g}{few}"
        )

    @property
    def few(self) -> str:
        """How little so few pictures prove; '' where they are enough."""
        if not 0 < self.n < ENOUGH:
            return ""
        others = 1 - 0.05 ** (1 / self.n)  # of which n pictures, drawn by chance, show none one time in twenty
        return (
            f"n = {self.n} proves little: where all agree, up to {100 * others:.2g} % of others may not (95 %). "
            f"Give {ENOUGH} or more: --pictures FOLDER."
        )

    def change_words(self) -> str:
        """What became of the accuracy, with its interval; '' where no class is known."""
        if self.change is None or self.accuracy is None:
            return ""
        change = [f"{100 * one:+.1f}" for one in (self.change.difference, self.change.low, self.change.high)]
        ours, theirs = (f"{100 * one:.1f} %" for one in self.accuracy)
        gain = f"{change[0]} points [{change[1]}, {change[2]}]"
        what = "exact match" if self.several else "accuracy"
        return f"{what} {ours} before, {theirs} exported: {gain}, n = {self.judged:,}"


def parity(
    bundle: Bundle, samples: Sequence[Sample], answers: Answers, *, front: str, arithmetic: str, about: str
) -> tuple[Parity, Floats]:
    """Judge every sample twice and compare: what was found, and the probabilities (N K) of what was exported. With
    "picture" the other way decodes the file by itself, with Pillow.
    """
    plain = _logits(bundle, samples)
    said = [answers(given(bundle.preprocess, one, front)[None]) for one in samples]
    ours = calibrated(bundle, plain)
    told = [np.concatenate(one).astype(np.float64) for one in zip(*said, strict=True)]
    theirs, logits = told or (ours, plain)
    found = compared(bundle, samples, ours, theirs, arithmetic=arithmetic, about=about)
    apart = min(2 * found.bound, CLEAR)
    return replace(found, unknown=unknown_of(bundle, plain, logits, apart=apart, bound=found.bound)), theirs


def probabilities(bundle: Bundle, samples: Sequence[Sample]) -> Floats:
    """What the model itself says (N K) of files."""
    return calibrated(bundle, _logits(bundle, samples))


def _logits(bundle: Bundle, samples: Sequence[Sample]) -> Floats:
    squares = [fitted(decode(one.file), bundle.preprocess) for one in samples]
    return logits_of_squares(bundle.module(), squares, bundle.preprocess)


@torch.inference_mode()
def logits_of_squares(network: nn.Module, squares: Sequence[NDArray[np.uint8]], to: Preprocess) -> Floats:
    """The logits (N K) of squares (S S C)."""
    parts = [torch.tensor(np.stack(squares[n : n + BATCH])) for n in range(0, len(squares), BATCH)]
    said = [network(network_input(part, to)).float().numpy().astype(np.float64) for part in parts]
    return np.concatenate(said) if said else np.zeros((0, 1))


def given(to: Preprocess, sample: Sample, front: str) -> NDArray[np.uint8]:
    """What is given to an exported file: the picture (H W C) as its programs open it, or our square (S S C) of it."""
    return opened(io.BytesIO(sample.file), to.channels) if front == "picture" else fitted(decode(sample.file), to)


def compared(
    bundle: Bundle, samples: Sequence[Sample], ours: Floats, theirs: Floats, *, arithmetic: str, about: str
) -> Parity:
    """What two tables of probabilities (N K) of the same samples have in common; the fault is left open."""
    bound = BOUNDS[arithmetic]
    finite = bool(np.isfinite(theirs).all())
    off = np.nan_to_num(np.abs(ours - theirs), nan=np.inf, posinf=np.inf)
    first, second = said(bundle, ours), said(bundle, theirs)
    clear = _clear(bundle, ours, min(2 * bound, CLEAR))
    agreed = clear.any(1) & ((first == second) | ~clear).all(1)
    known = [n for n, one in enumerate(samples) if one.label is not None or one.marks is not None]
    shares = np.stack([ours[known], theirs[known]])
    change = _change([samples[n] for n in known], first[known], second[known], shares) if finite else (None, None)
    return Parity(
        about=about,
        n=len(samples),
        same=int((first == second).all(1).sum()),
        clear=int(clear.any(1).sum()),
        agreed=int(agreed.sum()),
        largest=float(off.max(initial=0.0)),
        bound=bound,
        least=LOWEST.get(arithmetic, LEAST),
        finite=finite,
        worst=tuple(_worst(bundle, samples, ours, theirs, off)),
        accuracy=change[0],
        change=change[1],
        judged=len(known),
        several=bool(bundle.thresholds),
    )


def said(bundle: Bundle, shares: Floats) -> NDArray[np.bool_]:
    """Which classes each picture is said to have (N K): the likeliest; where it may have several, all whose probability
    reaches their threshold.
    """
    shares = np.nan_to_num(shares, nan=-1.0)
    if bundle.thresholds:
        return shares >= np.array(bundle.thresholds)
    return np.eye(shares.shape[1], dtype=np.bool_)[shares.argmax(1)]


def _clear(bundle: Bundle, shares: Floats, apart: float) -> NDArray[np.bool_]:
    """Which answers are clear (N K); the one answer (N 1) where a picture has one class."""
    if bundle.thresholds:
        return np.abs(shares - np.array(bundle.thresholds)) > apart
    top = np.sort(shares, axis=1)
    return (top[:, -1:] - top[:, -2:-1] if shares.shape[1] > 1 else top) > apart


def _worst(bundle: Bundle, samples: Sequence[Sample], ours: Floats, theirs: Floats, off: Floats) -> Iterator[Worst]:
    """The pictures that differ most, each with its likeliest class; with the class that differs most where it may have
    several.
    """
    for n in np.argsort(-off.max(1, initial=0.0), kind="stable")[:WORST].tolist():
        words = []
        for shares in (ours[n], theirs[n]):
            k = int((off[n] if bundle.thresholds else np.nan_to_num(shares, nan=-1.0)).argmax())
            words.append(f"{printable(bundle.classes[k])} {shares[k]:.4f}")
        yield Worst(key=printable(samples[n].key), ours=words[0], theirs=words[1], off=float(off[n].max()))


def _change(
    samples: Sequence[Sample], first: NDArray[np.bool_], second: NDArray[np.bool_], shares: Floats
) -> tuple[tuple[float, float] | None, Paired | None]:
    """The share of right answers of both, all classes of a picture together, and what the second has more."""
    own = _own(samples, first.shape[1]) if len(samples) > 1 else None
    if own is None:
        return None, None
    right = [(said == own).all(1).astype(np.float64) for said in (first, second)]
    losses = [_losses(samples, one, own) for one in shares]
    change = paired((right[0], losses[0]), (right[1], losses[1]))
    return (float(right[0].mean()), float(right[1].mean())), change


def _own(samples: Sequence[Sample], classes: int) -> NDArray[np.bool_] | None:
    """Which classes each sample has (N K); None where that is not known of all."""
    marks = [one.marks for one in samples if one.marks is not None]
    if len(marks) == len(samples):
        return np.stack(marks)
    labels = [one.label for one in samples if one.label is not None]
    return np.eye(classes, dtype=np.bool_)[labels] if len(labels) == len(samples) else None


def _losses(samples: Sequence[Sample], shares: Floats, own: NDArray[np.bool_]) -> Floats:
    """The loss of each sample: -ln p of its class; where it may have several, the mean over all classes."""
    if samples[0].marks is None:
        return -np.log(np.clip(shares[own], 1e-12, None))
    return -np.log(np.clip(np.where(own, shares, 1 - shares), 1e-12, None)).mean(1)
