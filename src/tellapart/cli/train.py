"""`tellapart train`."""

from pathlib import Path
from typing import Any

import click

from tellapart.cli.options import runs_option
from tellapart.cli.recipe_flags import asked, recipe_flags
from tellapart.cli.rehearse import instead, rehearsal_flags, rehearsed


@click.command("train", epilog="Examples: tellapart train digits · tellapart train FOLDER --model resnet18 --epochs 10")
@recipe_flags
@click.option(
    "--run",
    "name",
    default="",
    metavar="NAME",
    help="Name of the run folder; a fresh one that sorts by time when absent.",
)
@runs_option
@click.option("--no-test", is_flag=True, help="Leave the test part sealed while you are still trying things.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with every figure on standard output.")
@rehearsal_flags
@click.pass_obj
def command(words: str, name: str, runs: Path, no_test: bool, as_json: bool, **flags: Any) -> None:
    """Train a classifier on SOURCE and judge it.

    SOURCE is a folder of pictures, a table of files and labels, tar shards, or the name of a data set such as digits.
    Without one, the handwritten digits that come with tellapart are used.
    """
    way, (recipe, origins) = instead(flags), asked(flags)
    from tellapart.cli.show import Screen, ended
    from tellapart.workflow.stopping import Stopping
    from tellapart.workflow.train import Asking, train

    screen = Screen()
    with Stopping() as stopping:
        asking = Asking(
            runs=runs,
            name=name,
            open_test=not no_test,
            command=words,
            origins=origins,
            asked=stopping.asked,
            progress=screen.decoding,
            fetching=screen.fetching,
            schedule=flags["schedule"],
        )
        if way:
            click.echo(rehearsed(way, recipe, asking, screen, file=flags["find_lr"], as_json=as_json))
            return
        verdict = screen.follow(train(recipe, asking))
    click.echo(ended(verdict, as_json=as_json))
