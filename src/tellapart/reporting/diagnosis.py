"""Diagnosis: what the records of a training say of it, in words, each with the flag that remedies it; pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tellapart.evaluation.intervals import resolved
from tellapart.evaluation.judgement import worth_of
from tellapart.evaluation.metrics import Figure, difference, judge, softmax
from tellapart.evaluation.predictions import Predictions
from tellapart.figures.inert import in_line
from tellapart.recipe import Recipe
from tellapart.reporting.remedies import against_overfitting, against_underfitting

Epochs = Sequence[Mapping[str, Any]]
"""The epochs of metrics.jsonl, in order."""

FEW, LARGE, GAP = 1000, 1000, 0.05
"""Fewer training pictures are little data; more parameters for each of them, a large network; up to this gap between
training and validation accuracy a network fits."""
WAITS, COMPUTES = 0.3, 0.7
"""Shares of the time from which on a training is bound by its loader, or by its arithmetic."""
CLASS, COARSE = 5, 0.2
"""Pictures of a class that is missed when none is found; a difference that any validation part should show."""
EVERY_EPOCH, WHOLE = 0.5, 120.0
"""Seconds of waiting in an epoch, and in a training, below which a remedy is not worth a word."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is so: its label, the words for it, and what remedies it, as it is typed."""

    label: str
    text: str
    remedies: tuple[str, ...] = ()

    def line(self) -> str:
        """The finding on one line."""
        return f"{self.label}: {self.text}" + (f"; try {', or '.join(self.remedies)}" if self.remedies else "")


@dataclass(frozen=True, kw_only=True)
class About:
    """What must be known beside the records: the settled recipe, and facts of data, network and machine.

    commonest: the share of the commonest class in training. parameters: those that are trained. usual_lr: the usual
    one. decoded_gb: the size of all pictures if they are decoded in every epoch, else 0. leaked: pictures judged again.
    """

    recipe: Recipe
    num_train: int
    classes: int
    commonest: float
    parameters: int
    usual_lr: float
    device: str = "cpu"
    cores: int = 1
    decoded_gb: float = 0.0
    leaked: int = 0

    @property
    def halfway(self) -> float:
        """The accuracy half way between always saying the commonest class and being always right."""
        return (1 + self.commonest) / 2

    @property
    def large(self) -> bool:
        """Whether the network is large for so many pictures."""
        return self.parameters > LARGE * self.num_train

    @property
    def calmer(self) -> tuple[str, ...]:
        """What may help against over-fitting."""
        return against_overfitting(self.recipe, large=self.large)

    @property
    def bolder(self) -> tuple[str, ...]:
        """What may help against under-fitting."""
        return against_underfitting(self.recipe, usual_lr=self.usual_lr)


def watched(epochs: Epochs, about: About) -> list[Finding]:
    """What is already sure while a training runs."""
    falling = None if len(epochs) < 5 else _not_falling(epochs, about)
    found = [_not_finite(epochs), falling, overfitting(epochs, about), _waiting(epochs[-2:], about)]
    return [finding for finding in found if finding]


def concluded(
    epochs: Epochs, about: About, *, train: Predictions, validation: Predictions, test: Predictions | None
) -> list[Finding]:
    """What holds in the end, of the model that was kept. `train`: some training pictures, unchanged."""
    found = [_fit(epochs, about, judge(train)[0], judge(validation)[0]), tuned(validation, test) if test else None]
    found += [
        collapsed(validation, about),
        tiny(validation),
        label_noise(train, validation, about),
        leak(about),
        _waiting(epochs, about) or _computing(epochs, about),
    ]
    return [finding for finding in found if finding]


def ended_badly(message: str, about: About) -> Finding:
    """The finding of a training that was ended because its numbers were no longer usable."""
    label = "not finite" if any(word in message for word in ("is nan", "is inf", "not finite")) else "diverged"
    lr = min(about.recipe.optim.lr / 10, about.usual_lr)
    return Finding(label=label, text=message.rstrip("."), remedies=(f"--lr {lr:g}", "--set optim.clip=1"))


def _not_finite(epochs: Epochs) -> Finding | None:
    for epoch in epochs:
        for key, part in (("train_loss", "training"), ("val_loss", "validation")):
            if epoch[key] is None:
                text = f"the {part} loss of epoch {epoch['epoch'] + 1} is not a number"
                return Finding(label="not finite", text=text, remedies=(f"--lr {epoch['lr'] / 10:.3g}",))
    return None


