"""`tellapart search`."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tellapart.cli.options import json_option, runs_option
from tellapart.cli.recipe_flags import asked, recipe_flags
from tellapart.errors import UsageError

if TYPE_CHECKING:
    from tellapart.cli.show import Screen
    from tellapart.workflow.events import Event
    from tellapart.workflow.search_results import Found

EXAMPLE = "tellapart search digits --try optim.lr=1e-3..1 --try model.width=8,16,32 --trials 20"


@click.command("search", epilog=f"Example: {EXAMPLE}")
@recipe_flags
@click.option(
    "--try",
    "tries",
    multiple=True,
    metavar="SECTION.KEY=VALUES",
    help="What is varied: a range such as optim.lr=1e-4..1e-1, or values such as model.width=8,16,32.",
)
@click.option("--trials", type=int, help="How many trainings in all.  [default: 20, or all combinations]")
@click.option(
    "--prune",
    type=click.Choice(("median", "halving")),
    default=None,
    help="End a trial after an epoch when half of the others were better by then, or by successive halving.",
)
@click.option(
    "--storage",
    metavar="URL",
    default="",
    envvar="TELLAPART_STORAGE",
    help="A database for many machines: postgresql://USER@HOST/DATABASE.  [default: a file in the folder]",
)
@click.option("--resume", metavar="NAME", help="Go on with a search that was stopped.")
@click.option("--run", "name", default="", metavar="NAME", help="Name of the folder, with a run for each trial in it.")
@runs_option
@json_option
@click.pass_obj
def command(
    words: str,
    tries: tuple[str, ...],
    trials: int | None,
    prune: str | None,
    storage: str,
    resume: str | None,
    name: str,
    runs: Path,
    as_json: bool,
    **flags: Any,
) -> None:
    """Try values of some settings on SOURCE, and rank them by validation accuracy.

    Each trial is a training of its own, and the test part stays sealed in all of them.
    """
    recipe, origins = asked(flags)
    if resume and (origins or tries or name or prune):
        raise UsageError("--resume goes on with what was asked before.", "Only --trials and --storage go with it.")
    from tellapart.cli.show import Screen
    from tellapart.run import Run
    from tellapart.workflow.search import search, search_again
    from tellapart.workflow.search_database import shown
    from tellapart.workflow.stopping import Stopping
    from tellapart.workflow.train import Asking

    screen = Screen()
    with Stopping() as stopping:
        plain = shown(storage) if storage else ""
        asking = Asking(
            runs=runs,
            name=name,
            command=shlex.join(word.replace(storage, plain) if storage else word for word in shlex.split(words)),
            origins=origins,
            asked=stopping.asked,
            progress=screen.decoding,
            fetching=screen.fetching,
        )
        if resume:
            events = search_again(Run.find(runs, resume), asking, trials=trials, storage=storage)
        else:
            events = search(recipe, asking, tries=tries, trials=trials, prune=prune or "", storage=storage)
        found = followed(events, screen)
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(lines(found)))


def followed(events: "Iterator[Event | Found]", screen: "Screen") -> "Found":
    """Show every event; the last one, what was found, is returned instead."""
    from tellapart.workflow.search_results import Found

    found = None
    with screen.bar_shown():
        for event in events:
            if isinstance(event, Found):
                found = event
            else:
                screen.show(event)
    if found is None:
        raise RuntimeError("a search ended without a result")
    return found


def lines(found: "Found") -> Iterator[str]:
    """The trials as a table, best first, and what may be said of the best."""
    from tellapart.workflow.search_results import COSTS
    from tellapart.workflow.search_space import spelled

    rest = [one for one in found.tried if one not in found.ranked]
    costs = [name.replace("_", " ") for name in COSTS]
    rows = [["trial", *found.paths, "validation accuracy [95 % interval]", *costs, "state"]]
    for one in [*found.ranked, *rest]:
        took = ["–" if cost is None else f"{cost:,}" for cost in one.costs]
        rows.append([one.run, *(spelled(one.values[path]) for path in found.paths), one.share, *took, one.state])
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    yield from ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    yield ""
    running = [f"{one.run} on {one.host or 'another machine'}" for one in found.tried if one.state == "running"]
    if running:
        yield f"Still running in other processes: {', '.join(running)}."
    if found.best is None:
        yield "No trial was trained to its end."
        return
    yield f"best: {found.called}/{found.best.run}, validation accuracy {found.best.share}"
    of = len(found.tried) - len(running)
    yield f"It is the best of {of} tried, chosen by the pictures it is judged by: the number flatters it."
    yield f"Others that were trained to their end and lie within its interval, perhaps as good: {found.as_good}."
    if found.test == "sealed":
        best = f"{found.called}/{found.best.run}"
        yield f"The test part is still sealed in all of them; `tellapart test {best}` opens it with this one."
    yield f"folder: {found.folder} (trials.csv, trials.png)"
