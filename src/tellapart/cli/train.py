"""`tellapart train`."""

from pathlib import Path
from typing import Any

import click

from tellapart.cli.options import name_option, no_test_option, runs_option
from tellapart.cli.recipe_flags import asked, recipe_flags


@click.command("train", epilog="Examples: tellapart train digits · tellapart train FOLDER --model resnet18 --epochs 10")
@recipe_flags
@name_option
@runs_option
@no_test_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with every figure on standard output.")
@click.pass_obj
def command(words: str, name: str, runs: Path, no_test: bool, as_json: bool, **flags: Any) -> None:
    """Train a classifier on SOURCE and judge it.

    SOURCE is a folder of pictures, a table of files and labels, tar shards, or the name of a data set such as digits.
    Without one, the handwritten digits that come with tellapart are used.
    """
    recipe, origins = asked(flags)
    from tellapart.workflow.stopping import Stopping

    with Stopping() as stopping:  # before torch is loaded, which takes its time
        from tellapart.cli.show import Asking, followed
        from tellapart.workflow.train import train

        asking = Asking(runs=runs, name=name, open_test=not no_test, command=words, origins=origins)
        followed(lambda asking: train(recipe, asking), asking, stopping, as_json=as_json)
