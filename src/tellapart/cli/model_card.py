"""`tellapart model card`."""

from pathlib import Path

import click

from tellapart.cli.options import PATH, runs_option


@click.command("card", epilog="Example: tellapart model card RUN · tellapart model card RUN --out README.md")
@click.argument("model")
@click.option("--out", type=PATH, metavar="FILE.md", help="Write it there, instead of printing it.")
@click.option("--force", is_flag=True, help="Write over a file that is there already.")
@runs_option
def command(model: str, out: Path | None, force: bool, runs: Path) -> None:
    """Write the model card of MODEL, a run or a model.safetensors: what it is, how good, and what is not known.

    Markdown, with the head that model hubs read. It is made from the model file alone.
    """
    from tellapart.errors import UsageError
    from tellapart.files import write_atomically
    from tellapart.shipping.card import card
    from tellapart.workflow.models import find_model

    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} exists already.", "Choose another --out, or give --force to write over it.")
    text = card(*find_model(runs, model))
    if out is None:
        click.echo(text, nl=False)
        return
    write_atomically(out, text)
    click.echo(f"model card: {out.absolute()}")
