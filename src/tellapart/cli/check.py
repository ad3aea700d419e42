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
from tellapart.errors import ProblemsFound, UsageError
from tellapart.recipe import printable

if TYPE_CHECKING:
    from tellapart.audit.findings import Finding
    from tellapart.models.pretrained import Pretrained
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
@click.option("--weights", type=file, metavar="FILE", help="Judge labels by this pretrained torchvision classifier.")
@click.option("--model", default="", metavar="NAME", help="Which classifier FILE is of, where its tensors do not tell.")
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
    weights: Path | None,
    model: str,
    as_json: bool,
    **flags: Any,
) -> None:
    """Read every file of SOURCE whole and say what is wrong with it. Nothing of SOURCE is written to.

    Ends with 1 when something serious was found, else with 0.
    """
    from tellapart.cli.bar import download_bar
    from tellapart.workflow import check as checking

    chosen = [name.strip() for name in only.split(",") if name.strip()]
    network = _network(weights, model, judged=not chosen or "labels" in chosen or labels_out is not None)
    recipe = given(flags, {"data.source": source, "data.root": root})
    checking.refuse_outputs(recipe, html, quarantine, once=[labels_out, groups_out])  # before minutes of reading
    with download_bar() as bar:
        checked = checking.check(
            recipe,
            only=chosen,
            fresh=fresh,
            weights=network,
            progress=lambda done, total: bar(done, total, "reading"),
            looking=lambda done, total: bar(done, total, "looking at labels"),
        )
    click.echo(json.dumps(document(checked), indent=1) if as_json else "\n".join(lines(checked, most)))
    _write(checked, html=html, quarantine=quarantine, labels_out=labels_out, groups_out=groups_out)
    serious = [one.kind for one in checked.findings if one.severity == "serious"]
    if serious:
        raise ProblemsFound(f"Something serious was found: {', '.join(serious)}.")


def _write(
    checked: "Checked", *, html: Path | None, quarantine: Path | None, labels_out: Path | None, groups_out: Path | None
) -> None:
    """Write the files that were asked for, and say where they are."""
    from tellapart.workflow import check as checking

    if html:
        checking.write_html(checked, html)
        click.echo(f"page: {html.absolute()}", err=True)
    outputs = (
        (quarantine, checking.write_quarantine, "files that cannot be read"),
        (labels_out, checking.write_labels, "doubtful labels to review"),
        (groups_out, checking.write_groups, "groups to be kept in one part"),
    )
    for path, write, what in outputs:
        if path:
            click.echo(f"{write(checked, path)} {what}: {path.absolute()}", err=True)
    if labels_out and (lacking := checking.labels.lacking(checked.seen.facts, checked.seen.doubts)):
        click.echo(printable(lacking), err=True)


def _network(weights: Path | None, model: str, *, judged: bool) -> "Pretrained | None":
    """The pretrained network that --weights and --model name. judged: whether labels are looked at."""
    from tellapart.models.pretrained import given as network_of

    if model and weights is None:
        raise UsageError(f"--model {model} says of which network --weights is, and there is none.", "Give --weights.")
    if weights and not judged:
        raise UsageError("--weights judges labels, which --only leaves out.", "Add labels to --only.")
    return network_of(weights, model) if weights else None


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
        "said": checked.said(),
        "findings": [asdict(one) for one in checked.findings],
    }


def lines(checked: "Checked", most: int) -> Iterator[str]:
    """The check for a person."""
    first, *more = checked.said()
    yield printable(f"{checked.source}: {first}")
    yield from map(_shown, more)
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
