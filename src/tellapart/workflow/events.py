"""What a training tells while it goes: values that the command line prints and a notebook plots."""

from dataclasses import dataclass, field
from typing import Any

from tellapart.evaluation.metrics import Figure
from tellapart.recipe import printable
from tellapart.reporting.diagnosis import Finding
from tellapart.training.fit import Epoch, Step

__all__ = ["Begun", "Epoch", "Event", "Said", "Step", "Verdict", "line_of"]


@dataclass(frozen=True, kw_only=True)
class Said:
    """One line for a person. `stage` counts the nine steps of a training, 0 for a remark, -1 for a warning."""

    text: str
    stage: int = 0


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The loop starts: how many steps and epochs it will take at most, from which step."""

    run: str
    total_steps: int
    epochs: int
    first_step: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be said of the model.

    `called` is what to type for the run; `test` is opened, sealed, or none. `opened_before`: the runs that opened this
    test part earlier; None while sealed. `seen_before`: how many of
    its pictures they saw.
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

    @property
    def part(self) -> str:
        """The part the verdict rests on."""
        return "test" if self.opened_before is not None else "validation"


Event = Said | Begun | Step | Epoch | Verdict


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
        f"validation loss {event.val_loss:.4f}  accuracy {100 * event.val_accuracy:.1f} % (n = {event.val_n:,})  "
        f"{event.pictures_per_second:,.0f} pictures/s{'  best so far' if event.best else ''}"
    )
