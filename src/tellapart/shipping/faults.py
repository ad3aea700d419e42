"""What makes another copy of a model answer otherwise: known faults are tried on our side, and the one that gives its
answers is named.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tellapart.data.decode import decode
from tellapart.data.square import coloured, fitted
from tellapart.evaluation.metrics import sigmoid, softmax
from tellapart.evaluation.predict import calibrated
from tellapart.models.bundle import Bundle
from tellapart.names import FILTERS, FITS
from tellapart.preprocess import Preprocess, fixed_statistics
from tellapart.recipe import printable
from tellapart.shipping.parity import Floats, Sample, logits_of_squares, said
from tellapart.shipping.scales import other_scale
from tellapart.shipping.shipped import Square

FEW, EXACT, NOISE = 24, 0.01, 1e-6
"""With fewer pictures some fault explains much by chance: then only one that alone leaves so small a share of the
difference has a name, and no mean is fitted; and a difference that is but rounding."""
MOST, EXPLAINED, ROUGHLY, STILL, UNRELATED, PERMUTED, ALIKE = 64, 0.2, 0.8, 0.02, 0.3, 2000, 0.95
"""Pictures a fault is tried on; the share of the difference it may leave, and that of another preparation beside the
rounding to 8 bits, of which none leaves less than all by chance; answers that vary by less than this share of
ours are the same for all, and a fault that leaves less of the difference is the one; the kappa below which answers have
nothing to do with each other; and classes up to which another order of them is looked for; the cosine of log-odds from
which on they are ours by another temperature."""

Squared = Callable[[bytes, Preprocess], NDArray[np.uint8]]
FIT_WORDS = {
    "crop": "only the middle of each picture is seen",
    "pad": "the pictures are padded",
    "squash": "the pictures are squashed",
}
STATISTICS = {
    "none": "mean and deviation are left out",
    "half": "mean and deviation are 0.5",
    "imagenet": "mean and deviation are those of ImageNet",
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to go wrong: in words, and how a file (bytes) becomes a square (S S C) by it."""

    words: str
    to: Preprocess
    square: Squared


class Unaveraged(Square):
    """A resize that looks at the nearest pixels alone, however many become one."""

    def wide(self, step: Tensor) -> Tensor:
        """One pixel, whatever is made of the picture."""
        return torch.ones_like(step)


def named(bundle: Bundle, samples: Sequence[Sample], theirs: Floats, *, rounded: bool = False) -> str:
    """The fault by which this model gives those answers (N K) to the samples, in words; '' where none of them does.
    `rounded`: it computes with smaller numbers, and only a known fault counts, of which rounding may hide the most.
    """
    picked = _spread(samples)
    samples, theirs = [samples[n] for n in picked], theirs[picked]
    if not samples:
        return ""
    if not np.isfinite(theirs).all():
        return "its answers are no finite numbers"
    network, tried = bundle.module(), {}

    def logits(fault: Fault) -> Floats:
        squares = [fault.square(one.file, fault.to) for one in samples]
        return logits_of_squares(network, squares, fault.to)

    plain = logits(Fault(words="", to=bundle.preprocess, square=_as_it_is))
    ours = calibrated(bundle, plain)
    if strange := _no_probabilities(bundle, ours, theirs):
        return strange
    if _apart(ours, theirs) < NOISE:
        return ""
    for fault in _faults(bundle.preprocess):
        tried[fault.words] = calibrated(bundle, logits(fault))
    prepared = dict(tried)
    tried |= _other_ends(bundle, plain, theirs)
    if (order := _order(bundle, ours, theirs)) and _of_two(ours, ours[:, order[1]], theirs):
        tried[order[0]] = ours[:, order[1]]
    flat = theirs.std(0).max() < STILL * ours.std(0).max()
    if len(samples) < FEW:
        near = {words: one for words, one in tried.items() if _apart(one, theirs) <= EXACT * _apart(ours, theirs)}
        return _best(ours, theirs, near, EXACT) if len(near) == 1 and not flat else ""
    if rounded:
        return _best(ours, theirs, tried, EXPLAINED) or _best(ours, theirs, prepared, ROUGHLY)
    if not flat and min(_apart(one, theirs) for one in tried.values()) > STILL * _apart(ours, theirs):
        fitted = _by_scale(bundle, samples, {"": ours, **tried}, theirs)
        tried |= {key: one for key, one in fitted.items() if _apart(one, theirs) <= STILL * _apart(ours, theirs)}
    found = _best(ours, theirs, tried, EXPLAINED)
    if flat:  # then it says little that a fault gives the same
        return f"{found or 'another scale of pixels'}, or other weights: its answers are the same for all pictures"
    return found or _unrelated(bundle, ours, theirs)


