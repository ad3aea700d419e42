"""What `data show` draws of a pipeline: the steps on one picture, and what the network sees of a source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tellapart.errors import UsageError


def show_steps(source: str, chain: str, out: Path | None) -> None:
    """What a chain of steps makes of one picture: a line a step, and a strip in `out`. Raises UsageError."""
    from tellapart.workflow.sees import walked

    if not Path(source).is_file():
        raise UsageError(f"--steps takes one picture file. Received: {source}.", "For a source: --sees FILE.png.")
    found = walked(Path(source), chain)
    click.echo("\n".join(f"{tile.caption.splitlines()[0]:<24}  {line}" for line, tile in found))
    if out:
        draw([tile for _, tile in found], len(found), out)


def show_sheet(source: str, flags: Mapping[str, Any], settings: tuple[str, ...], sees: Path) -> None:
    """What the network sees of a whole source, drawn."""
    from tellapart.cli.recipe_flags import asked
    from tellapart.workflow.sees import EPOCHS, sheet
    from tellapart.workflow.settle import Settled

    recipe, origins = asked({**flags, "recipe_name": None, "source": source, "settings": settings})
    draw(sheet(Settled(recipe, origins)), EPOCHS + 2, sees)


def draw(pictures: list, columns: int, path: Path) -> None:
    """Draw pictures with their captions, so many in a row (0: about square), and say where."""
    from tellapart.figures.grid import grid, save_picture

    save_picture(grid([pixels for pixels, _ in pictures], [name for _, name in pictures], columns=columns), path)
    click.echo(f"{len(pictures)} pictures drawn: {path.absolute()}", err=True)
