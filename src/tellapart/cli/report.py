"""`tellapart report`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tellapart.cli.options import PATH, json_option, runs_option
from tellapart.errors import UsageError
from tellapart.recipe import printable

if TYPE_CHECKING:
    from tellapart.run import Run


@click.command("report", epilog="Examples: tellapart report RUN · tellapart report RUN --thesis --width 84mm")
@click.argument("run")
@click.option("--out", type=PATH, metavar="PATH", help="Write it there; report.html or thesis/ in the run if absent.")
@click.option("--thesis", is_flag=True, help="Write a folder for a thesis instead: figures, tables, formulas, methods.")
@click.option("--width", metavar="LENGTH", help="How wide its figures are, in mm, cm, in or pt (84mm if absent).")
@runs_option
@json_option
def command(run: str, out: Path | None, thesis: bool, width: str | None, runs: Path, as_json: bool) -> None:
    """Write what may be said of RUN as one HTML file: in English and Chinese, with every number's interval.

    It is made from the run folder alone, without pictures and weights, and opens no sealed test part. The file loads
    nothing, runs nothing, and can be printed. --thesis writes figures (PDF, SVG, PNG, and their numbers), tables,
    formulas and a paragraph on methods for LaTeX, with a document that takes them in.
    """
    from tellapart.run import Run

    if width is not None and not thesis:
        raise UsageError("--width is the width of the figures of --thesis.", "Give --thesis too, or leave it out.")
    found = Run.find(runs, run)
    _pack(found, out, "84mm" if width is None else width, as_json) if thesis else _page(found, out, as_json)


def _page(run: "Run", out: Path | None, as_json: bool) -> None:
    from tellapart.workflow.report import write_report

    found = write_report(run, out)
    if as_json:
        said = {"story": found.story, "unknown": found.unknown}
        click.echo(json.dumps({"format": 1, "file": str(found.file), "bytes": found.size, **said}, indent=1))
        return
    lines = [*found.story, *(["", "what is not known:"] if found.unknown else [])]
    lines += [*(f"- {line}" for line in found.unknown), *([""] if found.story else [])]
    click.echo("\n".join([*map(printable, lines), f"report: {found.file} ({found.size / 1e6:.1f} MB)"]))


def _pack(run: "Run", out: Path | None, width: str, as_json: bool) -> None:
    from tellapart.workflow.thesis import write_thesis

    found = write_thesis(run, width=width, out=out)
    if as_json:
        said = {"folder": str(found.folder), "files": found.files, "bytes": found.size, "lacks": found.lacks}
        click.echo(json.dumps({"format": 1, **said}, indent=1))
        return
    for line in found.lacks:
        click.echo(f"note: {line}", err=True)
    size = f"{found.files} files, {found.size / 1e6:.1f} MB"
    click.echo(f"thesis pack: {found.folder} ({size}); README.md says what is what")
