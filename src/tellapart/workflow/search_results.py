"""What a search found: its trials as values, as rows, and as a plot."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tellapart.figures.grid import save_picture
from tellapart.figures.panels import Panel, panels
from tellapart.workflow.search_space import Field, spelled

LEGIBLE = 48
"""Letters that fit below one panel."""
COSTS = ("parameters", "best_epoch", "seconds")
"""What a trial took, beside what it reached."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One trial: its values, how it stands, and its accuracy on validation, as the plain data of a Figure.

    state: finished, pruned, diverged, failed or running; `host` is the machine, `why` says what ended it. best_epoch:
    from 1, 0 for a head that was fitted and not beaten; seconds: since it was last taken up.
    """

    number: int
    values: dict[str, Any]
    state: str
    accuracy: dict[str, Any] | None = None
    loss: float | None = None
    parameters: int | None = None
    best_epoch: int | None = None
    seconds: float | None = None
    run: str = ""
    host: str = ""
    why: str = ""

    @property
    def costs(self) -> list[float | None]:
        """What it took, in the order of COSTS."""
        return [getattr(self, name) for name in COSTS]

    @property
    def share(self) -> str:
        """'98.1 % [95.7, 99.2] (n = 269)', or a dash."""
        if self.accuracy is None:
            return "–"
        value, low, high = (100 * self.accuracy[key] for key in ("value", "low", "high"))
        return f"{value:.1f} % [{low:.1f}, {high:.1f}] (n = {self.accuracy['n']:,})"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found. `tried` are the trials of all machines; `test` is sealed, or none."""

    run: str
    called: str
    folder: str
    paths: list[str]
    tried: list[Tried]
    wanted: int
    test: str

    @property
    def ranked(self) -> list[Tried]:
        """The trials that were trained to their end, best first; of equal ones the lower loss, then the earlier."""
        done = [one for one in self.tried if one.state == "finished" and one.accuracy]
        return sorted(done, key=lambda one: (-(one.accuracy or {})["value"], one.loss or 0.0, one.number))

    @property
    def best(self) -> Tried | None:
        """The first of them."""
        return next(iter(self.ranked), None)

    @property
    def as_good(self) -> int:
        """How many others lie within the interval of the best."""
        low = (self.best.accuracy or {})["low"] if self.best else 0.0
        return sum((one.accuracy or {})["value"] >= low for one in self.ranked[1:])

    def to_json(self) -> dict[str, Any]:
        """The search as plain data."""
        best = self.best and {**asdict(self.best), "within_its_interval": self.as_good}
        return {
            "format": 1,
            "run": self.run,
            "folder": self.folder,
            "fields": self.paths,
            "trials": [asdict(one) for one in self.tried],
            "best": best,
            "test": self.test,
        }


def tried(trials: Sequence[Any]) -> list[Tried]:
    """The trials of Optuna's database."""
    keys = ("accuracy", "loss", "host", "why", *COSTS)
    return [
        Tried(
            number=trial.number,
            values=dict(trial.params),
            state=trial.user_attrs["state"] if trial.state.is_finished() else "running",
            run=f"trial-{trial.number:03d}",
            **{key: trial.user_attrs[key] for key in keys if key in trial.user_attrs},
        )
        for trial in trials
    ]


def rows(found: Found) -> tuple[list[str], Iterator[list[object]]]:
    """The columns of the table and its rows, in the order of trying."""
    numbers = ("value", "low", "high", "n")
    columns = ["trial", *found.paths, "accuracy", *numbers[1:], "loss", *COSTS, "state", "run", "host"]

    def row(one: Tried) -> list[object]:
        values = [spelled(one.values[path]) for path in found.paths]
        figure = [(one.accuracy or {}).get(key, "") for key in numbers]
        costs = ["" if value is None else value for value in (one.loss, *one.costs)]
        return [one.number, *values, *figure, *costs, one.state, one.run, one.host]

    return columns, (row(one) for one in found.tried)


def _ticks(tried: Sequence[Tried], field: Field) -> list[tuple[float, str]]:
    """The values below an axis, as typed; where that is too long to stand side by side, by a trial that had it."""
    named = [(value, spelled(value)) for value in field.ends()]
    if sum(len(word) for _, word in named) > LEGIBLE:
        had = {one.values[field.path]: f"as {one.number}" for one in reversed(tried)}
        named = [(value, had.get(value, "")) for value, _ in named]
    return [(field.share(value), word) for value, word in named]


def drawn(found: Found, fields: Sequence[Field], path: Path) -> None:
    """Write the plot: accuracy over the trials with the best so far, then over each field. Faint: not finished."""
    shown = [one for one in found.tried if one.accuracy]
    last = max(1, len(found.tried) - 1)
    place = {one.number: n / last for n, one in enumerate(found.tried)}
    heights = {one.number: (one.accuracy or {})["value"] for one in shown}
    line, best = [], 0.0
    for one in shown:
        if one.state == "finished":
            line += [(place[one.number], best)] * bool(line)
            best = max(best, heights[one.number])
            line.append((place[one.number], best))
    over = [(place[one.number], heights[one.number], one.state == "finished") for one in shown]
    ticks = [(place[one.number], str(one.number)) for one in (found.tried[0], found.tried[-1])]
    first = Panel(label="trial", points=over, ticks=ticks, line=line)
    others = [
        Panel(
            label=f"{field.path}{' (log)' * field.log}",
            points=[(field.share(one.values[field.path]), heights[one.number], counts) for one, (*_, counts) in pairs],
            ticks=_ticks(found.tried, field),
        )
        for field in fields
        for pairs in [list(zip(shown, over, strict=True))]
    ]
    save_picture(panels(f"{found.run}: validation accuracy of {len(shown)} trials", [first, *others]), path)
