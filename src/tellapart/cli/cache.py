"""`tellapart cache`."""

import click

from tellapart.cli.verbs import Verbs
from tellapart.errors import UsageError


@click.group("cache", cls=Verbs)
def command() -> None:
    """The one folder where tellapart keeps data sets it fetched and lists of large folders."""


@command.command("path")
def path() -> None:
    """Print the folder."""
    from tellapart.data.official import default_root

    click.echo(default_root())


@command.command("clear", epilog="Example: tellapart cache clear --yes")
@click.option("--yes", is_flag=True, help="Do it; without this nothing is removed.")
def clear(yes: bool) -> None:
    """Remove the data sets that were fetched into the folder, and lists kept there. Whatever else lies there stays."""
    from tellapart.data.download import clear, fetched
    from tellapart.data.official import default_root
    from tellapart.data.saved import kept_files

    files, lists = fetched(default_root()), kept_files()
    what = f"{len(files)} fetched files and {len(lists)} lists of large folders"
    if not yes:
        raise UsageError(f"This would remove {what} in {default_root()}.", "Say so with --yes.")
    clear([*files, *lists], default_root())
    click.echo(f"{what} removed from {default_root()}.")
