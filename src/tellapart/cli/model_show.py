"""`tellapart model show`: a network as a table, a tree, JSON, LaTeX, Markdown or a diagram."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from tellapart.cli.model_named import architecture_of
from tellapart.cli.options import PATH, json_option, network_options, runs_option
from tellapart.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from tellapart.models.build import Architecture
    from tellapart.models.bundle import Bundle
    from tellapart.models.table import Row
    from tellapart.models.trace import Trace

HEADINGS = ("path", "layer", "input -> output", "size", "parameters", "multiply-adds", "memory", "field (jump)")
COMPARED = ("network", "input", "parameters", "weight layers", "multiply-adds", "head", "channels")
FIRST_NUMBER = 4
"""From this column on there are numbers, which stand right."""


class Shown(NamedTuple):
    """A network and what one pass through it showed."""

    name: str
    model: "nn.Module"
    seen: "Trace"


@click.command("show", epilog="Example: tellapart model show vgg16 --size 224 --classes 1000 --svg vgg16.svg")
@click.argument("names", metavar="MODEL …", nargs=-1, required=True)
@network_options
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, 4096), help="How many pictures.")
@click.option("--tree", is_flag=True, help="Print every module by its path instead.")
@click.option("--latex", is_flag=True, help="Print the table for LaTeX (packages booktabs and longtable).")
@click.option("--markdown", is_flag=True, help="Print the table for Markdown.")
@json_option
@click.option("--svg", type=PATH, help="Write a diagram, 160 mm wide, to this file instead.")
@runs_option
def command(
    names: tuple[str, ...],
    size: int | None,
    channels: int | None,
    classes: int | None,
    changes: tuple[str, ...],
    batch: int,
    tree: bool,
    latex: bool,
    markdown: bool,
    as_json: bool,
    svg: Path | None,
    runs: Path,
) -> None:
    """Show MODEL layer by layer: a network by name, a recipe (.toml), a run, or a model file; several side by side."""
    forms = [form for form, asked in zip(FORMS, (tree, latex, markdown, as_json), strict=True) if asked]
    if len(forms) > 1:
        raise UsageError(f"--{forms[0]} and --{forms[1]} cannot both be printed.", "Choose one of them.")
    if len(names) > 1 and (forms or svg):
        raise UsageError(f"--{[*forms, 'svg'][0]} shows one network; received {len(names)}.", "Show them one by one.")
    asked = {"size": size, "channels": channels, "num_classes": classes, "changes": changes or None}
    every = [_passed(*architecture_of(name, runs, asked), batch) for name in names]
    if svg is not None:
        _draw(every[0], svg)
    if len(names) > 1:
        click.echo(columns([COMPARED, *map(_summary, every)], numbers=range(2, 6)))
    elif forms or svg is None:
        click.echo((FORMS[forms[0]] if forms else _text)(every[0]))


def _passed(architecture: "Architecture", name: str, bundle: "Bundle | None", batch: int) -> Shown:
    import torch

    from tellapart.models.build import outline
    from tellapart.models.trace import trace

    model = bundle.outline() if bundle else outline(architecture)
    device = next((p.device for p in model.parameters()), None)
    blank = torch.zeros(batch, architecture.channels, architecture.size, architecture.size, device=device)
    return Shown(name, model, trace(model, blank, name=name))


def _text(shown: Shown) -> str:
    """The table in columns, the totals, and the remarks."""
    from tellapart.models.remarks import remarks

    said = [f"remark: {remark}" for remark in remarks(shown.seen, shown.name)]
    table = columns([HEADINGS, *_cells(shown)], numbers=range(FIRST_NUMBER, len(HEADINGS)))
    return "\n".join([table, "", *_sums(shown), *said])


def columns(lines: Sequence[tuple[str, ...]], *, numbers: range) -> str:
    """Lines of cells as text, cells below each other, numbers to the right."""
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        [cell.rjust(w) if n in numbers else cell.ljust(w) for n, (cell, w) in enumerate(zip(line, wide, strict=True))]
        for line in lines
    )
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _summary(shown: Shown) -> tuple[str, ...]:
    """One line of several networks: its sums, and the channels as they change from convolution to convolution."""
    from tellapart.models.table import channels, size_of, totals

    sums = totals(shown.seen)
    share = f"{sums['head']['parameters'] / max(1, sums['parameters']):.0%}"
    counts = (f"{sums['parameters']:,}", str(sums["weight_layers"]), f"{sums['multiply_adds']:,}", share)
    return (shown.name, size_of(shown.seen.picture), *counts, " ".join(map(str, channels(shown.seen))))


def _cells(shown: Shown) -> list[tuple[str, ...]]:
    from tellapart.models.table import rows

    return [_line(row) for row in rows(shown.seen)]


def _line(row: "Row") -> tuple[str, ...]:
    from tellapart.models.table import size_of

    step = row.step
    inputs = " and ".join(map(size_of, step.inputs))
    if len(step.inputs) > 2:
        inputs = f"{len(step.inputs)} tensors"
    weights = f"{step.parameters:,}" if step.parameters else ("again" if step.again and _weighs(row) else "")
    memory = f"{step.size / 1000:,.1f} kB" if step.size else ""
    work = f"{step.multiply_adds:,}" if step.multiply_adds else ""
    shape = f"{inputs} -> {size_of(step.output)}"
    return (step.path, row.layer, shape, row.formula, weights, work, memory, _field(row))


def _weighs(row: "Row") -> bool:
    return row.step.module is not None and any(True for _ in row.step.module.parameters())


def _field(row: "Row") -> str:
    """The receptive field, and the jump while the map has places: `32 (8)`; `?` where it is not known."""
    field = row.step.field
    if field is None:
        return "?"
    sizes, jumps = field.size, tuple(span.jump for span in field.spans)
    pairs = [str(pair[0]) if pair[0] == pair[1] else "x".join(map(str, pair)) for pair in (sizes, jumps)]
    return pairs[0] + (f" ({pairs[1]})" if len(field.axes) == 2 and max(jumps) else "")


def _sums(shown: Shown) -> list[str]:
    from tellapart.models.table import totals

    seen = totals(shown.seen)
    every, head, body = seen["parameters"], seen["head"], seen["body"]["parameters"]
    share = f" = {head['parameters'] / every:.1%}" if every else ""
    layers = f": {', '.join(head['layers'])}" if head["layers"] else ", no linear layer at the end"
    work = f"{seen['multiply_adds']:,} for {_counted(shown.seen.picture[0])}; twice as many operations"
    lost = f"; not counted: {', '.join(seen['uncounted'])}" if seen["uncounted"] else ""
    unused = f"; {seen['unused']:,} of them take no part" if seen["unused"] else ""
    return [
        f"parameters     {every:,}: {seen['trained']:,} trained, {seen['frozen']:,} frozen{unused}",
        f"weight layers  {seen['weight_layers']} (convolutions and linear layers; attention has two)",
        f"multiply-adds  {work}{lost}",
        f"memory         {seen['bytes'] / 1e6:,.2f} MB of results, {_stored(shown.model) / 1e6:,.2f} MB of parameters",
        f"head           {head['parameters']:,} of {every:,} parameters{share}{layers}; body {body:,}",
    ]


def _counted(pictures: int) -> str:
    return f"{pictures:,} picture" + "s" * (pictures > 1)


def _stored(model: "nn.Module") -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _tree(shown: Shown) -> str:
    from tellapart.models.table import tree

    return "\n".join(tree(shown.model))


def _json(shown: Shown) -> str:
    from tellapart.models.remarks import remarks
    from tellapart.models.table import rows, totals

    facts: dict[str, Any] = {
        "format": 1,
        "name": shown.name,
        "input": list(shown.seen.picture),
        "output": list(shown.seen.output),
        "rows": [row.to_json() for row in rows(shown.seen)],
        "totals": totals(shown.seen),
        "remarks": remarks(shown.seen, shown.name),
    }
    return json.dumps(facts, indent=1)


def _markdown(shown: Shown) -> str:
    cells = [[_mathematics(cell, n) for n, cell in enumerate(line)] for line in _cells(shown)]
    rule = ["---:" if n >= FIRST_NUMBER else "---" for n in range(len(HEADINGS))]
    table = [" | ".join(line) for line in (HEADINGS, rule, *cells)]
    return "\n".join([*(f"| {line} |" for line in table), "", *(f"- {line}" for line in _sums(shown))])


def _latex(shown: Shown) -> str:
    """A longtable, because networks are longer than pages."""
    columns = "l" * FIRST_NUMBER + "r" * (len(HEADINGS) - FIRST_NUMBER)
    lines = [" & ".join(_escaped(_mathematics(cell, n)) for n, cell in enumerate(line)) for line in _cells(shown)]
    return "\n".join(
        [
            rf"\begin{{longtable}}{{{columns}}}",
            r"\toprule",
            " & ".join(HEADINGS).replace("->", r"$\to$") + r" \\",
            r"\midrule\endhead",
            *(line + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{longtable}",
            *(f"% {line}" for line in _sums(shown)),
        ]
    )


def _mathematics(cell: str, column: int) -> str:
    """Shapes and size formulas as mathematics between dollars."""
    if not cell or column not in (2, 3):
        return cell
    turned = re.sub(r"(floor|ceil)\((.*)\) \+", r"\\l\1 \2 \\r\1 +", cell) if column == 3 else cell
    turned = re.sub(r"(?<=\d) ?x ?(?=[\d(])", r" \\times ", turned).replace("->", r"\to")
    turned = re.sub(r"(input|output|and|tensors|the same)", r"\\text{ \1 }", turned)
    return f"${turned}$"


def _escaped(cell: str) -> str:
    """What LaTeX reads as commands, outside mathematics."""
    return cell if cell.startswith("$") else re.sub(r"([_&%#{}])", r"\\\1", cell)


def _draw(shown: Shown, path: Path) -> None:
    from tellapart.figures.boxes import boxes_of
    from tellapart.figures.diagram import diagram
    from tellapart.figures.sheet import as_svg
    from tellapart.files import write_result

    under = f"{shown.seen.trained + shown.seen.frozen:,} parameters"
    write_result(path, as_svg(diagram(boxes_of(shown.seen), title=shown.name, under=under)).encode())
    click.echo(f"{path}: a diagram of {shown.name}, 160 mm wide", err=True)


FORMS = {"tree": _tree, "latex": _latex, "markdown": _markdown, "json": _json}
