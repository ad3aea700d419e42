"""The figures of a thesis that are plots, each with its caption and the numbers it is drawn of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tellapart.evaluation.intervals import wilson
from tellapart.evaluation.metrics import Figure, class_curves
from tellapart.figures.chart import DASHES, Chart, charted
from tellapart.figures.curve import Axis
from tellapart.figures.plot import Layer, in_percent, plain, smoothed
from tellapart.reporting.drawn import (
    DIAGONAL,
    SHARE,
    accuracy_layers,
    average_layers,
    by_epoch,
    chosen,
    epochs_axis,
    loss_layers,
    measured,
    rank_points,
    reliability_layers,
    risk_layers,
    whole,
)
from tellapart.reporting.evidence import Evidence, Facts, Training
from tellapart.reporting.thesis_pictures import (
    Drawn,
    called,
    classes,
    matrix,
    mistakes,
    network,
    part_of,
    wrong_sets,
)

MOST, POINTS = 6, 500
"""Curves in one plot, and points of a curve, at most."""
HALF = (0.0, 0.25, 0.5, 0.75, 1.0)


def figures(of: Training, width: float) -> Iterator[Drawn]:
    """Every figure for which the run has numbers, so many millimetres wide."""
    yield from _curves(of, width)
    if isinstance(of, Evidence):
        yield from matrix(of, width)
    yield from (*classes(of, width), *_ranks(of, width))
    if isinstance(of, Evidence):
        yield from (*_reliability(of, width), *_risk(of, width), *mistakes(of, width))
    else:
        yield from wrong_sets(of, width)
    yield from network(of, width)


def _curves(of: Facts, width: float) -> Iterator[Drawn]:
    epochs, kept = measured(of)
    if not epochs:
        return
    marked = of.shown.marks is not None
    score, draw = ("mean average precision", average_layers) if marked else ("accuracy", accuracy_layers)
    columns, rows = _of_epochs(epochs, score)
    across, note = replace(epochs_axis(epochs), label="epoch"), f"n = {epochs[-1]['val_n']:,} on validation"
    for name, (layers, up), label, ticks in (
        ("loss", loss_layers(epochs, kept), "mean loss", plain),
        (score.removeprefix("mean ").replace(" ", "-"), draw(epochs, kept), f"validation {score}", in_percent),
    ):
        legend = [("main", "training")] * (name == "loss")
        legend += [("other", "validation"), ("ref", f"epoch {kept:.0f}, kept")]
        chart = Chart(layers=layers, across=across, up=replace(up, label=label), words=(whole, ticks), legend=legend)
        what = "Training and validation loss" if name == "loss" else f"Validation {score}"
        what += ", with the 95 % interval of the epoch that was kept," * (name == "accuracy") + " by epoch"
        caption = (
            f"{what} ({note}); light: as measured, dark: smoothed by 0.6; dotted: epoch {kept:.0f}, which was kept."
        )
        yield Drawn(name, charted(chart, width, title=f"{of.name}: {name}"), caption, columns, rows)
    points = by_epoch(epochs, "lr")
    up = Axis("learning rate", 0.0, max(y for _, y in points) or 1.0)
    chart = Chart(layers=[Layer(points=points, look="main")], across=across, up=up, words=(whole, plain), tall=0.4)
    sheet = charted(chart, width, title=f"{of.name}: learning rate")
    yield Drawn("rate", sheet, "Learning rate at the end of each epoch.", ("epoch", "rate"), points)


def _of_epochs(epochs: Sequence[Mapping[str, Any]], score: str) -> tuple[Sequence[str], list[list[object]]]:
    """The columns and rows of what each epoch measured, also smoothed; an accuracy with its interval."""
    columns = ("epoch", "training loss", "validation loss", f"validation {score}", "n", "rate")
    keys = ("train_loss", "val_loss", f"val_{score.replace(' ', '_')}", "val_n", "lr")
    calm = [smoothed([float(one[key]) for one in epochs]) for key in keys[:3]]
    rows = [[one["epoch"] + 1, *(one[key] for key in keys)] for one in epochs]
    rows = [[*row, *each] for row, *each in zip(rows, *calm, strict=True)]
    columns = (*columns, *(f"{name}, smoothed" for name in columns[1:4]))
    if score != "accuracy":
        return columns, rows
    spans = [wilson(one["val_accuracy"] * one["val_n"], one["val_n"]) for one in epochs]
    return (*columns, "accuracy, low", "accuracy, high"), [[*row, *span] for row, span in zip(rows, spans, strict=True)]


def _ranks(of: Training, width: float) -> Iterator[Drawn]:
    found = [(k, one) for k, one in enumerate(class_curves(of.shown)) if one is not None]
    areas, short = {(one.about, one.name): one for one in of.judgement.by_class}, called(of.shown.classes, 14)
    if not found:
        return
    for kind, what, up, across, name in (
        ("roc", "ROC area", "true positive rate", "false positive rate", "roc"),
        ("pr", "average precision", "precision", "recall", "precision-recall"),
    ):
        shown = sorted(sorted(found, key=lambda pair: areas[of.shown.classes[pair[0]], what].value)[:MOST])
        less = f" Shown are the {MOST} classes with the smallest {what}." * (len(shown) < len(found))
        lines = {k: rank_points(kind, one) for k, one in shown}
        layers = [DIAGONAL] * (kind == "roc")
        looks = [f"line {n % len(DASHES)}" for n in range(len(lines))]
        layers += [Layer(points=_thin(line), look=look) for look, line in zip(looks, lines.values(), strict=True)]
        dots = {k: [point for dot in chosen(of, kind, areas, k) for point in dot.points] for k in lines}
        layers += [Layer(points=dot, look=look, kind="dots") for look, dot in zip(looks, dots.values(), strict=True)]
        own = [areas[of.shown.classes[k], what] for k in lines]
        legend = [(look, f"{short[one.about]} {_area(one)}") for look, one in zip(looks, own, strict=True)]
        axes = replace(SHARE, label=across), replace(SHARE, label=up)
        chart = Chart(layers=layers, across=axes[0], up=axes[1], at=HALF, legend=legend, tall=0.75)
        rows = [(of.shown.classes[k], x, y) for k, line in lines.items() for x, y in line]
        columns = ("class", across, up)
        if any(dots.values()):
            rows = [(*row, "curve") for row in rows]
            rows += [(of.shown.classes[k], x, y, "threshold") for k, points in dots.items() for x, y in points]
            columns, less = (*columns, "of"), f" Dots: at the threshold of the class.{less}"
        curve = "ROC curve" if kind == "roc" else "Precision-recall curve"
        caption = f"{curve} of each class, with the {what} and its 95 % interval ({part_of(of)}).{less}"
        title = f"{of.name}: {name}"
        yield Drawn(name, charted(chart, width, title=title), caption, columns, rows)


def _thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most POINTS of them, with both ends: more could not be told apart."""
    if len(points) <= POINTS:
        return points
    return [points[round(n * (len(points) - 1) / (POINTS - 1))] for n in range(POINTS)]


