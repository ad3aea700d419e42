"""`tellapart model list`."""

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from tellapart.cli.options import json_option
from tellapart.errors import unknown
from tellapart.recipe import printable

if TYPE_CHECKING:
    from tellapart.models.catalogue import Entry

UNITS = {"K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
STATED = """\
top-1: on the validation part of ImageNet-1K, as torchvision states it; its counts are for 1,000 classes
licence: torchvision states none for most weights; its code is BSD-3-Clause. The weights were trained on ImageNet, whose
pictures are given for non-commercial research; whether that binds a use of the weights is not said here"""


def number_of(text: str) -> float:
    """A number above 0 that may end in k, M, G (or B) or T. Raises BadParameter.

    >>> number_of("30M"), number_of("250k"), number_of("7")
    (30000000.0, 250000.0, 7.0)
    """
    unit = UNITS.get(text[-1:].upper())
    try:
        number = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise click.BadParameter(f"{text!r} is not a number such as 30M, 5G or 250k.")
    return number


@click.command("list", epilog="Example: tellapart model list resnet --most-parameters 30M --least-accuracy 75")
@click.argument("text", default="")
@click.option("--most-parameters", type=number_of, metavar="NUMBER", help="Parameters at most: 30M.")
@click.option(
    "--most-flops",
    type=number_of,
    metavar="NUMBER",
    help="Multiply-adds of one picture at most, which torchvision calls FLOPs: 5G.",
)
@click.option("--least-accuracy", type=click.FloatRange(1, 100), help="Top-1 on ImageNet at least, in percent: 75.")
@click.option("--licence", default="", help="Words in the licence stated for the weights; 'not stated' for none.")
@json_option
def command(
    text: str,
    most_parameters: float | None,
    most_flops: float | None,
    least_accuracy: float | None,
    licence: str,
    as_json: bool,
) -> None:
    """List the networks that --model takes, those with TEXT in the name, the smallest first; once for each of the
    weights that are published for it. Numbers and licences are those that the installed torchvision states.
    """
    from tellapart.models.catalogue import chosen, own, published

    stated, missing = published()
    every = [*own(), *stated]
    if not any(text.lower() in entry.name for entry in every):
        raise unknown("network", printable(text), {entry.name for entry in every})
    bounds = {"most_parameters": most_parameters, "most_multiply_adds": most_flops, "least_top_1": least_accuracy}
    rows = chosen(every, text=text, licence=licence, **bounds)
    if as_json:
        networks = [asdict(row) for row in rows]
        click.echo(json.dumps({"format": 1, "networks": networks, "of": len(every), "missing": missing}, indent=1))
        return
    if rows:
        _table(rows)
    names, all_names = ({entry.name for entry in some} for some in (rows, every))
    click.echo(f"n = {len(names)} of {len(all_names)} networks, {len(rows)} of {len(every)} rows")
    click.echo(_words(rows, missing), nl=False)


def _table(rows: "list[Entry]") -> None:
    """The head, and a line for each."""
    wide = max((len(row.name) for row in rows), default=0)
    named = max((len(row.weights) for row in rows), default=0)
    head = ("parameters", "multiply-adds", "size", "top-1 %", "    file")
    click.echo("  ".join([f"{'name':<{wide}}", *head, f"{'weights':<{named}}", "licence of the weights"]))
    for row in rows:
        top = "–" if row.top_1 is None else f"{row.top_1:.1f}"
        file = "–" if row.megabytes is None else f"{row.megabytes:,.0f} MB"
        cells = (short(row.parameters), short(row.multiply_adds), row.size, top, file)
        numbers = [f"{cell:>{len(title)}}" for cell, title in zip(cells, head, strict=True)]
        words = [f"{row.weights or '–':<{named}}", row.licence or "–"]
        click.echo("  ".join([f"{row.name:<{wide}}", *numbers, *words]))


def short(number: int) -> str:
    """Three digits and a unit.

    >>> short(25_557_032), short(145_578), short(999_999), short(12)
    ('25.6 M', '146 k', '1 M', '12')
    """
    power = min(max(math.floor(math.log10(float(f"{number:.3g}"))) // 3, 0), 4)
    return f"{number / 1000**power:.3g} {' kMGT'[power].strip()}".strip()


def _words(rows: "list[Entry]", missing: list[str]) -> str:
    """What the numbers are, and what is not said of the weights."""
    said = [] if rows else ["No network fits; loosen a bound."]
    if any(row.weights for row in rows):
        said.append(STATED)
    if ours := [row for row in rows if not row.weights]:
        how = f"{ours[0].size} x {ours[0].size} pictures in colour and {ours[0].classes} classes"
        said.append(f"counted here, with {how}, without published weights: {', '.join(row.name for row in ours)}")
    if any(row.name == "inception_v3" for row in rows):
        said.append("inception_v3: torchvision counts its second head, which --model does not build")
    if missing:
        said.append(f"not in the torchvision that is installed: {', '.join(missing)}")
    return "".join(f"{line}\n" for line in said)
