"""Runs: what stands in a folder of runs, sorted. No torch here."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tellapart.errors import StorageError
from tellapart.files import read_text
from tellapart.names import SCORES
from tellapart.run import Run, every_run, json_object


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run in the list. Figures are the plain data of `Figure`, or None.

    `gap`: how much larger the validation loss of the best epoch was than its training loss, which is the mean over that
    epoch, of changed pictures and by the loss of its recipe. Compare it between runs of one loss; None before any.
    `lineage`: what it was branched from, extended at, or repeats, in words. `loss` is of the validation part, `seconds`
    those of its epochs together, `started` the time at which it began to train; each None, or "", where there is none.
    `spread` and `loss_spread`: of several trainings, the plain data of `Spread` for their accuracies and losses in
    validation, where no figure of their own stands for all.
    """

    name: str
    state: str
    source: str
    model: str
    validation: dict[str, Any] | None
    test: dict[str, Any] | None
    heartbeat: str
    gap: float | None = None
    lineage: str = ""
    loss: dict[str, Any] | None = None
    seconds: float | None = None
    started: str = ""
    spread: dict[str, Any] | None = None
    loss_spread: dict[str, Any] | None = None


def _value(figure: dict[str, Any] | None, sign: int, spread: dict[str, Any] | None = None) -> float | None:
    if figure is None:
        return None if spread is None else sign * spread["mean"]
    return None if figure["value"] is None else sign * figure["value"]


SORTS: dict[str, Callable[[Row], Any]] = {
    "validation": lambda row: _value(row.validation, -1, row.spread),
    "test": lambda row: _value(row.test, -1),
    "loss": lambda row: _value(row.loss, 1, row.loss_spread),
    "gap": lambda row: row.gap,
    "seconds": lambda row: row.seconds,
    "name": lambda row: row.name,
    "started": lambda row: -datetime.fromisoformat(row.started).timestamp() if row.started else None,
}
"""What runs can be sorted by: the highest accuracy, the lowest loss, gap and seconds, and the latest come first."""


def listed(runs: Path, sort: str = "validation") -> list[Row]:
    """All runs, sorted by one of SORTS; by itself by validation, for choosing by the test would unseal it.

    Those without such a number come last; equal ones are in the order of their names.
    """
    keys = [(SORTS[sort](row), row) for row in map(_readable, every_run(runs))]
    found = sorted((pair for pair in keys if pair[0] is not None), key=lambda pair: (pair[0], pair[1].name))
    return [row for _, row in [*found, *(pair for pair in keys if pair[0] is None)]]


def _readable(run: Run) -> Row:
    try:
        row = replace(_row(run.name, run.status()), **_of_epochs(run), started=_started(run))
        return replace(row, **_spreads(run)) if run.several and row.validation is None else row
    except (StorageError, TypeError, KeyError, AttributeError):
        return Row(name=run.name, state="damaged", source="", model="", validation=None, test=None, heartbeat="")


def _spreads(run: Run) -> dict[str, dict[str, Any]]:
    """The spreads of several trainings that are summed up; of folds and seeds together, those over the seeds."""
    path = run.folder / "summary.json"
    found = (json_object(read_text(path)) or {}).get("spreads", []) if path.is_file() else []
    named = {one["name"]: one for one in found if one["n"] > 1}
    each = {"spread": named.get("accuracy"), "loss_spread": named.get("loss")}
    return {key: one for key, one in each.items() if one}


def _of_epochs(run: Run) -> dict[str, float]:
    """The gap of the best epoch and the seconds of all, where there are epochs."""
    epochs = {record["epoch"]: record for _, record in run.records() if record["kind"] == "epoch"}
    best = [record for record in epochs.values() if record["best"]]
    seconds = {"seconds": sum(record.get("seconds", 0.0) for record in epochs.values())} if epochs else {}
    return {**seconds, **({"gap": best[-1]["val_loss"] - best[-1]["train_loss"]} if best else {})}


def _started(run: Run) -> str:
    """When it began to train, as its environment.json says; nothing if that is no time with its zone."""
    path = run.folder / "environment.json"
    time = (json_object(read_text(path)) or {}).get("time", "") if path.is_file() else ""
    with contextlib.suppress(ValueError, TypeError):
        return time if datetime.fromisoformat(time).tzinfo else ""
    return ""


def _lineage(status: dict[str, Any]) -> Iterator[str]:
    """What a run goes back to: 'from step 40 of first', 'extended at epoch 2', 'again first'."""
    if "parent" in status:
        yield f"from step {status['parent']['step']} of {status['parent']['run']}"
    if "repeats" in status:
        yield f"again {status['repeats']['run']}"
    yield from (f"extended at epoch {entry['epoch']}" for entry in status.get("extended", []))


def _row(name: str, status: dict[str, Any]) -> Row:
    accuracies, losses = (
        {f["part"]: f for f in status.get("figures", []) if f["name"] in names} for names in (SCORES, ("loss",))
    )
    return Row(
        name=name,
        state=status.get("state", "unknown"),
        source=status.get("source", ""),
        model=status.get("model", ""),
        validation=accuracies.get("validation") or accuracies.get("out-of-fold"),
        test=accuracies.get("test"),
        heartbeat=status.get("heartbeat", ""),
        lineage=", ".join(_lineage(status)),
        loss=losses.get("validation") or losses.get("out-of-fold"),
    )
