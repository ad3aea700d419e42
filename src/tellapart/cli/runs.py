"""`tellapart runs`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tellapart.cli.options import json_option, runs_option


@click.command("runs")
@runs_option
@json_option
def command(runs: Path, as_json: bool) -> None:
    """List the runs, the best validation accuracy first.

    The gap is validation loss less training loss in the best epoch: the larger, the more a run learned by heart.
    """
    from tellapart.workflow.runs import listed

    rows = listed(runs)
    if as_json:
        click.echo(json.dumps({"format": 1, "runs": [asdict(row) for row in rows]}, indent=1))
        return
    if not rows:
        click.echo(f"There is no run in {runs.absolute()} yet. Start with: tellapart train digits")
        return
    width = max(len(row.name) for row in rows)
    click.echo(f"{'run':<{width}}  {'state':<11}  {'validation':<22}  {'test':<22}  {'gap':>6}  source, model")
    for row in rows:
        gap = "–" if row.gap is None else f"{row.gap:+.3f}"
        figures = f"{share(row.validation):<22}  {share(row.test):<22}  {gap:>6}"
        about = ", ".join(filter(None, [row.source, row.model, row.lineage]))
        click.echo(f"{row.name:<{width}}  {row.state:<11}  {figures}  {about}")


def share(figure: dict[str, Any] | None) -> str:
    """'98.1 % [95.7, 99.2]', or a dash."""
    if figure is None:
        return "–"
    return f"{100 * figure['value']:.1f} % [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"
