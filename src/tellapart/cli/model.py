"""`tellapart model`: `check` is here, the others beside it."""

import json

import click

from tellapart.cli import model_card, model_convert, model_inside, model_list, model_show
from tellapart.cli.model_named import described
from tellapart.cli.options import json_option, network_options
from tellapart.cli.verbs import Verbs


@click.group("model", cls=Verbs)
def command() -> None:
    """Networks: their layers, and what is inside them."""


command.add_command(model_list.command)
command.add_command(model_show.command)
command.add_command(model_convert.command)
command.add_command(model_card.command)
for one in model_inside.COMMANDS:
    command.add_command(one)


@command.command("check", epilog="Example: tellapart model check quick --size 32 --channels 3 --classes 10")
@click.argument("name")
@network_options
@json_option
def check(
    name: str,
    size: int | None,
    channels: int | None,
    classes: int | None,
    changes: tuple[str, ...],
    as_json: bool,
) -> int:
    """Send two blank pictures through NAME and say what comes out; exit code 1 when there is something to remark."""
    from tellapart.models.build import Architecture, outline
    from tellapart.models.remarks import examine
    from tellapart.models.table import totals

    asked = {"size": size, "channels": channels, "num_classes": classes, "changes": changes or None}
    a = described(name, asked) or Architecture(name=name, num_classes=10, channels=3, size=32)
    picture = (2, a.channels, a.size, a.size)
    seen, remarks = examine(outline(a), picture, classes=a.num_classes, name=name)
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
