"""`tellapart runs`."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tellapart.cli.options import json_option, runs_option
from tellapart.workflow.runs import SORTS, Row, listed


@click.command("runs")
@click.option(
    "--sort",
    type=click.Choice(tuple(SORTS)),
    default="validation",
    show_default=True,
    help="What comes first: the highest accuracy, the lowest loss (of validation), gap or seconds, or the latest.",
)
@runs_option
@json_option
def command(sort: str, runs: Path, as_json: bool) -> None:
    """List the runs, the best validation accuracy first, or sorted otherwise.

    The gap is validation loss less training loss in the best epoch: the larger, the more a run learned by heart. Of
    several trainings (--seeds) mean and standard deviation are shown, with n trainings.
    """
    rows = listed(runs, sort)
    if as_json:
        click.echo(json.dumps({"format": 1, "runs": [asdict(row) for row in rows]}, indent=1))
        return
    if not rows:
        click.echo(f"There is no run in {runs.absolute()} yet. Start with: tellapart train digits")
        return
    width = max(len(row.name) for row in rows)
    shown = sort if sort in EXTRA else ""
    head = f"{shown:>{LONG}}  " if shown else ""
    wide = max(22, *(max(len(share(row.validation, row.spread)), len(share(row.test))) for row in rows))
    click.echo(
        f"{'run':<{width}}  {'state':<11}  {'validation':<{wide}}  {'test':<{wide}}  {'gap':>6}  {head}source, model"
    )
    for row in rows:
        gap = "–" if row.gap is None else f"{row.gap:+.3f}"
        figures = f"{share(row.validation, row.spread):<{wide}}  {share(row.test):<{wide}}  {gap:>6}"
        figures += f"  {EXTRA[shown](row):>{LONG}}" if shown else ""
        about = ", ".join(filter(None, [row.source, row.model, row.lineage]))
        click.echo(f"{row.name:<{width}}  {row.state:<11}  {figures}  {about}")
    if sort == "test":
        click.echo("note: a run that is chosen by its test figure has no test any more; choose by validation", err=True)


LONG = 19
EXTRA: dict[str, Callable[[Row], str]] = {
    "loss": lambda row: _loss(row),
    "seconds": lambda row: "–" if row.seconds is None else f"{row.seconds:,.1f}",
    "started": lambda row: row.started[:LONG].replace("T", " ") or "–",
}
"""A column that is shown when runs are sorted by it."""


def _loss(row: Row) -> str:
    if row.loss is None and row.loss_spread is not None:
        return f"{row.loss_spread['mean']:.4f} ± {row.loss_spread['sd']:.4f}"
    return "–" if not row.loss or row.loss["value"] is None else f"{row.loss['value']:.4f}"


def share(figure: dict[str, Any] | None, spread: dict[str, Any] | None = None) -> str:
    """'98.1 % [95.7, 99.2]'; of several trainings '98.1 ± 0.4 % (n = 3)', mean and standard deviation; or a dash.
    ' mAP' stands behind a mean average precision.
    """
    if figure is None and spread is not None:
        return f"{100 * spread['mean']:.1f} ± {100 * spread['sd']:.1f} % (n = {spread['n']})"
    if figure is None:
        return "–"
    what = " mAP" * (figure["name"] == "mean average precision")
    return f"{100 * figure['value']:.1f} % [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]{what}"
