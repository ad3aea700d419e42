"""`tellapart cache`."""

import click

from tellapart.cli.verbs import Verbs
from tellapart.errors import UsageError


@click.group("cache", cls=Verbs)
def command() -> None:
    """The one folder where tellapart keeps data sets it fetched."""


@command.command("path")
def path() -> None:
    """Print the folder."""
    from tellapart.data.official import default_root

    click.echo(default_root())


@command.command("clear", epilog="Example: tellapart cache clear --yes")
@click.option("--yes", is_flag=True, help="Do it; without this nothing is removed.")
def clear(yes: bool) -> None:
    """Remove the data sets that were fetched into the folder, and what checks kept beside it. Anything else stays."""
    from tellapart.audit.facts import kept_files
    from tellapart.data.download import fetched
    from tellapart.data.official import default_root

    files = [*fetched(default_root()), *kept_files()]
    if not yes:
        raise UsageError(f"This would remove {len(files)} files in and beside {default_root()}.", "Say so with --yes.")
    for file in files:
        file.unlink()
    click.echo(f"{len(files)} files removed in and beside {default_root()}.")
