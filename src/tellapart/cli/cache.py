"""`tellapart cache`."""

import json
import shutil
import time

import click

from tellapart.cli.options import json_option
from tellapart.cli.verbs import Verbs
from tellapart.errors import UsageError


@click.group("cache", cls=Verbs)
def command() -> None:
    """What tellapart keeps: fetched data sets, decoded pictures, lists of folders, checks. All can be made again."""


@command.command("path")
def path() -> None:
    """Print the folder of the data sets."""
    from tellapart.data.official import default_root

    click.echo(default_root())


@command.command("show")
@json_option
def show(as_json: bool) -> None:
    """Say what is kept, where, and how much it takes."""
    from tellapart.data.cache import Room, entries, pixel_folder
    from tellapart.data.download import fetched
    from tellapart.data.kept import CHECKS, FEATURES, LISTINGS, kept_files
    from tellapart.data.official import cache_root, default_root

    files, lists, checks = fetched(default_root()), kept_files(LISTINGS), kept_files(CHECKS)
    features = kept_files(FEATURES)
    pixels = sorted(entries(Room(pixel_folder(), 0)), key=lambda entry: -entry["used"])
    kept = {
        "data sets": (default_root(), len(files), sum(file.stat().st_size for file in files)),
        "decoded pictures": (pixel_folder(), len(pixels), sum(entry["bytes"] for entry in pixels)),
        "lists of large folders": (cache_root() / LISTINGS, len(lists), sum(file.stat().st_size for file in lists)),
        "checks": (cache_root() / CHECKS, len(checks), sum(file.stat().st_size for file in checks)),
        "features": (cache_root() / FEATURES, len(features), sum(file.stat().st_size for file in features)),
    }
    if as_json:
        document = {name: {"folder": str(at), "files": n, "bytes": size} for name, (at, n, size) in kept.items()}
        click.echo(json.dumps({"format": 1, **document}, indent=1))
        return
    for name, (at, n, size) in kept.items():
        click.echo(f"{name:<22}  {n:>6,}  {size / 1e6:>10,.1f} MB  {at}")
    for entry in pixels[:10]:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["used"]))
        click.echo(f"  {entry['source']}: {entry['rows']:,} pictures, {entry['bytes'] / 1e6:,.1f} MB, last used {used}")
    if len(pixels) > 10:
        click.echo(f"  … {len(pixels) - 10} more")


@command.command("clear", epilog="Example: tellapart cache clear --yes")
@click.option("--yes", is_flag=True, help="Do it; without this nothing is removed.")
@click.option("--pixels", is_flag=True, help="Only the decoded pictures.")
def clear(yes: bool, pixels: bool) -> None:
    """Remove what `tellapart cache show` lists. Whatever else lies in those folders stays."""
    from tellapart.data.cache import Room, entries, pixel_folder
    from tellapart.data.download import clear, fetched
    from tellapart.data.kept import CHECKS, FEATURES, LISTINGS, kept_files
    from tellapart.data.official import default_root

    kept = ([], [], []) if pixels else (fetched(default_root()), kept_files(LISTINGS), kept_files(CHECKS))
    files, lists, checks = kept
    checks += [] if pixels else kept_files(FEATURES)
    decoded = entries(Room(pixel_folder(), 0))
    what = f"{len(files)} fetched files, {len(decoded)} sets of decoded pictures, {len(lists)} lists of large folders"
    what += f", {len(checks)} checks and sets of features"
    if not yes:
        raise UsageError(f"This would remove {what}.", "Say so with --yes; `tellapart cache show` says where they lie.")
    clear([*files, *lists, *checks], default_root())
    for entry in decoded:
        shutil.rmtree(entry["folder"], ignore_errors=True)
    click.echo(f"{what} removed.")
