"""`tellapart data`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from tellapart.cli.options import json_option, root_option
from tellapart.cli.verbs import Verbs
from tellapart.errors import UsageError
from tellapart.names import PARTS
from tellapart.recipe import rule_of

part_option = click.option("--part", type=click.Choice(PARTS), help="Only this part.")


@click.group("data", cls=Verbs)
def command() -> None:
    """Data sets: which can be named, fetching them, and looking at any of them."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the data sets that can be named, and well-known ones that cannot, with the reason."""
    from tellapart.data.catalogue import CATALOGUE

    if as_json:
        click.echo(json.dumps({"format": 1, "sets": [asdict(entry) for entry in CATALOGUE]}, indent=1))
        return
    click.echo(f"{'name':<14}  {'train':>8}  {'test':>7}  {'classes':>7}  {'size':<15}  about")
    for entry in CATALOGUE:
        numbers = f"{entry.train:>8,}  {entry.test:>7,}  {entry.classes:>7,}"
        about = f"not by name: {entry.missing}" if entry.missing else entry.where
        click.echo(f"{entry.name:<14}  {numbers}  {entry.size:<15}  {about}")
    click.echo("Any folder of class folders works too: tellapart data show FOLDER")


@command.command("get", epilog="Example: tellapart data get cifar10 --from ./cifar-10-binary.tar.gz")
@click.argument("name")
@root_option
@click.option(
    "--from", "origin", default="", help="A file, a folder, or the address of a mirror, instead of the official place."
)
def get(name: str, root: str, origin: str) -> None:
    """Fetch the data set NAME and verify it. What is there and verified is not fetched again."""
    from tellapart.cli.bar import download_bar
    from tellapart.data.download import get as fetch
    from tellapart.data.official import default_root

    with download_bar() as progress:
        for line in fetch(name, Path(root).expanduser() if root else default_root(), origin=origin, progress=progress):
            click.echo(line)


