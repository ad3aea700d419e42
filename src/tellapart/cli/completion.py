"""`tellapart completion`."""

import click
from click.shell_completion import get_completion_class


@click.command("completion", epilog='Example: eval "$(tellapart completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell; see the example for how to switch it on."""
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - the choice above is click's own list
    click.echo(made(ctx.find_root().command, {}, "tellapart", "_TELLAPART_COMPLETE").source())
