"""`tellapart cache`."""

import shutil

import click

from tellapart.errors import UsageError


@click.group("cache")
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
    """Remove everything in the folder. Runs and your own pictures are elsewhere and stay."""
    from tellapart.data.official import default_root

    folder = default_root()
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    if not yes:
        raise UsageError(f"This would remove {len(entries)} entries in {folder}.", "Say so with --yes.")
    for entry in entries:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    click.echo(f"{len(entries)} entries removed from {folder}.")
