"""Flags that several verbs share, each said once."""

from collections.abc import Callable
from pathlib import Path

import click

from tellapart.recipe import rule_of

PATH = click.Path(path_type=Path)
runs_option = click.option("--runs", type=PATH, default=Path("runs"), show_default=True, help="Where run folders lie.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
no_test_option = click.option(
    "--no-test", is_flag=True, help="Leave the test part sealed while you are still trying things."
)
name_option = click.option(
    "--run",
    "--name",
    "name",
    default="",
    metavar="NAME",
    help="Name of the run folder; a fresh one that sorts by time when absent. (torchrun takes --name only.)",
)
device_option = click.option("--device", default="auto", show_default=True, help=rule_of("machine.device").help)
root_option = click.option("--root", default="", help=rule_of("data.root").help)
on_bad_option = click.option(
    "--on-bad",
    type=click.Choice(rule_of("data.on_bad").choices),
    default="stop",
    show_default=True,
    help=rule_of("data.on_bad").help,
)


def sized(function: Callable) -> Callable:
    """Add what a network by name can be built for."""
    for flag, kind, text in (
        ("--classes", click.IntRange(2), "Number of classes; 10 for a network by name."),
        ("--channels", click.IntRange(1, 4), "Channels of the picture; 3 for a network by name."),
        ("--size", click.IntRange(1, 4096), "Side of the picture in pixels; 32 for a network by name."),
    ):
        function = click.option(flag, type=kind, help=text)(function)
    return function


def network_options(function: Callable) -> Callable:
    """Add what says more of a network by name: its pictures, its classes, and what is changed in it."""
    said = rule_of("model.changes").help + "; repeatable."
    return sized(click.option("--change", "changes", multiple=True, help=said)(function))
