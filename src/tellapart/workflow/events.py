"""What a training tells while it goes: values that the command line prints and a notebook plots."""

import math
from dataclasses import dataclass, field
from typing import Any

from tellapart.evaluation.metrics import Figure
from tellapart.evaluation.several import Spread
from tellapart.recipe import printable
from tellapart.reporting.diagnosis import Finding
from tellapart.training.fit import Epoch, Step
from tellapart.workflow.settle_marks import key_of

__all__ = ["Begun", "Epoch", "Event", "Member", "Said", "Step", "Summary", "Verdict", "as_json", "line_of"]


@dataclass(frozen=True, kw_only=True)
class Said:
    """One line for a person. `stage` counts the nine steps of a training, 0 for a remark, -1 for a warning."""

    text: str
    stage: int = 0


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The loop starts: how many steps and epochs it will take at most, from which step; `of` which fold or seed."""

    run: str
    total_steps: int
    epochs: int
    first_step: int = 0
    of: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be said of the model.

    `called` is what to type for the run; `test` is opened, sealed, or none. `opened_before`: the runs that opened this
    test part earlier; None while sealed. `seen_before`: how many of
    its pictures they saw. `baselines`: what simple classifiers reach, as accuracy on the same parts.
    """

    run: str
    called: str
    folder: str
    model: str
    classes: tuple[str, ...]
    figures: list[Figure]
    by_class: list[Figure] = field(default_factory=list)
    opened_before: list[str] | None = None
    seen_before: int = 0
    test: str = ""
    seconds: float = 0.0
    origin: dict[str, Any] = field(default_factory=dict)
    diagnosis: list[Finding] = field(default_factory=list)
    baselines: list[Figure] = field(default_factory=list)

    @property
    def part(self) -> str:
        """The part the verdict rests on."""
        return "test" if self.opened_before is not None else "validation"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One training of several: its run, its seed, the fold it is judged by, and its headline figures there.

    One that diverged has none of these; `why` says where it did.
    """

    run: str
    seed: int
    fold: int | None
    figures: list[Figure] = field(default_factory=list)
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What may be said of several trainings of one recipe.

    `pooled` are the out-of-fold figures: of every picture that is not sealed, once for each seed, which they are
    `about` when there are several; `by_class` is for one seed. Both are left out where a fold
    diverged. `test` is sealed, opened (by one of them), or none.
    """

    run: str
    called: str
    folder: str
    members: list[Member]
    spreads: list[Spread]
    pooled: list[Figure]
    by_class: list[Figure]
    test: str

    @property
    def diverged(self) -> list[Member]:
        """The trainings that no figure counts."""
        return [one for one in self.members if one.why]

    def to_json(self) -> dict[str, Any]:
        """The summary as plain data, without the place it lies in: equal trainings have equal ones."""
        members = [{**vars(one), "figures": [figure.to_json() for figure in one.figures]} for one in self.members]
        return {
            "format": 1,
            "run": self.run,
            "members": members,
            "spreads": [vars(spread) for spread in self.spreads],
            "out_of_fold": [figure.to_json() for figure in [*self.pooled, *self.by_class]],
            "test": self.test,
        }


Event = Said | Begun | Step | Epoch | Verdict | Summary


def as_json(record: Step | Epoch) -> dict[str, float | int | bool | str | None]:
    """A record as one object of metrics.jsonl: plain numbers, no tensor."""
    kind = "epoch" if isinstance(record, Epoch) else "step"
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__ if name != "scored"}
    if isinstance(record, Epoch):
        fields = {key_of(record.scored) if name == "val_accuracy" else name: of for name, of in fields.items()}
    bad = [name for name, value in fields.items() if isinstance(value, float) and not math.isfinite(value)]
    return {"kind": kind, **fields, **dict.fromkeys(bad)}


def line_of(event: Event) -> str | None:
    """What an event says to a person, as one line; None for those that are only counted or come as a table."""
    if isinstance(event, Said):
        lead = f"{event.stage}/9 " if event.stage > 0 else "note: " if event.stage < 0 else "    "
        return printable(lead + event.text)
    if isinstance(event, Step) and event.loss is not None:
        return f"step {event.step:,}  loss {event.loss:.4f}  rate {event.lr:.3g}  gradient {event.grad_norm:.3g}"
    if not isinstance(event, Epoch):
        return None
    return (
        f"epoch {event.epoch + 1}/{event.epochs}  train loss {event.train_loss:.4f}  "
        f"validation loss {event.val_loss:.4f}  {event.scored} {100 * event.val_accuracy:.1f} % (n = {event.val_n:,})  "
        f"{event.pictures_per_second:,.0f} pictures/s{'  best so far' if event.best else ''}"
    )
