"""`tellapart export onnx`, `torch-export`, `state-dict`, `openvino` and `check`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tellapart.cli.options import PATH, json_option, runs_option
from tellapart.cli.verbs import Verbs

if TYPE_CHECKING:
    from tellapart.shipping.parity import Parity

PICTURES = click.option(
    "--pictures", type=PATH, metavar="FOLDER", help="Compare on these, 200 or more; those of the run if not given."
)
INPUT = click.option(
    "--input",
    "front",
    type=click.Choice(["picture", "square"]),
    default="picture",
    show_default=True,
    help="What it takes: uint8 pictures of any size, resized inside, or squares that you made.",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(["float32", "fp16", "int8"]),
    default="float32",
    show_default=True,
    help="Smaller numbers: half, or 8 bits whose ranges training pictures show.",
)


def _common(function: Callable) -> Callable:
    for add in (
        runs_option,
        PICTURES,
        click.option("--force", is_flag=True, help="Write into a folder that is there already."),
        click.option("--out", type=PATH, metavar="FOLDER", help="Where to write; MODEL-FORMAT if not given."),
        click.argument("model"),
    ):
        function = add(function)
    return function


@click.command("onnx", epilog="Example: tellapart export onnx RUN · tellapart export onnx RUN --precision int8")
@_common
@INPUT
@PRECISION
def onnx(model: str, runs: Path, front: str, precision: str, **where: Any) -> None:
    """Write MODEL as model.onnx, from pixels to probabilities, with programs in Python, JavaScript and C++.

    Files of validation then go both ways; exit code 1 when the answers are not the same.
    """
    _export(runs, model, "onnx", front, precision, **where)


@click.command("torch-export", epilog="Example: tellapart export torch-export RUN")
@_common
@INPUT
def torch_export(model: str, runs: Path, front: str, **where: Any) -> None:
    """Write MODEL as model.pt2 by torch.export: torch.export.load opens it without tellapart."""
    _export(runs, model, "torch-export", front, "float32", **where)


@click.command("state-dict", epilog="Example: tellapart export state-dict RUN")
@_common
def state_dict(model: str, runs: Path, **where: Any) -> None:
    """Write the weights of MODEL as weights.pth for the network of `export script`, in plain PyTorch."""
    _export(runs, model, "state-dict", "square", "float32", **where)


@click.command("openvino", epilog="Example: tellapart export openvino RUN")
@_common
@INPUT
def openvino(model: str, runs: Path, front: str, **where: Any) -> None:
    """Write MODEL as model.xml and model.bin for OpenVINO."""
    _export(runs, model, "openvino", front, "float32", **where)


@click.command("check", epilog="Example: tellapart export check RUN other.onnx")
@click.argument("model")
@click.argument("file", type=PATH)
@PICTURES
@runs_option
@json_option
def check(model: str, file: Path, pictures: Path | None, runs: Path, as_json: bool) -> int:
    """Compare FILE, an .onnx file that takes pictures as those of `export onnx` do, with MODEL, on files of validation.

    Exit code 1 when the answers are not the same; what makes the difference is named where it is known.
    """
    import json

    from tellapart.errors import UsageError

    if file.is_dir():
        raise UsageError(f"'{file}' is a folder.", "Name the .onnx file in it.")
    if not file.is_file():
        what = f"'{file}' is no plain file." if file.exists() else f"There is no file '{file}'."
        raise UsageError(what, "Check the spelling and the folder you are in.")
    from tellapart.workflow.export import check as checked

    found = checked(runs, model, file, pictures)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        _say(found)
    return 0 if found.sound else 1


def _export(
    runs: Path,
    model: str,
    way: str,
    front: str,
    precision: str,
    *,
    out: Path | None,
    force: bool,
    pictures: Path | None,
) -> None:
    from tellapart.errors import ProblemsFound, UsageError

    folder = out or Path(f"{Path(model).stem if Path(model).is_file() else Path(model).name}-{way}")
    if folder.exists() and not (force and folder.is_dir()):
        hint = "Choose another --out, or give --force to write into it." if folder.is_dir() else "Choose another --out."
        raise UsageError(f"{folder} exists already.", hint)
    from tellapart.workflow.export import export

    made = export(runs, model, way, out=folder, front=front, precision=precision, folder=pictures)
    click.echo(f"wrote {made.file} ({made.file.stat().st_size / 1e6:.1f} MB); beside it: {', '.join(made.others)}")
    _say(made.parity)
    if not made.parity.sound:
        raise ProblemsFound(
            f"{made.file.name} does not answer as {model} does.", "Do not use it; earlier files are as they were."
        )


def _say(found: "Parity") -> None:
    click.echo(f"parity {'passed' if found.sound else 'FAILED'}: {found.words()}")
    for words in (found.change_words(), found.unknown.words() if found.unknown else "", found.few):
        if words:
            click.echo(words)
    if not found.sound:
        for one in found.worst:
            click.echo(f"  {one.key}: {one.ours}, exported {one.theirs}; off by {one.off:.3f}")
    if not found.sound and found.n:
        click.echo(f"fault: {found.fault or 'none of the known ones gives these answers'}")


def add_to(group: Verbs) -> None:
    """Add these to `tellapart export`."""
    for one in (onnx, torch_export, state_dict, openvino, check):
        group.add_command(one)
