"""`tellapart train`."""

from pathlib import Path
from typing import Any

import click

from tellapart.cli.options import runs_option
from tellapart.cli.recipe_flags import asked, recipe_flags
from tellapart.errors import UsageError


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
@click.option("--debug", is_flag=True, help="Only take two steps and print each layer's shape and gradient; no run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with every figure on standard output.")
@click.pass_obj
def command(words: str, name: str, runs: Path, no_test: bool, debug: bool, as_json: bool, **flags: Any) -> None:
    """Train a classifier on SOURCE and judge it.

    SOURCE is a folder of pictures, a table of files and labels, tar shards, or the name of a data set such as digits.
    Without one, the handwritten digits that come with tellapart are used.
    """
    if debug and (name or no_test or as_json):
        raise UsageError("--debug makes no run and judges nothing.", "Leave --run, --no-test and --json out.")
    recipe, origins = asked(flags)
    from tellapart.cli.show import Screen, ended
    from tellapart.workflow.inspecting import inspected
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
        )
        if not debug:
            click.echo(ended(screen.follow(train(recipe, asking)), as_json=as_json))
            return
        for line in inspected(recipe, asking):
            click.echo(line)
