"""`tellapart compare`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tellapart.cli.options import PATH, json_option, runs_option
from tellapart.cli.runs import share
from tellapart.recipe import printable

if TYPE_CHECKING:
    from tellapart.workflow.compare import Comparison, Model, Pair, Picture

FITS = 5
"""Trainings of a model whose gap between training and validation is shown."""
MARKED = ("mean average precision", "micro F1", "exact match")
"""The scores that are shown where a picture may have several classes."""


@click.command(
    "compare", epilog="Examples: tellapart compare first second · tellapart compare first second --curves curves.png"
)
@click.argument("models", nargs=-1, required=True, metavar="RUN…")
@click.option("--pictures", type=PATH, metavar="FILE.png", help="Draw pictures that one got right and the other not.")
@click.option(
    "--curves", type=PATH, metavar="FILE", help="Draw loss and accuracy by epoch: .png, .svg, or .csv for the numbers."
)
@click.option(
    "--smooth",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.6,
    show_default=True,
    help="How much curves are smoothed, as in TensorBoard; 0: not at all.",
)
@runs_option
@json_option
def command(
    models: tuple[str, ...], pictures: Path | None, curves: Path | None, smooth: float, runs: Path, as_json: bool
) -> None:
    """Say whether one RUN is better than another, on the pictures that all of them judged.

    A RUN is a run, or a folder of several trainings. Stored predictions are compared: those of the test part where all
    have opened it, else those of validation. Nothing is opened, and no network runs.
    """
    from tellapart.workflow.compare import compare
    from tellapart.workflow.courses import draw_courses

    found = compare(runs, models)
    lines = list(comparison_lines(found))
    if pictures is not None:
        lines.append(drawn(found, pictures))
    if curves is not None:
        lines.append(draw_courses(runs, models, curves, smooth=smooth))
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(map(printable, lines)))


def comparison_lines(found: "Comparison") -> Iterator[str]:
    """The comparison for a person: the table, the verdicts, what differs, and what has to be known."""
    part = "out of fold" if found.part == "out of fold" else f"on the {found.part} part"
    yield f"{part}: {found.n:,} pictures{' that all of them judged' * (len(found.models) > 1)}"
    width = max(3, *(len(one.name) for one in found.models))
    if _marked(found):
        yield f"{'run':<{width}}  {'  '.join(f'{name:<24}' for name in MARKED)}  mean loss [95 % interval]"
        yield from (_marked_row(one, width) for one in found.models)
    else:
        yield f"{'run':<{width}}  {'trainings':>9}  {'accuracy [95 % interval]':<24}  mean loss [95 % interval]"
        yield from (_row(one, width) for one in found.models)
    fits = [fit for one in found.models for fit in one.fits[:FITS]]
    yield from ["", "how each fits:"] * bool(fits)
    yield from (f"  {name:<{width}}  {text}" for name, text in fits)
    for pair in found.pairs:
        yield ""
        yield pair.verdict
        yield from _about(found.models[0].name, pair)
    if len(found.models) > 1:
        yield from ["", f"what differs, in the order {' | '.join(one.name for one in found.models)}:"]
        yield from _unlike(found)
    yield from [""] * bool(found.notes)
    yield from (f"note: {note}" for note in found.notes)


def _marked(found: "Comparison") -> bool:
    """Whether a picture may have several classes: the first score is then another one."""
    return next(iter(found.models[0].trainings.values()))[0].name == MARKED[0]


def _marked_row(one: "Model", width: int) -> str:
    figures = {figure.name: figure for figure in next(iter(one.trainings.values()))}
    shares, loss = [share(figures[name].to_json()) for name in MARKED], figures["loss"]
    cells = "  ".join(f"{text:<24}" for text in shares)
    return f"{one.name:<{width}}  {cells}  {loss.value:.4f} [{loss.low:.4f}, {loss.high:.4f}]"


def _row(one: "Model", width: int) -> str:
    if one.spread:
        accuracy, loss = (next(of for of in one.spread if of.name == name) for name in ("accuracy", "loss"))
        shown = (
            f"{100 * accuracy.mean:.2f} ± {100 * accuracy.sd:.2f} %",
            f"{loss.mean:.4f} ± {loss.sd:.4f} (mean ± sd of {loss.n})",
        )
        return f"{one.name:<{width}}  {one.runs:>9}  {shown[0]:<24}  {shown[1]}"
    figures = {figure.name: figure for figure in next(iter(one.trainings.values()))}
    loss = figures["loss"]
    accuracy, mean = share(figures["accuracy"].to_json()), f"{loss.value:.4f} [{loss.low:.4f}, {loss.high:.4f}]"
    return f"{one.name:<{width}}  {one.runs:>9}  {accuracy:<24}  {mean}"


def _about(first: str, pair: "Pair", *, most: int = 5) -> Iterator[str]:
    """The differences of the other scores and of the mean loss, and the pictures that were won and lost."""
    for one in pair.gains:
        ends = f"{100 * one.difference:+.1f} points [{100 * one.low:.1f}, {100 * one.high:.1f}]"
        yield f"  {one.name} of {pair.name} less that of {first}: {ends} (paired bootstrap)"
    if pair.found.loss is not None:
        value, low, high = pair.found.loss
        less = f"{value:+.4f} [{low:.4f}, {high:.4f}]"
        yield f"  mean loss of {pair.name} less that of {first}: {less}"
    for who, pictures in ((pair.name, pair.won), (first, pair.lost)):
        shown = "; ".join(_named(one) for one in pictures[:most])
        more = f"; … and {len(pictures) - most:,} more" * (len(pictures) > most)
        yield f"  only {who} is right on {len(pictures):,}{f': {shown}{more}' if pictures else ''}"


def _named(one: "Picture") -> str:
    from tellapart.figures.inert import in_line

    wrong = one.first if one.second == one.label else one.second
    return f"{one.key} ({in_line(one.label)}, not {in_line(wrong)})"


def _unlike(found: "Comparison") -> Iterator[str]:
    from tellapart.figures.inert import in_line

    for name, every in (("recipe", found.recipe), ("environment", found.environment)):
        for one in every:
            told = zip(one.values, one.origins, strict=True)
            values = " | ".join(f"{value} ({origin})" if origin else value for value, origin in told)
            yield f"  {name:<11}  {one.name}: {values}"
        if not every:
            yield f"  {name:<11}  nothing"
    data, parts = found.data, ("train", "validation", "test")
    if not any((*data.more, *data.fewer, *data.moved)):
        yield f"  {'pictures':<11}  nothing: the same {sum(data.counts[0].values()):,} in the same parts"
        return
    for part in parts:
        yield f"  {'pictures':<11}  {part}: {' | '.join(f'{counts[part]:,}' for counts in data.counts)}"
    first = found.models[0].name
    for one, more, fewer, moved in list(zip(found.models, data.more, data.fewer, data.moved, strict=True))[1:]:
        apart = (fewer, f"only in {first}"), (more, f"only in {one.name}"), (moved, f"in another part in {one.name}")
        if any(n for n, _ in apart):
            yield f"  {'pictures':<11}  {', '.join(f'{n:,} {words}' for n, words in apart if n)}"
    totals = {name: [sum(one.values()) for one in counts] for name, counts in data.classes.items()}
    unlike = [(name, counts) for name, counts in totals.items() if len(set(counts)) > 1]
    for name, counts in unlike[:10]:
        yield f"  {'pictures':<11}  of {in_line(name)}: {' | '.join(f'{n:,}' for n in counts)}"
    if len(unlike) > 10:
        yield f"  {'pictures':<11}  … and {len(unlike) - 10:,} more classes; --json has them all"


def drawn(found: "Comparison", path: Path, *, most: int = 20) -> str:
    """Draw won and lost pictures with what both said of them, and say where. Without any, nothing is drawn."""
    from tellapart.figures.grid import grid, save_picture

    if found.thumbnails is None:
        return "no small pictures are stored with these predictions; nothing is drawn"
    images, captions = [], []
    for pair in found.pairs:
        for one in [*pair.won[:most], *pair.lost[:most]]:
            images.append(found.thumbnails[one.row])
            said = f"true: {one.label}", f"{found.models[0].name}: {one.first}", f"{pair.name}: {one.second}"
            captions.append("\n".join(map(printable, said)))
    if not images:
        return "there is no picture that one got right and the other not; nothing is drawn"
    save_picture(grid(images, captions, tile=128), path)
    every = sum(len(pair.won) + len(pair.lost) for pair in found.pairs)
    some = f"{len(images):,} of the " * (len(images) < every)
    return f"{some}{every:,} pictures that one got right and the other not: {path.absolute()}"
