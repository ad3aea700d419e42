"""`tellapart model convert`: someone else's weights as a safetensors file, which can run nothing."""

from pathlib import Path

import click

from tellapart.cli.options import PATH
from tellapart.errors import UsageError
from tellapart.recipe import printable


@click.command("convert", epilog="Example: tellapart model convert old.pth new.safetensors")
@click.argument("path", metavar="FILE", type=PATH)
@click.argument("to", metavar="OUT.safetensors", type=PATH)
@click.option("--trust", is_flag=True, help="Run what a pickled whole model says. It can do anything that you can.")
def command(path: Path, to: Path, trust: bool) -> None:
    """Write the weights in FILE (.pth, .pt, .th, .bin, .safetensors) to OUT.safetensors, by their names."""
    from safetensors.torch import save

    from tellapart.files import write_atomically
    from tellapart.models.weights import read, unpickled

    if to.suffix != ".safetensors" or to.exists():
        why = "exists already" if to.exists() else "does not end in .safetensors"
        raise UsageError(f"{printable(str(to))} {why}.", "Name another file to write to.")
    state = unpickled(path) if trust else read(path)
    write_atomically(to, save(dict(state)))
    numbers = sum(tensor.numel() for tensor in state.values())
    click.echo(f"{printable(str(to))}: {len(state):,} tensors, {numbers:,} numbers")
    click.echo(f"next: tellapart train SOURCE --weights {printable(str(to))}")
