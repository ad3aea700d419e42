"""`tellapart baseline`."""

import json
from typing import Any

import click

from tellapart.cli.options import json_option
from tellapart.cli.recipe_flags import DIVIDING, and_recipe, asked, flags_of
from tellapart.errors import UsageError


@click.command("baseline", epilog="Examples: tellapart baseline digits · tellapart baseline FOLDER --weights default")
@and_recipe
@flags_of(*DIVIDING, "data.overlay", "model.weights", "model.name", "machine.device")
@json_option
def command(as_json: bool, **flags: Any) -> None:
    """Judge simple classifiers on SOURCE by its validation part: what training has to beat.

    They work on the features of a pretrained network (--weights FILE, or a file that torch has fetched before), or on
    the pixels of a small grey copy. The test part stays sealed.
    """
    recipe, origins = asked(flags)
    if origins.get("model.name", "").startswith("--") and not recipe.model.weights:
        message = f"--model {recipe.model.name} says of which network --weights is, and there is none."
        raise UsageError(message, "Give --weights default, or a file.")
    from tellapart.cli.show import Asking, Screen
    from tellapart.workflow.baseline import baseline
    from tellapart.workflow.stopping import Stopping

    with Stopping() as stopping:
        screen = Screen()
        told = {"progress": screen.decoding, "fetching": screen.fetching}
        found = screen.follow(baseline(recipe, Asking(origins=origins, asked=stopping.asked, **told)))
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(found.lines()))