def _spread(samples: Sequence[Sample]) -> list[int]:
    """Which MOST of the samples to try: drawn evenly, and as many of each class, for they may come class by class."""
    groups: dict[object, list[int]] = {}
    for n in np.random.default_rng(0).permutation(len(samples)).tolist():
        one = samples[n]
        groups.setdefault(one.label if one.marks is None else one.marks.tobytes(), []).append(n)
    turns = sorted((turn, n) for group in groups.values() for turn, n in enumerate(group))
    return sorted(n for _, n in turns[:MOST])


def _best(ours: Floats, theirs: Floats, tried: dict[str, Floats], left: float) -> str:
    """The fault that leaves the least of the difference, if that is little enough."""
    before = _apart(ours, theirs)
    words = min(tried, key=lambda one: _apart(tried[one], theirs))
    after = _apart(tried[words], theirs)
    if after > left * before:
        return ""
    return f"{words} (so done, ours differ from its answers by {after:.1g} instead of {before:.1g}, on average)"


def _apart(first: Floats, second: Floats) -> float:
    return float(np.abs(first - second).max(1).mean())


def _unrelated(bundle: Bundle, ours: Floats, theirs: Floats) -> str:
    """Whether its answers have nothing to do with ours, by Cohen's kappa of the classes; where a picture may have
    several, of all decisions.
    """
    first, second = ours.argmax(1), theirs.argmax(1)
    if bundle.thresholds:
        first, second = (said(bundle, one).ravel() for one in (ours, theirs))
    by_chance = sum((first == k).mean() * (second == k).mean() for k in np.unique(first))
    same = (first == second).mean()
    kappa = (same - by_chance) / max(1e-9, 1 - by_chance)
    if kappa > UNRELATED or same == 1:
        return ""
    return f"its weights are not those of this model: its answers have nothing to do with ours (kappa {kappa:.2f})"


def _no_probabilities(bundle: Bundle, ours: Floats, theirs: Floats) -> str:
    """That its answers are no probabilities, and whether they would be ours as such; '' where they are."""
    name, end = ("sigmoid", sigmoid) if bundle.thresholds else ("softmax", softmax)
    off = np.abs(theirs - 0.5).max() - 0.5 if bundle.thresholds else np.abs(theirs.sum(1) - 1).max()
    if off <= 0.01:
        return ""
    agree = f"; they agree with ours after a {name}" * (_apart(ours, end(theirs)) < 0.05)
    return f"it gives logits, or other numbers that are no probabilities{agree}"


def _other_ends(bundle: Bundle, logits: Floats, theirs: Floats) -> dict[str, Floats]:
    """What another end of the network makes of our logits, by the fault in words; another temperature is fitted."""
    if bundle.thresholds:
        return {"its probabilities are of a softmax over all classes instead of a sigmoid of each": softmax(logits)}
    own = bundle.temperature
    ends = {"the logits are not divided by the temperature": softmax(logits)} if own != 1.0 else {}
    first, second = (one - one.mean(1, keepdims=True) for one in (logits, np.log(np.clip(theirs, 1e-12, None))))
    along = float((first * second).sum())
    alike = along / max(1e-9, float(np.linalg.norm(first) * np.linalg.norm(second)))
    other = float((first**2).sum()) / max(1e-9, along)
    if alike > ALIKE and min(abs(other - 1), abs(other - own)) > 0.01:
        ends[f"the logits are divided by {other:.3g} instead of the temperature {own:.3g}"] = softmax(logits / other)
    return ends


def _order(bundle: Bundle, ours: Floats, theirs: Floats) -> tuple[str, NDArray[np.int64]] | None:
    """Another order of the classes: in words, and the class of ours that each of its columns is."""
    count = ours.shape[1]
    if theirs.shape[1] != count or count > PERMUTED:
        return None
    far = np.stack([np.abs(ours - theirs[:, [k]]).mean(0) for k in range(count)])
    order, moved = np.zeros(count, np.int64), 0
    for flat in np.argsort(far, axis=None, kind="stable"):  # the nearest pair first, each class once
        k, own = divmod(int(flat), count)
        if np.isfinite(far[k, own]):
            order[k], far[k, :], far[:, own], moved = own, np.inf, np.inf, moved + 1
        if moved == count:
            break
    first = int(np.argmax(order != np.arange(count)))
    if order[first] == first:
        return None
    name = printable(bundle.classes[int(order[first])])
    return f"the classes are in another order: its number {first} is '{name}', our number {int(order[first])}", order