def _not_falling(epochs: Epochs, about: About) -> Finding | None:
    """The training loss is not a hundredth below its beginning, and little is learned. A loss that doubled diverged."""
    losses = [epoch["train_loss"] for epoch in epochs]
    if about.recipe.data.several:
        return None
    if len(losses) < 3 or None in losses or max(epoch["val_accuracy"] for epoch in epochs) > about.halfway:
        return None
    now, lr = float(np.mean(losses[-max(2, len(losses) // 4) :])), about.recipe.optim.lr
    if min(now, losses[-1]) < 0.99 * losses[0]:
        return None
    text = f"the training loss is not falling in {len(losses)} epochs ({losses[0]:.3g} → {losses[-1]:.3g})"
    remedy = f"--lr {about.usual_lr / 10 if lr < about.usual_lr / 50 else lr / 10:g}"
    return Finding(label="diverged" if now > 2 * losses[0] else "not converging", text=text, remedies=(remedy,))


def overfitting(epochs: Epochs, about: About) -> Finding | None:
    """Training is learned and still falls, and validation loss has risen for good. Each is compared with itself only:
    label smoothing, augmentation and dropout lift the training loss above that of validation.

    A rise counts when the last tenth of the planned epochs (three or more) are all above the lowest by a tenth, or by
    2 / sqrt(n) of it, and 0.02; and longer, a third, while the rate is above that of the lowest epoch: it shakes.
    """
    losses = [epoch["val_loss"] for epoch in epochs]
    if not losses or None in losses or None in [epoch["train_loss"] for epoch in epochs]:
        return None
    low = int(np.argmin(losses))
    best, last = epochs[low], epochs[-1]
    long = max(3, math.ceil(last["epochs"] * (0.1 if last["lr"] <= best["lr"] else 1 / 3)))
    margin = 0.02 + best["val_loss"] * max(0.1, 2 / math.sqrt(best["val_n"]))
    start = max(epochs[0]["train_loss"], math.log(about.classes) if about.recipe.loss.name == "cross-entropy" else 0)
    if len(losses) - low <= long or min(losses[-long:]) <= best["val_loss"] + margin:
        return None
    if last["train_loss"] >= min(best["train_loss"], start / 2):
        return None
    text = (
        f"since epoch {low + 1} the validation loss rises ({best['val_loss']:.3g} → {last['val_loss']:.3g}) "
        f"while the training loss falls ({best['train_loss']:.3g} → {last['train_loss']:.3g}){causes(about)}"
    )
    return Finding(label="over-fitting", text=text, remedies=about.calmer)


def causes(about: About) -> str:
    """Why a network may learn its pictures by heart, from how many there are and how large it is; or nothing."""
    found, n = ["too little data"] * (about.num_train < FEW), about.parameters
    found += ["too large a network"] * about.large
    count = (f"{n / 1e6:,.0f} million" if n >= 1e6 else f"{n:,}") + " trained" * bool(about.recipe.model.freeze)
    return f" ({about.num_train:,} training pictures, {count} parameters: {' for '.join(found)})" if found else ""


def _fit(epochs: Epochs, about: About, train: Figure, validation: Figure) -> Finding:
    """How the model that was kept fits: one label, with training, validation and the gap between them."""
    gap, (low, high) = train.value - validation.value, difference(train, validation)
    text = (
        f"training {_share(train)}, validation {_share(validation)}, "
        f"gap {100 * gap:.1f} points [{100 * low:.1f}, {100 * high:.1f}]"
    )
    poor = train.high < about.halfway
    known = _not_finite(epochs[-1:]) or (_not_falling(epochs, about) if poor else None) or overfitting(epochs, about)
    if known:
        return Finding(label=known.label, text=f"{text}; {known.text}", remedies=known.remedies)
    if low > GAP:
        return Finding(
            label="over-fitting",
            text=f"{text}{causes(about)}",
            remedies=about.calmer,
        )
    if poor:
        text += f"; always saying the commonest class would give {100 * about.commonest:.1f} %"
        return Finding(label="under-fitting", text=text, remedies=about.bolder)
    if gap > GAP:
        risen = next(filter(None, (overfitting(epochs[:end], about) for end in range(len(epochs), 0, -1))), None)
        text += f": too few pictures to tell{f'; {risen.text}' if risen else ''}"
        return Finding(label="perhaps over-fitting", text=text)
    return Finding(label="fits well" if train.value >= 0.9 else "fits, with room to learn more", text=text)


def _share(figure: Figure) -> str:
    return f"{100 * figure.value:.1f} % (n = {figure.n:,})"


def tuned(validation: Predictions, test: Predictions) -> Finding:
    """Whether validation, by which settings and epoch were chosen, promises more than the test keeps."""
    ours, theirs = judge(validation)[0], judge(test)[0]
    low, high = difference(ours, theirs)
    if low > 0:
        meaning = "mis-tuned to validation, or the test pictures are harder; report the test"
    elif high < 0:
        meaning = "the test pictures are easier than those of validation"
    else:
        meaning = f"no sign of being mis-tuned to validation; up to {100 * high:.1f} points would not show"
    apart = f"{100 * (ours.value - theirs.value):+.1f} points [{100 * low:.1f}, {100 * high:.1f}]"
    return Finding(label="validation and test", text=f"{_share(ours)} and {_share(theirs)}, {apart}: {meaning}")


def collapsed(validation: Predictions, about: About) -> Finding | None:
    """Classes that are never found, of at least CLASS validation pictures each."""
    there = np.bincount(validation.labels, minlength=len(validation.classes))
    right = validation.labels[validation.logits.argmax(axis=1) == validation.labels]
    lost = np.flatnonzero((there >= CLASS) & (np.bincount(right, minlength=len(there)) == 0))
    if not len(lost):
        return None
    named = ", ".join(f"{in_line(validation.classes[k])} (n = {there[k]:,})" for k in lost[:3].tolist())
    more = f" and {len(lost) - 3} more" * (len(lost) > 3)
    remedies = ("--set loss.weights=balanced",) * (about.recipe.loss.weights == "none")
    return Finding(label="never found", text=f"not one picture of {named}{more}", remedies=(*remedies, "more pictures"))


def tiny(validation: Predictions) -> Finding | None:
    """A validation part that is too small to choose by, or to report."""
    accuracy, n = judge(validation)[0], len(validation)
    apart = resolved(accuracy.value, worth_of(accuracy))
    if apart <= COARSE:
        return None
    text = f"{n:,} pictures cannot tell accuracies apart that differ by less than {100 * apart:.0f} points"
    return Finding(label="tiny validation part", text=text, remedies=("--folds 5", "more pictures"))


def label_noise(train: Predictions, validation: Predictions, about: About) -> Finding | None:
    """Whether labels seem wrong, where at least half the way is learned: of the training pictures that are answered
    against their label, a quarter or more as surely as right answers on validation. Mistakes are made with doubt.

    A network that has learned wrong labels by heart contradicts none: then there is no finding.
    """
    right = validation.logits.argmax(axis=1) == validation.labels
    wrong = train.logits.argmax(axis=1) != train.labels
    if min(right.mean(), 1 - wrong.mean()) < about.halfway:
        return None
    sure = np.median(softmax(validation.logits).max(axis=1)[right])
    against = int((softmax(train.logits).max(axis=1)[wrong] >= sure).sum())
    if against < max(10, 0.02 * len(train), wrong.sum() / 4):
        return None
    text = f"it contradicts {against:,} of {len(train):,} training labels as surely as it is right on validation"
    return Finding(label="label noise suspected", text=text, remedies=("`tellapart check SOURCE --labels-out FILE`",))


def leak(about: About) -> Finding | None:
    """Pictures that are learned, or chosen by, and judged again."""
    text = f"{about.leaked:,} pictures have the pixels of one that is judged, so its numbers flatter"
    return Finding(label="leak", text=text, remedies=("--set data.leaks=drop",)) if about.leaked else None


def _shares(epochs: Epochs) -> tuple[float, float, float, str]:
    """The seconds, the shares of waiting for pictures and of computing, and all shares in words."""
    total = sum(epoch["seconds"] for epoch in epochs)
    spent = (sum(epoch.get(to, 0.0) * epoch["seconds"] for epoch in epochs) for to in ("waiting", "augmenting"))
    waiting, moving = (part / max(total, 1e-9) for part in spent)
    rest = 1 - waiting - moving
    words = f"{waiting:.0%} of the time went by waiting for pictures, {moving:.0%} augmenting, {rest:.0%} computing"
    return total, waiting, rest, words


def _waiting(epochs: Epochs, about: About) -> Finding | None:
    total, share, _, words = _shares(epochs)
    lately = min(_shares(epochs[-2:-1])[1], _shares(epochs[-1:])[1])  # the first epoch alone may fill a cache
    if min(share, lately) < WAITS or share * total < EVERY_EPOCH * len(epochs):
        return None
    machine = about.recipe.machine
    remedy = f"--set machine.workers={min(64, 2 * machine.workers or max(2, about.cores // 2))}"
    if about.decoded_gb > machine.cache:
        remedy = f"--set machine.cache={math.ceil(about.decoded_gb)}"
    text = f"{words}; without the wait it would be up to {1 / max(1 - share, 0.01):.1f} times as fast"
    return Finding(label="loader-bound", text=text, remedies=(remedy,))


def _computing(epochs: Epochs, about: About) -> Finding | None:
    total, _, share, words = _shares(epochs)
    machine, size, found = about.recipe.machine, about.recipe.input.size, []
    if total < WHOLE or share < COMPUTES:
        return None
    if about.device == "cpu" and machine.threads < about.cores:
        found.append(f"--set machine.threads={about.cores} (up to {about.cores / machine.threads:.1f} times as fast)")
    if about.device == "cuda" and machine.precision == "fp32":
        found.append("--set machine.precision=bf16")
    if size >= 64:
        found.append(f"--set input.size={size // 2} (about a quarter of the computing)")
    return Finding(label="compute-bound", text=words, remedies=tuple(found)) if found else None
