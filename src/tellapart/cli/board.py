"""`tellapart board`."""

import importlib.util
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import click

from tellapart.cli.options import runs_option
from tellapart.errors import DataError, UsageError


@click.command("board", epilog="Example: tellapart board --port 6007")
@click.argument("run", required=False)
@runs_option
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on; a free one when absent.")
@click.option("--dry-run", is_flag=True, help="Print the command instead of running it.")
def command(run: str | None, runs: Path, port: int | None, dry_run: bool) -> int:
    """Show all runs, or one RUN, in TensorBoard on this machine only."""
    logdir = folder_of(run, runs)
    port = port or free_port()
    where = ("--logdir", str(logdir), "--host", "127.0.0.1", "--port", str(port))
    words = [sys.executable, "-m", "tensorboard.main", *where]
    if dry_run:
        click.echo(shlex.join(words))
        return 0
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError("tensorboard is not installed.", "python3 -m pip install tensorboard")
    click.echo(f"http://127.0.0.1:{port}/  (Ctrl-C ends it)")
    try:
        return subprocess.call(words)
    except KeyboardInterrupt:
        return 0


def folder_of(run: str | None, runs: Path) -> Path:
    """The absolute folder that TensorBoard is pointed at."""
    from tellapart.run import Run

    if run is not None:
        found = Run.find(runs, run)
        return found.folder if found.several else found.folder / "tensorboard"
    if not runs.is_dir():
        raise DataError(f"There is no folder {runs.absolute()}.", "Train first, or name the place with --runs.")
    return runs.absolute()


def free_port(first: int = 6006) -> int:
    """The first free port from 6006 on."""
    for port in range(first, first + 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise UsageError(f"No port between {first} and {first + 99} is free.", "Choose one with --port.")