@command.command(
    "show", epilog="Examples: tellapart data show digits --out grid.png · tellapart data show FOLDER --index 0"
)
@click.argument("source")
@root_option
@part_option
@click.option("--index", "number", type=click.IntRange(0), help="Describe this one picture, counted from 0.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw pictures of every class.")
@click.option("--list", "listing", is_flag=True, help="Print every key with its class.")
@click.option(
    "--tensorboard", type=click.Path(path_type=Path), metavar="FOLDER", help="Write pictures for TensorBoard."
)
@click.option("--tag", default="data", show_default=True, help="Tag of the pictures in TensorBoard.")
@click.option("--step", default=0, show_default=True, type=click.IntRange(0), help="Step of the first picture there.")
@click.option(
    "--export", type=click.Path(path_type=Path), metavar="FILE.npy", help="Write the shown pictures as an array."
)
@click.option(
    "--most", default=40, show_default=True, type=click.IntRange(1), help="How many pictures to draw or write."
)
@click.option(
    "--steps", metavar="CHAIN", help="Show what each named step makes of one picture; `data steps` lists them."
)
@click.option(
    "--sees", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw what the network sees, class by class."
)
@click.option("--augment", metavar="PRESET", help=f"With --sees: {rule_of('augment.preset').help}.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="With --sees: any other setting.")
@json_option
def show(
    source: str,
    root: str,
    part: str | None,
    number: int | None,
    out: Path | None,
    listing: bool,
    tensorboard: Path | None,
    tag: str,
    step: int,
    export: Path | None,
    most: int,
    steps: str | None,
    sees: Path | None,
    augment: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what SOURCE holds: classes, parts and counts; or show its pictures. SOURCE may also be one picture file."""
    if as_json and (number is not None or listing or Path(source).is_file()):
        raise UsageError(
            "--json is for what a whole source holds.", "Leave --index and --list out, or leave --json out."
        )
    rest = number is not None or part or listing or tensorboard or export or as_json
    if (steps is not None or sees) and (rest or (steps is not None) == bool(sees or augment or settings or root)):
        raise UsageError("--steps goes with --out alone, --sees with --root, --augment and --set alone.")
    if (augment or settings or (sees and out)) and not (sees and not out):
        raise UsageError("--augment and --set say what --sees FILE.png draws.", "--out is for other sheets.")
    if steps is not None:
        show_steps(source, steps, out)
    elif sees:
        show_sheet(source, root, augment, settings, sees)
    elif number is not None or listing:
        click.echo(keys_or_one(source, root, part or "", number))
    else:
        wanted = most if out or tensorboard or export else 0
        one = Path(source).is_file()
        pictures = (
            [about_file(Path(source))] if one else about_source(source, root, part or "", wanted, as_json=as_json)
        )
        write_out(pictures, out=out, tensorboard=tensorboard, export=export, tag=tag, step=step)


def keys_or_one(source: str, root: str, part: str, number: int | None) -> str:
    """The `number`th picture of a part in a line, or without a number every key with its class."""
    from tellapart.cli.data_words import about_one
    from tellapart.data.sources import open_source
    from tellapart.workflow.data import row_of

    index = open_source(source, root=root)
    if number is not None:
        return about_one(index, row_of(index, part, number), number)
    return "\n".join(f"{index.keys[row]}\t{index.classes[index.labels[row]]}" for row in range(len(index)))


def about_source(source: str, root: str, part: str, wanted: int, *, as_json: bool) -> list:
    """Say what a source holds, as a table or as JSON; gives as many of its pictures as are wanted."""
    from tellapart.cli.data_words import summary_lines
    from tellapart.data.sources import open_source
    from tellapart.workflow import data

    index = open_source(source, root=root)
    summed = data.summary(index)
    click.echo(json.dumps({"format": 1, **asdict(summed)}, indent=1) if as_json else "\n".join(summary_lines(summed)))
    return data.shown(index, part=part, most=wanted) if wanted else []


def show_steps(source: str, chain: str, out: Path | None) -> None:
    """What a chain of steps makes of one picture: a line a step, and a strip in `out`. Raises UsageError."""
    from tellapart.workflow.sees import walked

    if not Path(source).is_file():
        raise UsageError(f"--steps takes one picture file. Received: {source}.", "For a source: --sees FILE.png.")
    found = walked(Path(source), chain)
    click.echo("\n".join(f"{tile.caption.splitlines()[0]:<24}  {line}" for line, tile in found))
    if out:
        draw([tile for _, tile in found], len(found), out)


def show_sheet(source: str, root: str, augment: str | None, settings: tuple[str, ...], sees: Path) -> None:
    """What the network sees of a whole source, drawn."""
    from tellapart.cli.recipe_flags import asked
    from tellapart.workflow.sees import EPOCHS, sheet
    from tellapart.workflow.settle import Settled

    flags = {"flag__data__root": root or None, "flag__augment__preset": augment}
    recipe, origins = asked({"recipe_name": None, "source": source, "settings": settings, **flags})
    draw(sheet(Settled(recipe, origins)), EPOCHS + 2, sees)


def draw(pictures: list, columns: int, path: Path) -> None:
    """Draw pictures with their captions, so many in a row (0: about square), and say where."""
    from tellapart.figures.grid import grid, save_picture

    save_picture(grid([pixels for pixels, _ in pictures], [name for _, name in pictures], columns=columns), path)
    click.echo(f"{len(pictures)} pictures drawn: {path.absolute()}", err=True)


@command.command("steps")
def steps_() -> None:
    """List the steps of `data show --steps` and of the setting augment.steps, with their options."""
    from tellapart.data.steps import CHAINS, STEPS

    for name, kind in STEPS.items():
        options = ", ".join(f"{option}=" for option in kind.options)
        click.echo(
            f"{name + ':' * bool(kind.example) + kind.example:<24}  {kind.about}{f' ({options})' * bool(options)}"
        )
    for name, chain in CHAINS.items():
        click.echo(f"{name:<24}  {chain}")


def about_file(path: Path):
    """One picture file as shown pictures have it, said in a line."""
    from tellapart.data.decode import decode

    pixels = decode(path.read_bytes())
    height, width, channels = pixels.shape
    click.echo(
        f"{path}: {width} x {height}, {'grey' if channels == 1 else 'RGB'}, values {pixels.min()} to {pixels.max()}"
    )
    return pixels, path.name


def write_out(
    pictures: list, *, out: Path | None, tensorboard: Path | None, export: Path | None, tag: str, step: int
) -> None:
    """Write the pictures in the ways asked for, and say where on stderr: stdout is for what they are."""
    from tellapart.workflow import data

    if out:
        draw(pictures, 0, out)
    if tensorboard:
        if not data.to_board(pictures, tensorboard, tag=tag, first_step=step):
            raise UsageError("tensorboard is not installed.", "python3 -m pip install tensorboard")
        click.echo(f"{len(pictures)} pictures written for TensorBoard: {tensorboard.absolute()}", err=True)
    if export:
        from tellapart.cli.data_words import exported

        click.echo(exported(pictures, export), err=True)


@command.command("batch", epilog="Example: tellapart data batch digits --batch-size 64")
@click.argument("source")
@root_option
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Pictures in the batch.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the split and the order.")
def batch(source: str, root: str, batch_size: int, seed: int) -> None:
    """Print the first training batch of SOURCE: shapes, types, value range, classes, and the sizes of all batches."""
    from tellapart.cli.data_words import batch_lines

    click.echo("\n".join(batch_lines(source, root, batch_size, seed)))
