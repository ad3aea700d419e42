"""`tellapart check`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tellapart.cli.options import json_option, root_option
from tellapart.cli.recipe_flags import FINDING, flags_of, given
from tellapart.errors import ProblemsFound
from tellapart.recipe import printable

if TYPE_CHECKING:
    from tellapart.audit.findings import Finding
    from tellapart.workflow.check import Checked

COLOURS = {"serious": "red", "warning": "yellow", "info": "cyan"}
file = click.Path(path_type=Path, dir_okay=False)


@click.command("check", epilog="Examples: tellapart check digits · tellapart check FOLDER --html check.html")
@click.argument("source")
@root_option
@flags_of(*FINDING, "data.split")
@click.option("--only", default="", metavar="CHECK,CHECK", help="Only these checks, such as duplicates,labels.")
@click.option("--fresh", is_flag=True, help="Read every file again, also when nothing changed since the last check.")
@click.option("--most", default=5, show_default=True, type=click.IntRange(0), help="Files to name for each finding.")
@click.option("--html", type=file, metavar="FILE.html", help="Write a page with thumbnails.")
@click.option("--quarantine", type=file, metavar="FILE.csv", help="Write the files that cannot be read, with reasons.")
@click.option("--labels-out", type=file, metavar="FILE.csv", help="Write the doubtful labels, to be reviewed.")
@click.option("--groups-out", type=file, metavar="FILE.csv", help="Write what belongs in one part, for --split.")
@json_option
def command(
    source: str,
    root: str,
    only: str,
    fresh: bool,
    most: int,
    html: Path | None,
    quarantine: Path | None,
    labels_out: Path | None,
    groups_out: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Read every file of SOURCE whole and say what is wrong with it. Nothing of SOURCE is written to.

    Ends with 1 when something serious was found, else with 0.
    """
    from tellapart.cli.bar import download_bar
    from tellapart.workflow import check as checking

    chosen = [name.strip() for name in only.split(",") if name.strip()]
    with download_bar() as bar:
        checked = checking.check(
            given(flags, {"data.source": source, "data.root": root}),
            only=chosen,
            fresh=fresh,
            progress=lambda done, total: bar(done, total, "reading"),
        )
    click.echo(json.dumps(document(checked), indent=1) if as_json else "\n".join(lines(checked, most)))
    if html:
        checking.write_html(checked, html)
        click.echo(f"page: {html.absolute()}", err=True)
    if quarantine:
        count = checking.write_quarantine(checked, quarantine)
        click.echo(f"{count} files that cannot be read: {quarantine.absolute()}", err=True)
    if labels_out:
        count = checking.write_labels(checked, labels_out)
        click.echo(f"{count} doubtful labels to review: {labels_out.absolute()}", err=True)
    if groups_out:
        count = checking.write_groups(checked, groups_out)
        click.echo(f"{count} groups to be kept in one part: {groups_out.absolute()}", err=True)
    serious = [one.kind for one in checked.findings if one.severity == "serious"]
    if serious:
        raise ProblemsFound(f"Something serious was found: {', '.join(serious)}.")


def document(checked: "Checked") -> dict:
    """The check as one JSON document."""
    facts = checked.seen.facts
    return {
        "format": 1,
        "source": checked.source,
        "files": len(facts) + len(facts.index.ignored),
        "pictures": len(facts.whole()),
        "classes": list(facts.index.classes),
        "seconds": round(checked.seconds, 3),
        "findings": [asdict(one) for one in checked.findings],
    }


def lines(checked: "Checked", most: int) -> Iterator[str]:
    """The check for a person."""
    yield printable(f"{checked.source}: {checked.line()}")
    width = max((len(one.kind) for one in checked.findings), default=0)
    for one in checked.findings:
        yield ""
        yield from _finding(one, width, most)
    if not checked.findings:
        yield "nothing was found"


def _finding(one: "Finding", width: int, most: int) -> Iterator[str]:
    tone = click.style(f"{one.severity:<7}", fg=COLOURS[one.severity], bold=True) if sys.stdout.isatty() else None
    yield f"{tone or f'{one.severity:<7}'}  {one.kind:<{width}}  {_shown(one.title)}"
    rest = [one.detail, *(f"{key}  {note}" for key, note in one.files[:most])]
    rest += [f"… {len(one.files) - most:,} more"] if len(one.files) > most > 0 else []
    rest += [f"→ {one.fix}"] if one.fix else []
    yield from (f"{'':<{width + 9}}  {_shown(line)}" for line in rest if line)


def _shown(text: str) -> str:
    from tellapart.data.sources.listing import shown

    return printable(shown(text))