def _of_two(ours: Floats, moved: Floats, theirs: Floats) -> bool:
    """Whether our answers in another order are theirs for the pictures of two classes or more: of one class alone, as
    many other weights say the same.
    """
    likeliest, explained = ours.argmax(1), 0
    for own in (likeliest == k for k in np.unique(likeliest)):
        explained += _apart(moved[own], theirs[own]) <= EXPLAINED * _apart(ours[own], theirs[own])
    return explained > 1


def _as_it_is(file: bytes, to: Preprocess) -> NDArray[np.uint8]:
    return fitted(decode(file), to)


def _faults(to: Preprocess) -> Iterator[Fault]:
    if to.channels == 3:
        yield Fault(words="the colours come in the order BGR", to=to, square=lambda f, to: _as_it_is(f, to)[..., ::-1])
    yield Fault(words="rows and columns are swapped", to=to, square=lambda f, to: _as_it_is(f, to).swapaxes(0, 1))
    yield Fault(words="pictures are not turned as their EXIF data say", to=to, square=_unturned)
    yield from _resizes(to)
    yield from _scales(to)


def _unturned(file: bytes, to: Preprocess) -> NDArray[np.uint8]:
    return fitted(np.asarray(Image.open(io.BytesIO(file)).convert("RGB")), to)


def _resizes(to: Preprocess) -> Iterator[Fault]:
    for kind in FILTERS:
        if kind != to.filter:
            words = f"pictures are resized by the filter {kind} instead of {to.filter}"
            yield Fault(words=words, to=replace(to, filter=kind), square=_as_it_is)
    for kind in ("bilinear", "bicubic"):
        other = f", by {kind} instead of {to.filter}" * (kind != to.filter)
        words = f"pictures are resized without antialiasing{other}"
        yield Fault(words=words, to=replace(to, filter=kind), square=_unaveraged)
    for fit in FITS:
        if fit != to.fit:
            yield Fault(words=FIT_WORDS[fit], to=replace(to, fit=fit, short=0), square=_as_it_is)
    if to.side != to.size:
        words = "the margin is not cut off: the whole centre square is seen"
        yield Fault(words=words, to=replace(to, short=0), square=_as_it_is)


def _by_scale(bundle: Bundle, samples: Sequence[Sample], tried: dict[str, Floats], theirs: Floats) -> dict[str, Floats]:
    """What a fitted mean and deviation make of our answers, by the fault in words, from the nearest that were tried."""
    network, to = bundle.module(), bundle.preprocess
    squares = [_as_it_is(one.file, to) for one in samples]
    starts = {"": to, **{one.words: one.to for one in _scales(to)}}
    nearest = min(starts, key=lambda words: _apart(tried[words], theirs))

    def answers(to: Preprocess, count: int) -> Floats:
        return calibrated(bundle, logits_of_squares(network, squares[:count], to))

    other = other_scale(starts[nearest], answers, theirs)
    mean, std = (", ".join(f"{one:.3g}" for one in values) for values in (other.mean, other.std))
    return {f"the mean is about {mean} and the deviation {std}": answers(other, len(samples))}


def _unaveraged(file: bytes, to: Preprocess) -> NDArray[np.uint8]:
    pixels = torch.tensor(coloured(decode(file), to.channels))[None]
    return Unaveraged(to)(pixels)[0].permute(1, 2, 0).to(torch.uint8).numpy()


def _scales(to: Preprocess) -> Iterator[Fault]:
    for name, words in STATISTICS.items():
        mean, std = fixed_statistics(name, to.channels) or (to.mean, to.std)
        if (mean, std) != (to.mean, to.std):
            yield Fault(words=words, to=replace(to, mean=mean, std=std), square=_as_it_is)
    none, one = (0.0,) * to.channels, (1.0,) * to.channels
    others = {
        "the mean is not subtracted": (none, to.std),
        "the deviation is left out": (to.mean, one),
        "values go from 0 to 255 instead of to 1": (none, (1 / 255,) * to.channels),
        "values go from 0 to 255 instead of to 1, with mean and deviation": tuple(
            tuple(one / 255 for one in values) for values in (to.mean, to.std)
        ),
        "mean and deviation are in the order BGR": (to.mean[::-1], to.std[::-1]),
    }
    for words, (mean, std) in others.items():
        if (mean, std) != (to.mean, to.std):
            yield Fault(words=words, to=replace(to, mean=mean, std=std), square=_as_it_is)
