"""What `tellapart train` can do instead of training: a dry run, a smoke run, the search for a learning rate."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tellapart.cli.options import PATH
from tellapart.errors import StorageError, UsageError
from tellapart.recipe import Recipe

if TYPE_CHECKING:
    from tellapart.workflow.train import Asking

FLAGS = (
    click.option("--dry-run", is_flag=True, help="Say what it would take: steps, time, memory, disk. Trains nothing."),
    click.option("--smoke", is_flag=True, help="Take one step through the whole path, to see that it works."),
    click.option(
        "--find-lr",
        type=PATH,
        is_flag=False,
        flag_value=Path(),
        metavar="[FILE.png]",
        help="Suggest a learning rate, by raising it until the loss runs off; draw that and list it beside.",
    ),
    click.option(
        "--plot-schedule", "schedule", type=PATH, metavar="FILE.png|.csv", help="Draw the learning rate of every step."
    ),
)


def rehearsal_flags(function: Callable) -> Callable:
    """Add the flags of what is done before or instead of a training."""
    for flag in reversed(FLAGS):
        function = flag(function)
    return function


def instead(flags: Mapping[str, Any]) -> str:
    """Which of them is asked for instead of a training: its flag, or "". Raises UsageError before torch is loaded."""
    _refuse_ending("--plot-schedule FILE", flags["schedule"], (".png", ".csv"))
    _refuse_ending("SOURCE --find-lr FILE", None if flags["find_lr"] == Path() else flags["find_lr"], (".png",))
    ways = {"--dry-run": flags["dry_run"], "--smoke": flags["smoke"], "--find-lr": flags["find_lr"] is not None}
    found = [flag for flag, on in ways.items() if on]
    if flags["schedule"] is not None and "--dry-run" not in found:
        found += ["--plot-schedule"] * bool(found)
    if len(found) > 1:
        raise UsageError(f"Asked for {found[0]} and {found[1]} together.", "Give one of them.")
    return found[0] if found else ""


def _refuse_ending(usage: str, path: Path | None, endings: tuple[str, ...]) -> None:
    if path is not None and path.suffix not in endings:
        raise UsageError(
            f"Expected {usage}, the file ending in {' or '.join(endings)}. Received: {str(path)!r}.",
            f"For example {usage.replace('FILE', 'rate.png')}.",
        )
    if path is not None and (path.is_dir() or not path.parent.is_dir()):  # known before an hour of training is over
        why = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise StorageError(f"{path} cannot be written: {why}.", "Name a file in a folder that is there.")


def rehearsed(way: str, recipe: Recipe, asking: "Asking", *, file: Path | None, as_json: bool) -> str:
    """Do what is asked for instead of a training; gives what to print."""
    from tellapart.cli.show import Screen
    from tellapart.workflow.find_rate import find_rate
    from tellapart.workflow.inspecting import inspected
    from tellapart.workflow.rehearse import dry_run, smoke

    screen, file = Screen(), None if file == Path() else file
    asking = replace(asking, progress=screen.decoding, fetching=screen.fetching)
    if way == "--debug":
        with screen.bar_shown():
            return "\n".join(inspected(recipe, asking))
    ways = {"--dry-run": dry_run, "--smoke": smoke, "--find-lr": partial(find_rate, file=file)}
    found = screen.follow(ways[way](recipe, asking))
    return json.dumps(found.to_json(), indent=1) if as_json else "\n".join(found.lines())