def _area(one: Figure) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}], n = {one.n:,}"


def _reliability(of: Evidence, width: float) -> Iterator[Drawn]:
    found, (layers, axis) = of.judgement, reliability_layers(of)
    legend = [("hollow", "plain softmax"), ("dot", f"at the temperature {found.answering.temperature:.2f}")]
    across, up = replace(axis, label="mean probability of the answer"), replace(axis, label="right answers")
    chart = Chart(layers=layers, across=across, up=up, words=(in_percent, in_percent), legend=legend, tall=0.75)
    (low, high), error = found.calibrated.interval, found.calibrated.error
    caption = (
        f"Reliability ({part_of(of)}, in bins of equal size, with 95 % intervals; bins that would lie on each other "
        f"are drawn as one). Expected calibration error at the temperature: {100 * error:.1f} % "
        f"[{100 * low:.1f}, {100 * high:.1f}]."
    )
    rows = [
        (kind, one.n, one.sure, one.right, one.low, one.high)
        for kind, part in (("raw", found.raw), ("calibrated", found.calibrated))
        for one in part.bins
    ]
    columns = ("probabilities", "n", "mean probability", "right", "low", "high")
    yield Drawn("reliability", charted(chart, width, title=f"{of.name}: reliability"), caption, columns, rows)


def _risk(of: Evidence, width: float) -> Iterator[Drawn]:
    layers, up = risk_layers(of)
    across = replace(SHARE, label="share of pictures that is answered, the surest first")
    axes = across, replace(up, label="right answers")
    chart = Chart(layers=layers, across=axes[0], up=axes[1], words=(in_percent, in_percent))
    caption = f"Share of right answers when only the surest are given, with its 95 % interval ({part_of(of)})."
    columns = ("answered", "right", "low", "high")
    title = f"{of.name}: risk and coverage"
    yield Drawn("risk-coverage", charted(chart, width, title=title), caption, columns, of.judgement.risk)
