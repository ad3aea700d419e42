"""`tellapart advise`."""

import json
from typing import Any

import click

from tellapart.cli.options import json_option
from tellapart.cli.recipe_flags import DIVIDING, and_recipe, asked, flags_of


@click.command("advise", epilog="Examples: tellapart advise digits · tellapart advise FOLDER --weights FILE")
@and_recipe
@flags_of(*DIVIDING, "model.weights", "machine.device")
@json_option
def command(as_json: bool, **flags: Any) -> None:
    """Say which network, weights and settings suit SOURCE and this machine, why, and how long an epoch takes.

    Reads what pictures there are and times a few steps; trains nothing. docs/advise.md has the rules.
    """
    recipe, origins = asked(flags)
    from tellapart.cli.show import Asking, Screen
    from tellapart.workflow.advise import advise

    screen = Screen()
    found = screen.follow(advise(recipe, Asking(origins=origins, fetching=screen.fetching)))
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(found.lines()))
