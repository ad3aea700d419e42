"""`tellapart report`."""

import json
from pathlib import Path

import click

from tellapart.cli.options import PATH, json_option, runs_option
from tellapart.recipe import printable


@click.command("report", epilog="Examples: tellapart report RUN · tellapart report RUN --out thesis.html")
@click.argument("run")
@click.option("--out", type=PATH, metavar="FILE.html", help="Write it there; report.html in the run folder if absent.")
@runs_option
@json_option
def command(run: str, out: Path | None, runs: Path, as_json: bool) -> None:
    """Write what may be said of RUN as one HTML file: in English and Chinese, with every number's interval.

    It is made from the run folder alone, without pictures and weights, and opens no sealed test part. The file loads
    nothing, runs nothing, and can be printed.
    """
    from tellapart.run import Run
    from tellapart.workflow.report import write_report

    found = write_report(Run.find(runs, run), out)
    if as_json:
        said = {"story": found.story, "unknown": found.unknown}
        click.echo(json.dumps({"format": 1, "file": str(found.file), "bytes": found.size, **said}, indent=1))
        return
    lines = [*found.story, *(["", "what is not known:"] if found.unknown else [])]
    lines += [*(f"- {line}" for line in found.unknown), *([""] if found.story else [])]
    click.echo("\n".join([*map(printable, lines), f"report: {found.file} ({found.size / 1e6:.1f} MB)"]))
