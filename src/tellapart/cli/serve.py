"""`tellapart serve`."""

import importlib.util
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tellapart.cli.options import device_option, runs_option
from tellapart.errors import UsageError
from tellapart.recipe import printable

if TYPE_CHECKING:
    import socket

    from tellapart.web.guard import Guard
    from tellapart.workflow.serve import Service

NEEDED = ("starlette", "uvicorn")
TOKEN = "TELLAPART_TOKEN"
PORT, SHORTEST = 8765, 16


@click.command("serve", epilog="Examples: tellapart serve RUN · tellapart serve model.safetensors --port 0")
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need a token.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--token", default="", help=f"Who asks must show it; 'auto' makes one. Better: ${TOKEN}.")
@click.option("--allow-host", "names", multiple=True, metavar="NAME", help="Also answer to this name; repeatable.")
@click.option("--nearest", is_flag=True, help="Also show the training pictures of a run that are most like a picture.")
@click.option("--dry-run", is_flag=True, help="Load the model, say what would be done, and end.")
@device_option
@runs_option
def command(
    model: str,
    host: str,
    port: int,
    token: str,
    names: tuple[str, ...],
    nearest: bool,
    dry_run: bool,
    device: str,
    runs: Path,
) -> int:
    """Answer for MODEL, a run or a model.safetensors, on a page and to programs, until Ctrl-C.

    Only this machine can reach it, unless --host says otherwise; then everyone who asks must show a token. Nothing that
    is sent is kept. GET /openapi.json describes the API.
    """
    missing = next((name for name in NEEDED if importlib.util.find_spec(name) is None), "")
    if missing:
        raise UsageError(f"{missing} is not installed.", "pip install 'tellapart[serve]'")
    from tellapart.web.guard import Guard
    from tellapart.web.server import bound

    token = _token(token)
    with bound(host, port) as here:
        shown = _shown(here, host, token)
        own = _own(here)
        guard = Guard(hosts=[*names, own] if own else names, token=shown or token)
        return _served(_service(model, runs, device, guard, nearest), here, shown, own, dry_run)


def _token(given: str) -> str:
    """The token, by flag or from the environment, where children then do not find it."""
    kept = os.environ.pop(TOKEN, "")
    token = given or kept
    if token and token != "auto" and (len(token) < SHORTEST or not (token.isascii() and token.isprintable())):
        said = f"A token has at least {SHORTEST} letters, digits or signs of ASCII; this one has {len(token)}."
        raise UsageError(said, "--token auto makes a good one.")
    return token


def _shown(here: "socket.socket", host: str, token: str) -> str:
    """The token that is made and shown, if one is. Raises UsageError where others could come in without any."""
    import secrets

    from tellapart.web.server import is_local

    if not is_local(here) and not token:
        said = f"Others can reach {host}, and this server would answer everyone."
        raise UsageError(said, "Add --token auto, and send the token it prints to whom you trust.")
    return secrets.token_urlsafe(24) if token == "auto" else ""


def _own(here: "socket.socket") -> str:
    """The name of this machine, where the socket is on all its addresses; '' where it is on one."""
    import re
    import socket

    from tellapart.web.guard import NAME

    name = socket.gethostname()
    return name if here.getsockname()[0] in ("0.0.0.0", "::") and re.fullmatch(NAME, name, re.I | re.A) else ""


def _served(service: "Service", here: "socket.socket", shown: str, own: str, dry_run: bool) -> int:
    import asyncio

    from tellapart.web.server import address, is_local

    if dry_run:
        service.close()
        click.echo(printable(f"{service.name} would answer at {address(here)}"))
        return 0
    service.start()
    here.listen()
    click.echo(printable(f"{service.name} answers at {address(here)}  (Ctrl-C ends it)"))
    if shown:
        click.echo(f"token: {shown}")
    if not is_local(here):
        at = f"http://{own}:{here.getsockname()[1]}/ and every address of this machine" if own else address(here)
        click.echo(f"Others reach it at {at}: who has the token is answered, and nothing is encrypted.")
    return 130 if asyncio.run(service.run(here)) == signal.SIGINT else 0


def _service(model: str, runs: Path, device: str, guard: "Guard", nearest: bool) -> "Service":
    from tellapart.memory import one_heap
    from tellapart.web.readers import Bounds
    from tellapart.web.site import Limits
    from tellapart.workflow import devices
    from tellapart.workflow.models import find_model, run_of
    from tellapart.workflow.serve import Service
    from tellapart.workflow.why import pictures_of

    one_heap()
    bundle, name = find_model(runs, model)
    run, chosen = run_of(runs, model), devices.choose(device)
    if nearest and run is None:
        raise UsageError("Only a run knows its training pictures; this is a model file.", "Name the run.")
    pictures = pictures_of(run, bundle.preprocess, lambda *_: None) if nearest and run else None
    return Service(bundle, name, device=chosen, guard=guard, bounds=Bounds(), limits=Limits(), pictures=pictures)
