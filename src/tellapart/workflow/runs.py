"""Runs: what stands in a folder of runs, best first. No torch here."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tellapart.errors import StorageError
from tellapart.run import Run, every_run


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run in the list. Figures are the plain data of `Figure`, or None.

    `gap`: how much larger the validation loss of the best epoch was than its training loss, which is the mean over that
    epoch, of changed pictures and by the loss of its recipe. Compare it between runs of one loss; None before any.
    `lineage`: what it was branched from, extended at, or repeats, in words.
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


def listed(runs: Path) -> list[Row]:
    """All runs, the best validation accuracy first: choosing by the test would unseal it. Others come last."""
    rows = [_readable(run) for run in every_run(runs)]
    return sorted(rows, key=lambda row: (-(row.validation["value"] if row.validation else -1.0), row.name))


def _readable(run: Run) -> Row:
    try:
        return replace(_row(run.name, run.status()), gap=_gap(run))
    except (StorageError, TypeError, KeyError, AttributeError):
        return Row(name=run.name, state="damaged", source="", model="", validation=None, test=None, heartbeat="")


def _gap(run: Run) -> float | None:
    if not (run.folder / "metrics.jsonl").is_file():
        return None
    best = [record for _, record in run.records() if record["kind"] == "epoch" and record["best"]]
    return best[-1]["val_loss"] - best[-1]["train_loss"] if best else None


def _lineage(status: dict[str, Any]) -> Iterator[str]:
    """What a run goes back to: 'from step 40 of first', 'extended at epoch 2', 'again first'."""
    if "parent" in status:
        yield f"from step {status['parent']['step']} of {status['parent']['run']}"
    if "repeats" in status:
        yield f"again {status['repeats']['run']}"
    yield from (f"extended at epoch {entry['epoch']}" for entry in status.get("extended", []))


def _row(name: str, status: dict[str, Any]) -> Row:
    accuracies = {f["part"]: f for f in status.get("figures", []) if f["name"] == "accuracy"}
    return Row(
        name=name,
        state=status.get("state", "unknown"),
        source=status.get("source", ""),
        model=status.get("model", ""),
        validation=accuracies.get("validation") or accuracies.get("out-of-fold"),
        test=accuracies.get("test"),
        heartbeat=status.get("heartbeat", ""),
        lineage=", ".join(_lineage(status)),
    )
