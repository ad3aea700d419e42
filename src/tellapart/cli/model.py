"""`tellapart model`: `check` is here, the others beside it."""

import json

import click

from tellapart.cli import model_inside, model_list, model_show
from tellapart.cli.options import json_option
from tellapart.cli.verbs import Verbs


@click.group("model", cls=Verbs)
def command() -> None:
    """Networks: their layers, and what is inside them."""


command.add_command(model_list.command)
command.add_command(model_show.command)
for one in model_inside.COMMANDS:
    command.add_command(one)


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
    from tellapart.models.build import Architecture, outline
    from tellapart.models.remarks import examine
    from tellapart.models.table import totals

    model = outline(Architecture(name=name, num_classes=classes, channels=channels, size=size))
    seen, remarks = examine(model, (2, channels, size, size), classes=classes, name=name)
    sums = totals(seen)
    facts = {
        "name": name,
        "input": list(seen.picture),
        "output": list(seen.output),
        "parameters": sums["parameters"],
        "multiply_adds_per_picture": sums["multiply_adds"] // 2,
        "remarks": remarks,
    }
    if as_json:
        click.echo(json.dumps({"format": 1, **facts}, indent=1))
    else:
        click.echo(
            f"{name}: {seen.picture} -> {seen.output}, {facts['parameters']:,} parameters, "
            f"{facts['multiply_adds_per_picture']:,} multiply-adds a picture"
        )
        for remark in remarks:
            click.echo(f"remark: {remark}")
    return 1 if remarks else 0
