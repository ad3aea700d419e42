"""`tellapart config`."""

from pathlib import Path
from typing import Any

import click

from tellapart.cli.options import runs_option
from tellapart.cli.recipe_flags import asked, recipe_flags
from tellapart.cli.verbs import Verbs


@click.group("config", cls=Verbs)
def command() -> None:
    """The recipe: every setting, its value, and where the value is from."""


@command.command("show", epilog="Example: tellapart config show --recipe cifar10-quick --lr 0.02")
@recipe_flags
@click.option("--run", help="Show the recipe of a run, as it was used.")
@click.option("--explain", is_flag=True, help="Say what each setting means, instead of where its value is from.")
@runs_option
def show(run: str | None, explain: bool, runs: Path, **flags: Any) -> None:
    """Print the recipe that these flags add up to, as TOML. `auto` is found out from the data when training starts."""
    if run:
        from tellapart.files import read_text
        from tellapart.run import Run

        click.echo(read_text(Run.open(runs, run).folder / "recipe.toml"), nl=False)
        return
    recipe, origins = asked(flags)
    click.echo(recipe.to_toml(meanings() if explain else origins), nl=False)


def meanings() -> dict[str, str]:
    """The help line and the range of every setting."""
    from tellapart.recipe import rules

    return {path: f"{rule.help} ({rule.wants()})" for path, rule in rules()}
