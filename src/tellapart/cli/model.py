"""`tellapart model`."""

import json

import click

from tellapart.cli.model_list import command as list_command
from tellapart.cli.options import json_option
from tellapart.cli.verbs import Verbs
from tellapart.errors import UsageError


@click.group("model", cls=Verbs)
def command() -> None:
    """Networks, before any training."""


command.add_command(list_command)


@command.command("check", epilog="Example: tellapart model check quick --size 32 --channels 3 --classes 10")
@click.argument("name")
@click.option(
    "--size", default=32, show_default=True, type=click.IntRange(1, 4096), help="Side of the picture in pixels."
)
@click.option("--channels", default=3, show_default=True, type=click.IntRange(1, 4), help="Channels of the picture.")
@click.option("--classes", default=10, show_default=True, type=click.IntRange(2), help="Number of classes.")
@json_option
def check(name: str, size: int, channels: int, classes: int, as_json: bool) -> int:
    """Send two blank pictures through NAME and say what comes out; exit code 1 when there is something to remark."""
    from tellapart.models.build import Architecture, build
    from tellapart.models.look import look

    architecture = Architecture(name=name, num_classes=classes, channels=channels, size=size)
    model = build(architecture)
    seen = look(model, architecture)
    if seen.output != (2, classes):
        raise UsageError(f"{name} gives {seen.output} for two pictures; expected (2, {classes}).")
    remarks, weights = seen.remarks(name), sum(p.numel() for p in model.parameters())
    facts = {
        "name": name,
        "input": [2, channels, size, size],
        "output": list(seen.output),
        "parameters": weights,
        "multiply_adds_per_picture": seen.multiply_adds,
        "remarks": remarks,
    }
    if as_json:
        click.echo(json.dumps({"format": 1, **facts}, indent=1))
    else:
        click.echo(
            f"{name}: {tuple(facts['input'])} -> {seen.output}, {weights:,} parameters, "
            f"{seen.multiply_adds:,} multiply-adds a picture"
        )
        for remark in remarks:
            click.echo(f"remark: {remark}")
    return 1 if remarks else 0
