"""`tellapart split`."""

import shlex
from pathlib import Path
from typing import Any

import click

from tellapart.cli.recipe_flags import DIVIDING, and_recipe, asked, flags_of
from tellapart.errors import UsageError
from tellapart.recipe import rule_of


@click.command("split", epilog="Example: tellapart split FOLDER --folds 5 --out split.csv")
@and_recipe
@flags_of(*DIVIDING)
@click.option("--folds", type=click.IntRange(2, 1000), help="Deal what is not sealed into this many folds as well.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.csv", help="Write the split; it may be edited.")
def command(folds: int | None, out: Path | None, **flags: Any) -> None:
    """Divide the pictures of SOURCE into train, validation and test, and write that down.

    Every class is spread evenly; equal pictures and groups stay together; a hash of the content decides, so that
    adding pictures moves few others. `tellapart train SOURCE --split FILE.csv` trains with it.
    """
    recipe, origins = asked(flags)
    from tellapart.cli.data_words import summary_lines
    from tellapart.cli.show import Screen
    from tellapart.files import write_atomically
    from tellapart.workflow.settle import Settled
    from tellapart.workflow.split import split

    screen = Screen()
    with screen.bar_shown():
        made = split(Settled(recipe, origins), folds=folds or 0, progress=screen.decoding, fetching=screen.fetching)
    click.echo("\n".join(summary_lines(made.summary)))
    if out is not None:
        if out.is_file() and out.read_bytes() != made.text.encode("utf-8", "surrogateescape"):
            raise UsageError(f"{out} exists, and is not this split: it may have been edited.", "Name another file.")
        write_atomically(out, made.text)
        again = [path for path in DIVIDING if path in origins and path != "data.split"]  # the same pictures
        flags_again = [word for path in again for word in (rule_of(path).flag, str(recipe.values()[path]))]
        words = [recipe.data.source, *flags_again, "--split", str(out), *(["--folds", str(folds)] if folds else [])]
        click.echo(f"written: {out.absolute()}", err=True)
        click.echo(f"train with it: tellapart train {shlex.join(words)}", err=True)
