"""`tellapart train`."""

from pathlib import Path
from typing import Any

import click

from tellapart.cli.options import runs_option
from tellapart.cli.recipe_flags import asked, recipe_flags


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
@click.option("--folds", type=click.IntRange(2, 1000), help="Train on each of so many folds; the test stays sealed.")
@click.option("--seeds", type=click.IntRange(2, 1000), help="Train with so many seeds; the test stays sealed.")
@click.option("--no-test", is_flag=True, help="Leave the test part sealed while you are still trying things.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with every figure on standard output.")
@click.pass_obj
def command(
    words: str,
    name: str,
    runs: Path,
    folds: int | None,
    seeds: int | None,
    no_test: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train a classifier on SOURCE and judge it.

    SOURCE is a folder of pictures, a table of files and labels, tar shards, or the name of a data set such as digits.
    Without one, the handwritten digits that come with tellapart are used.
    """
    recipe, origins = asked(flags)
    from tellapart.cli.show import Screen, ended
    from tellapart.workflow.many import train_many
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
        many = folds or seeds
        events = train_many(recipe, asking, folds=folds or 0, seeds=seeds or 1) if many else train(recipe, asking)
        verdict = screen.follow(events)
    click.echo(ended(verdict, as_json=as_json))
