"""`tellapart train`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tellapart.cli.launch import begun_before, is_finished, restarts_option, resume_option, shared
from tellapart.cli.options import json_option, name_option, no_test_option, runs_option
from tellapart.cli.recipe_flags import asked, recipe_flags
from tellapart.cli.rehearse import instead, rehearsal_flags, rehearsed
from tellapart.errors import UsageError
from tellapart.run import place, refuse_several

if TYPE_CHECKING:
    from tellapart.recipe import Recipe
    from tellapart.run import Run
    from tellapart.workflow.events import Event
    from tellapart.workflow.train import Asking


BESIDE_DEBUG = "--debug makes no run and judges nothing."


@click.command("train", epilog="Examples: tellapart train digits · tellapart train FOLDER --model resnet18 --epochs 10")
@recipe_flags
@name_option
@runs_option
@click.option("--folds", type=click.IntRange(2, 1000), help="Train on each of so many folds; the test stays sealed.")
@click.option("--seeds", type=click.IntRange(2, 1000), help="Train with so many seeds; the test stays sealed.")
@no_test_option
@click.option("--debug", is_flag=True, help="Only take two steps and print each layer's shape and gradient; no run.")
@json_option
@restarts_option
@resume_option
@rehearsal_flags
@click.pass_obj
def command(
    words: str,
    name: str,
    runs: Path,
    folds: int | None,
    seeds: int | None,
    no_test: bool,
    debug: bool,
    as_json: bool,
    restarts: int,
    resume: bool,
    **flags: Any,
) -> int | None:
    """Train a classifier on SOURCE and judge it.

    SOURCE is a folder of pictures, a table of files and labels, tar shards, or the name of a data set such as digits.
    Without one, the handwritten digits that come with tellapart are used.
    """
    way, (recipe, origins) = instead(flags), asked(flags)
    many = "--folds" if folds else "--seeds" if seeds else ""
    if debug and (name or no_test or as_json or many):
        raise UsageError(BESIDE_DEBUG, "Leave --run, --no-test, --json, --folds and --seeds out.")
    _refuse_both(way, recipe, "--debug" if debug else many)
    way = "--debug" if debug else way
    begun = begun_before(runs, name, asked=resume)
    if begun is not None and place()[1] == 1 and is_finished(begun):
        return None
    if (code := shared(recipe, words, name, restarts)) is not None:
        return code
    from tellapart.workflow.stopping import Stopping

    with Stopping() as stopping:  # before torch is loaded, which takes its time
        from tellapart.cli.show import Asking, followed

        where = {"runs": runs, "name": name, "schedule": flags["schedule"], "command": words}
        asking = Asking(**where, open_test=not no_test, origins=origins)
        if way:
            asking = replace(asking, asked=stopping.asked)
            click.echo(rehearsed(way, recipe, asking, file=flags["find_lr"], as_json=as_json))
            return None
        followed(_beginning(recipe, begun, folds or 0, seeds or 0), asking, stopping, as_json=as_json)
    return None


def _refuse_both(way: str, recipe: "Recipe", many: str) -> None:
    """Raises UsageError for two things that were asked for and do not go together."""
    if way and many:
        raise UsageError(f"Asked for {way} and {many} together.", "Give one of them.")
    if way or many:
        refuse_several(way or many, recipe.machine.processes)


def _beginning(recipe: "Recipe", begun: "Run | None", folds: int, seeds: int) -> "Callable[[Asking], Iterator[Event]]":
    """What to begin: one training, several, or one that an earlier start of the same work has begun."""
    from tellapart.workflow.many import go_on, train_many
    from tellapart.workflow.ranks import in_world
    from tellapart.workflow.train import follow, train

    if begun is not None and is_finished(begun):  # which the other processes are to hear
        return lambda asking: in_world(lambda: iter(()), partial(follow, asking), asking.asked)
    if begun is not None:
        return lambda asking: go_on(begun, asking)
    if folds or seeds:
        return lambda asking: train_many(recipe, asking, folds=folds, seeds=seeds or 1)
    return lambda asking: train(recipe, asking)
