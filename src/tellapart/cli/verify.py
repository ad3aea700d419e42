"""`tellapart verify`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from tellapart.cli.options import device_option, json_option, runs_option
from tellapart.recipe import printable


@click.command("verify", epilog="Example: tellapart verify RUN · tellapart verify model.safetensors")
@click.argument("model")
@device_option
@runs_option
@json_option
def command(model: str, device: str, runs: Path, as_json: bool) -> int:
    """Prove that MODEL, a run or a model.safetensors, answers on this machine as where it was made.

    Its golden samples are decoded, prepared and judged again. Exit code 1 when an answer differs; what differs is named
    by its stage: decoding, preprocessing, or the network.
    """
    from tellapart.figures.inert import in_line
    from tellapart.shipping.goldens import TOLERANCE, replayed
    from tellapart.workflow import devices
    from tellapart.workflow.models import find_model

    bundle, name = find_model(runs, model)
    found = replayed(bundle, device=devices.choose(device))
    same = sum(one.sound for one in found)
    if as_json:
        every = [{**asdict(one), "sound": one.sound, "words": one.words()} for one in found]
        click.echo(json.dumps({"format": 1, "model": name, "tolerance": TOLERANCE, "samples": every}, indent=1))
    else:
        for one in found:
            click.echo(printable(f"{in_line(one.name)}  {one.words()}"))
        click.echo(printable(_said(name, same, len(found))))
    return 0 if found and same == len(found) else 1


def _said(name: str, same: int, n: int) -> str:
    if not n:
        return f"{name} carries no golden samples, so nothing is proved; `train` writes some unless train.goldens is 0"
    if same == n:
        return f"{name} is read whole and gives the same answers here, on all {n} golden samples"
    return f"{name} answers {n - same} of {n} golden samples otherwise here than where it was made"
