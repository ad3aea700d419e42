"""`tellapart data`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tellapart.cli.options import PATH, json_option, root_option
from tellapart.cli.recipe_flags import CHOOSING, flags_of, given
from tellapart.cli.verbs import Verbs
from tellapart.errors import UsageError
from tellapart.names import PARTS

part_option = click.option("--part", type=click.Choice(PARTS), help="Only this part.")


@click.group("data", cls=Verbs)
def command() -> None:
    """Data sets: which can be named, fetching them, and looking at any of them."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the data sets that can be named, and well-known ones that cannot, with the reason."""
    from tellapart.data.catalogue import CATALOGUE, TORCHVISION_SETS

    if as_json:
        sets = [asdict(entry) for entry in CATALOGUE]
        click.echo(json.dumps({"format": 1, "sets": sets, "torchvision": TORCHVISION_SETS}, indent=1))
        return
    click.echo(f"{'name':<14}  {'train':>8}  {'test':>7}  {'classes':>7}  {'size':<15}  about")
    for entry in CATALOGUE:
        numbers = f"{entry.train:>8,}  {entry.test:>7,}  {entry.classes:>7,}"
        about = f"not by name: {entry.missing}" if entry.missing else entry.where
        click.echo(f"{entry.name:<14}  {numbers}  {entry.size:<15}  {about}")
    click.echo(f"Files that torchvision has fetched: torchvision:NAME, with NAME one of {', '.join(TORCHVISION_SETS)}")
    click.echo("Any folder of class folders works too: tellapart data show FOLDER")


@command.command(
    "get",
    epilog="Examples: tellapart data get cifar10 --from ./cifar-10-binary.tar.gz · "
    "tellapart data get --from flowers.zip --to flowers",
)
@click.argument("name", default="")
@root_option
@click.option(
    "--from", "origin", default="", help="A file, a folder, or the address of a mirror, instead of the official place."
)
@click.option("--to", default="", metavar="FOLDER", help="Unpack an archive of your own into this new folder.")
def get(name: str, root: str, origin: str, to: str) -> None:
    """Fetch the data set NAME and verify it, once; or unpack an archive of your own with --from and --to."""
    from tellapart.cli.bar import download_bar
    from tellapart.data.download import get as fetch
    from tellapart.data.official import default_root, expanded

    if bool(name) == bool(to) or (to and (root or not origin)):
        raise UsageError(
            "`data get` needs the name of a data set, or an archive and a folder for what it holds.",
            "For example: tellapart data get cifar10, or tellapart data get --from flowers.zip --to flowers.",
        )
    with download_bar() as progress:
        if to:
            from tellapart.workflow.data import unpacked

            lines = unpacked(origin, expanded(to), progress)
        else:
            lines = fetch(name, expanded(root) if root else default_root(), origin=origin, progress=progress)
    click.echo("\n".join(lines))


@command.command(
    "show", epilog="Examples: tellapart data show digits --out grid.png · tellapart data show FOLDER --index 0"
)
@click.argument("source")
@root_option
@flags_of(*CHOOSING, "augment.preset")
@part_option
@click.option("--index", "number", type=click.IntRange(0), help="Describe this one picture, counted from 0.")
@click.option("--out", type=PATH, metavar="FILE.png", help="Draw pictures of every class.")
@click.option("--list", "listing", is_flag=True, help="Print every key with its class.")
@click.option("--tensorboard", type=PATH, metavar="FOLDER", help="Write pictures for TensorBoard.")
@click.option("--tag", default="data", show_default=True, help="Tag of the pictures in TensorBoard.")
@click.option("--step", default=0, show_default=True, type=click.IntRange(0), help="Step of the first picture there.")
@click.option("--export", type=PATH, metavar="FILE.npy", help="Write the shown pictures as an array.")
@click.option(
    "--most", default=40, show_default=True, type=click.IntRange(1), help="How many pictures to draw or write."
)
@click.option(
    "--steps", metavar="CHAIN", help="Show what each named step makes of one picture; `data steps` lists them."
)
@click.option("--sees", type=PATH, metavar="FILE.png", help="Draw what the network sees, class by class.")
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
    settings: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Say what SOURCE holds: classes, parts and counts; or show its pictures. SOURCE may also be one picture file."""
    rest = number is not None or part or listing or tensorboard or export or as_json
    if steps is not None or sees or settings or flags["flag__augment__preset"]:
        return show_pipeline(source, root, steps, sees, out, settings, flags, more=bool(rest))
    if unused := [f"--{name}" for name in ("split", "overlay") if flags[f"flag__data__{name}"] is not None]:
        raise UsageError(
            f"{unused[0]} says nothing here: pictures are divided after they are decoded.",
            "`tellapart split SOURCE` shows the parts; --sees FILE.png takes it.",
        )
    from tellapart.data.sources import KINDS

    one = Path(source).is_file() and Path(source).suffix.lower() not in KINDS
    if as_json and (number is not None or listing or one):
        raise UsageError(
            "--json is for what a whole source holds.", "Leave --index and --list out, or leave --json out."
        )
    if one:
        pictures = [about_file(Path(source))]
    else:
        most = most if out or tensorboard or export else 0
        recipe = given(flags, {"data.source": source, "data.root": root})
        pictures = about_source(recipe, part or "", number, listing=listing, most=most, as_json=as_json)
    write_out(pictures, out=out, tensorboard=tensorboard, export=export, tag=tag, step=step)


def about_source(recipe: Any, part: str, number: int | None, *, listing: bool, most: int, as_json: bool) -> list:
    """Say what a source holds, or one picture of it, or all keys; gives at most `most` of its pictures."""
    from tellapart.cli.data_words import about_one, key_lines, summary_lines
    from tellapart.workflow import data

    index = data.found(recipe)
    if number is not None:
        click.echo(about_one(index, data.row_of(index, part, number), number))
        return []
    if listing:
        click.echo("\n".join(key_lines(index)))
        return []
    summed = data.summary(index)
    click.echo(json.dumps({"format": 1, **asdict(summed)}, indent=1) if as_json else "\n".join(summary_lines(summed)))
    return data.shown(index, part=part, most=most) if most else []


def show_pipeline(
    source: str,
    root: str,
    steps: str | None,
    sees: Path | None,
    out: Path | None,
    settings: tuple[str, ...],
    flags: dict[str, Any],
    *,
    more: bool,
) -> None:
    """The steps on one picture, or what the network sees. Raises UsageError for flags that do not go together."""
    from tellapart.cli.data_sees import show_sheet, show_steps

    chosen = any(flags.values()) or bool(settings) or bool(root)
    if (steps is not None or sees) and (more or (steps is not None and (sees or chosen))):
        raise UsageError("--steps goes with --out alone, --sees with flags that choose pictures, --augment and --set.")
    if steps is None and (out or not sees):
        raise UsageError("--augment and --set say what --sees FILE.png draws.", "--out is for other sheets.")
    if sees:
        return show_sheet(source, {**flags, "flag__data__root": root or None}, settings, sees)
    show_steps(source, steps or "", out)


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
        from tellapart.cli.data_sees import draw

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
@flags_of(*CHOOSING)
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Pictures in the batch.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the split and the order.")
def batch(source: str, root: str, batch_size: int, seed: int, **flags: Any) -> None:
    """Print the first training batch of SOURCE: shapes, types, value range, classes, and the sizes of all batches."""
    from tellapart.cli.data_words import batch_lines

    values = {"data.source": source, "data.root": root, "data.split_seed": seed, "train.batch_size": batch_size}
    click.echo("\n".join(batch_lines(given(flags, values))))


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
