"""`tellapart why`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tellapart.cli.options import PATH, device_option, json_option, runs_option
from tellapart.errors import UsageError
from tellapart.recipe import printable

if TYPE_CHECKING:
    from tellapart.workflow.looking import Way
    from tellapart.workflow.why import Answer

METHODS = ("auto", "hirescam", "gradcam", "occlusion")


@click.command("why", epilog="Examples: tellapart why RUN ant.jpg --out why.png · tellapart why RUN --mistakes 12")
@click.argument("model")
@click.argument("pictures", nargs=-1)
@click.option("--mistakes", type=click.IntRange(1), metavar="N", help="Explain the N surest mistakes.")
@click.option(
    "--part",
    type=click.Choice(("validation", "test")),
    help="Whose mistakes; test needs a test part that RUN has opened. [default: validation]",
)
@click.option("--class", "wanted", default="", metavar="NAME", help="Explain this class; the one said when absent.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="How the heat is found; auto: hirescam, or occlusion where a network keeps few places.",
)
@click.option("--nearest", default=5, show_default=True, type=click.IntRange(0, 20), help="Training pictures to name.")
@click.option("--out", type=PATH, metavar="FILE.png", help="Draw the pictures with their heat and the nearest ones.")
@device_option
@runs_option
@json_option
def command(
    model: str,
    pictures: tuple[str, ...],
    mistakes: int | None,
    part: str | None,
    wanted: str,
    method: str,
    nearest: int,
    out: Path | None,
    device: str,
    runs: Path,
    as_json: bool,
) -> int:
    """Show where MODEL looks in PICTURES (files or folders), and say whether that means anything.

    MODEL is a run, or a model.safetensors. With --mistakes the pictures are those that the run got wrong in validation,
    or with --part test in a test part that is open, the surest first. A file that cannot be read is named in the
    answer, and the exit code is then 3.
    """
    from tellapart.cli.bar import download_bar
    from tellapart.workflow import devices
    from tellapart.workflow.looking import Eye
    from tellapart.workflow.models import find_model, run_of
    from tellapart.workflow.predict import files_of
    from tellapart.workflow.why import document, why_mistakes, why_pictures

    _refuse(pictures, mistakes, part, out)
    bundle, name = find_model(runs, model)
    run, how = run_of(runs, model), {"wanted": wanted, "method": method, "nearest": nearest}
    with download_bar() as progress:
        eye = Eye.of(bundle, devices.choose(device), progress)
        if mistakes is not None:
            answer = why_mistakes(eye, run, mistakes, part=part or "validation", **how)
        else:
            answer = why_pictures(eye, files_of(pictures), run=run, **how)
    if as_json:
        click.echo(json.dumps(document(answer, name), indent=1))
    else:
        click.echo("\n".join(_lines(answer)))
    if out is not None and answer.seen:
        _draw(answer, eye, out)
    return 3 if answer.broken else 0


def _refuse(pictures: tuple[str, ...], mistakes: int | None, part: str | None, out: Path | None) -> None:
    if bool(pictures) == (mistakes is not None):
        said = "Pictures and --mistakes exclude each other." if pictures else "No picture is named."
        raise UsageError(said, "Name files or folders; or give --mistakes 12 for those that the run got wrong.")
    if part and mistakes is None:
        raise UsageError("--part says whose mistakes, and none are asked for.", "Give --mistakes 12 too, or leave it.")
    if out is not None and out.suffix.lower() != ".png":
        raise UsageError(f"--out draws a PNG. Received: {printable(str(out))}.", "Give the file the end .png.")


def _lines(answer: "Answer") -> list[str]:
    """The answer for a person."""
    from tellapart.figures.inert import in_line
    from tellapart.workflow.why import title, verdict

    lines = []
    for one, near in zip(answer.seen, answer.near, strict=True):
        lines.append(title(one))
        lines += [f"  {line}" for heat in one.heats for line in (verdict(heat), f"  {heat.trust.numbers}")]
        lines += [printable(f"  {n.distance:.3f}  {in_line(n.name)}  {n.key}") for n in near]
    lines += [printable(f"{path}  cannot be read: {error}") for path, error in answer.broken]
    return [*lines, *([_way(answer.way)] if answer.seen else []), *map(printable, answer.notes)]


def _way(way: "Way") -> str:
    """How the heat was found."""
    if way.place is None:
        return "heat: by occlusion, how far the class falls when a part of the picture is covered"
    side = way.place.side
    return printable(f"heat: {way.method} at {way.place.path} ({way.place.kind}, {side} x {side} places)")


def _draw(answer: "Answer", eye, out: Path) -> None:
    from tellapart.figures.grid import save_picture
    from tellapart.workflow.why import sheet

    save_picture(sheet(answer, eye), out)
    click.echo(f"drawn: {printable(str(out.absolute()))}", err=True)
