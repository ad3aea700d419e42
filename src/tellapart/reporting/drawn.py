"""The sections of the report that are drawn: curves of the training, ranks, calibration, and answering when sure."""

from collections.abc import Iterator, Mapping, Sequence

from tellapart.evaluation.calibration import Bin, Reliability
from tellapart.evaluation.intervals import wilson
from tellapart.evaluation.metrics import Figure, class_curves
from tellapart.evaluation.ranks import Curve
from tellapart.figures.curve import Axis
from tellapart.figures.plot import Layer, in_percent, plain, plot, smoothed
from tellapart.reporting.evidence import Evidence, Facts, Marked
from tellapart.reporting.markup import both, drawing, folded, interval, name, paragraph, sentence, shares, table, words
from tellapart.reporting.story import spoiled
from tellapart.reporting.words import Value, said, word

DRAWN, SMALL, THIRD = 10, (200, 170), (320, 220)
"""Classes whose ranks are drawn; the sizes of small plots, and of three beside each other."""
BESIDE = 25
"""How many bins have room beside each other."""
SHARE = Axis("", 0.0, 1.0)
DIAGONAL = Layer(points=((0, 0), (1, 1)), look="ref")


def measured(of: Facts) -> tuple[list, float]:
    """The epochs with both losses, and the one, from 1, of which the model was kept."""
    epochs = [one for one in of.epochs if one["train_loss"] is not None and one["val_loss"] is not None]
    last = epochs[-1]["epoch"] if epochs else 0
    return epochs, float((of.status.get("best") or {}).get("epoch", last)) + 1


def curves(of: Facts) -> Iterator[str]:
    """Loss, accuracy (or the mean average precision) and rate by epoch."""
    epochs, kept = measured(of)
    if not epochs:
        yield paragraph("no_curves")
        return
    yield '<div class="three">'
    score = _accuracy if of.shown.marks is None else _average_precision
    yield from (_loss(epochs, kept), score(epochs, kept), _rate(epochs))
    yield "</div>" + paragraph("loss_note")


def by_epoch(epochs: Sequence, key: str) -> list[tuple[float, float]]:
    """The points of one number, epochs counted from 1."""
    return [(epoch["epoch"] + 1.0, float(epoch[key])) for epoch in epochs]


def whole(value: float) -> str:
    """A tick between two epochs has no number."""
    return f"{value:,.0f}" if value == int(value) else ""


def epochs_axis(epochs: Sequence) -> Axis:
    """From the first epoch to the last."""
    first, last = epochs[0]["epoch"] + 1.0, epochs[-1]["epoch"] + 1.0
    return Axis("", first, last if last > first else first + 1)


def loss_layers(epochs: Sequence, kept: float) -> tuple[list[Layer], Axis]:
    """Both losses by epoch, as measured and smoothed, a mark at the epoch that was kept; and the axis up."""
    layers, top = [], 0.0
    for key, look in (("train_loss", "main"), ("val_loss", "other")):
        points = by_epoch(epochs, key)
        top = max(top, *(y for _, y in points))
        layers.append(Layer(points=points, look=f"{look} faint"))
        layers.append(Layer(points=calm(points), look=look))
    up = Axis("", 0.0, top or 1.0)
    return [_mark(kept, up), *layers], up


def _loss(epochs: Sequence, kept: float) -> str:
    layers, up = loss_layers(epochs, kept)
    drawn = plot(layers, across=epochs_axis(epochs), up=up, named_by="plot-loss", size=THIRD, words=(whole, plain))
    legend = [("main", words("train")), ("other", words("validation"))]
    legend += [("faint", words("measured")), ("calm", words("smooth"))]
    return drawing(sentence("curve_loss", {"best": f"{kept:.0f}"}), drawn, "plot-loss", legend=legend)


def calm(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points with their heights smoothed."""
    return list(zip([x for x, _ in points], smoothed([y for _, y in points]), strict=True))


def _mark(x: float, up: Axis) -> Layer:
    return Layer(points=((x, up.low), (x, up.high)), look="ref")


def accuracy_layers(epochs: Sequence, kept: float) -> tuple[list[Layer], Axis]:
    """Validation accuracy by epoch, as measured and smoothed, with the interval of the epoch that was kept."""
    points, n = by_epoch(epochs, "val_accuracy"), epochs[-1]["val_n"]
    best = [(x, y) for x, y in points if x == kept]
    lows, highs = zip(*(wilson(y * n, n) for _, y in best), strict=True) if best else ((), ())
    up = Axis("", max(0.0, min(y for _, y in points) - 0.02), 1.0)
    layers = [_mark(kept, up), Layer(points=points, look="other faint")]
    layers.append(Layer(points=calm(points), look="other"))
    layers.append(Layer(points=best, look="bar", kind="bars", low=lows, high=highs))
    return [*layers, Layer(points=best, look="dot", kind="dots")], up


def _accuracy(epochs: Sequence, kept: float) -> str:
    layers, up = accuracy_layers(epochs, kept)
    drawn = plot(layers, across=epochs_axis(epochs), up=up, named_by="plot-acc", size=THIRD, words=(whole, in_percent))
    return drawing(sentence("curve_accuracy", {"n": f"{epochs[-1]['val_n']:,}"}), drawn, "plot-acc")


def average_layers(epochs: Sequence, kept: float) -> tuple[list[Layer], Axis]:
    """The mean average precision on validation by epoch, as measured and smoothed, a dot at the epoch that was kept."""
    points = by_epoch(epochs, "val_mean_average_precision")
    up = Axis("", max(0.0, min(y for _, y in points) - 0.02), 1.0)
    best = Layer(points=[(x, y) for x, y in points if x == kept], look="dot", kind="dots")
    layers = [Layer(points=points, look="other faint"), Layer(points=calm(points), look="other"), best]
    return [_mark(kept, up), *layers], up


def _average_precision(epochs: Sequence, kept: float) -> str:
    layers, up = average_layers(epochs, kept)
    drawn = plot(layers, across=epochs_axis(epochs), up=up, named_by="plot-map", size=THIRD, words=(whole, in_percent))
    return drawing(sentence("curve_average_precision", {"n": f"{epochs[-1]['val_n']:,}"}), drawn, "plot-map")


def _rate(epochs: Sequence) -> str:
    points = by_epoch(epochs, "lr")
    up = Axis("", 0.0, max(y for _, y in points) or 1.0)
    drawn = plot(
        [Layer(points=points, look="main")],
        across=epochs_axis(epochs),
        up=up,
        named_by="plot-rate",
        size=THIRD,
        words=(whole, plain),
    )
    return drawing(sentence("curve_rate"), drawn, "plot-rate")


def ranks(of: Evidence | Marked) -> Iterator[str]:
    """The ROC and the precision-recall curve of up to ten classes, those with the smallest area; where each has a
    threshold, with what it reaches there.
    """
    found = [(k, one) for k, one in enumerate(class_curves(of.shown)) if one is not None]
    areas = {(one.about, one.name): one for one in of.judgement.by_class}
    shown = sorted(sorted(found, key=lambda pair: pair[1].area)[:DRAWN])
    if len(shown) < len(found):
        yield paragraph("ten", {"shown": f"{DRAWN}", "all": f"{len(found)}"})
    for kind, what in (("roc", "ROC area"), ("pr", "average precision")):
        dots = sentence("pr_dots") if kind == "pr" and of.shown.marks is not None else ""
        yield f'<p class="soft">{sentence(kind)} {dots}</p><div class="many">'
        for k, one in shown:
            figure, identity = areas[of.shown.classes[k], what], f"plot-{kind}-{k}"
            points = rank_points(kind, one)
            share = figure.n / len(of.shown)
            reference = DIAGONAL if kind == "roc" else Layer(points=((0, share), (1, share)), look="ref")
            layers = [reference, Layer(points=points, look="main"), *chosen(of, kind, areas, k)]
            drawn = plot(layers, across=SHARE, up=SHARE, named_by=identity, size=SMALL, at=(0.0, 0.5, 1.0))
            area = f"{interval(figure, scale=1, digits=3)}, n&nbsp;=&nbsp;{figure.n:,}"
            title = f"<strong>{name(of.shown.classes[k], 24)}</strong> {area}"
            yield drawing(title, drawn, identity)
        yield "</div>"


def chosen(of: Facts, kind: str, figures: Mapping[tuple[str, str], Figure], k: int) -> Iterator[Layer]:
    """Where a picture may have several classes: recall and precision at the threshold of a class, as a dot."""
    recall, precision = (figures[of.shown.classes[k], what] for what in ("recall", "precision"))
    if kind == "pr" and of.shown.marks is not None and recall.n and precision.n:
        yield Layer(points=[(recall.value, precision.value)], look="dot", kind="dots")


def rank_points(kind: str, one: Curve) -> list[tuple[float, float]]:
    """The points of an ROC curve ("roc") or of a precision-recall curve: that one has steps, and the average precision
    is what lies below them.
    """
    if kind == "roc":
        return [(0.0, 0.0), *zip(one.alarms.tolist(), one.hits.tolist(), strict=True)]
    before, points = 0.0, []
    for hit, precision in zip(one.hits.tolist(), one.precision.tolist(), strict=True):
        if hit > before:
            points += [(before, precision), (hit, precision)]
        before = hit
    return points


def calibration(of: Evidence) -> Iterator[str]:
    """How sure the answers are, as against how often right, before and after the temperature."""
    found, by = of.judgement, of.judgement.answering
    yield '<div class="two">'
    layers, axis = reliability_layers(of)
    drawn = plot(layers, across=axis, up=axis, named_by="plot-bins", words=(in_percent, in_percent))
    legend = [("hollow", words("raw")), ("dot", words("cooled"))]
    yield drawing(sentence("reliability"), drawn, "plot-bins", legend=legend) + "<div>"
    where = said("here" if found.fitted_here else "on_validation", {})
    span = "" if by.span is None else f" [{by.span[0]:.2f}, {by.span[1]:.2f}]"
    yield paragraph("error_raw", _error(found.raw), look="")
    more: dict[str, Value] = {
        "temperature": f"{by.temperature:.2f}{span}",
        "where": where,
        "chance": f"{100 * found.calibrated.by_chance:.1f} %",
    }
    yield paragraph("error_cooled", {**_error(found.calibrated), **more}, look="") + "</div></div>"


def reliability_layers(of: Evidence) -> tuple[list[Layer], Axis]:
    """How sure and how right, before and after the temperature; and both axes."""
    raw = of.judgement.raw
    low = min([0.9] + [one.sure for one in raw.bins] + [one.low for one in raw.bins])
    low = max(0.0, low - 0.05 * (1 - low))
    kinds = (raw, "other faint", "hollow"), (of.judgement.calibrated, "bar", "dot")
    bins = [layer for one, bar, dot in kinds for layer in _bins(pooled(one.bins, (1 - low) / BESIDE), bar, dot)]
    return [DIAGONAL, *bins], Axis("", low, 1.0)


def pooled(bins: Sequence[Bin], near: float) -> list[Bin]:
    """Bins in order, of which those nearer to each other than that are one: their bars would lie on each other."""
    found: list[Bin] = []
    for one in bins:
        if found and one.sure - found[-1].sure < near:
            last = found.pop()
            n, hits = last.n + one.n, last.n * last.right + one.n * one.right
            sure = (last.n * last.sure + one.n * one.sure) / n
            one = Bin(n, sure, hits / n, *wilson(round(hits), n))
        found.append(one)
    return found


def _error(one: Reliability) -> dict[str, Value]:
    low, high = one.interval
    return {
        "error": f"{100 * one.error:.1f} %",
        "low": f"{100 * low:.1f}",
        "high": f"{100 * high:.1f}",
        "n": f"{one.n:,}",
    }


def _bins(bins: Sequence[Bin], bar: str, dot: str) -> Iterator[Layer]:
    points = [(one.sure, one.right) for one in bins]
    lows, highs = [one.low for one in bins], [one.high for one in bins]
    yield Layer(points=points, look=bar, kind="bars", low=lows, high=highs)
    yield Layer(points=points, look=dot, kind="dots")


def risk_layers(of: Evidence) -> tuple[list[Layer], Axis]:
    """The share of right answers among the surest, with its interval as a band; and the axis up."""
    points = [(share, right) for share, right, _, _ in of.judgement.risk]
    lows, highs = [low for *_, low, _ in of.judgement.risk], [high for *_, high in of.judgement.risk]
    up = Axis("", max(0.0, min([*lows[len(lows) // 10 :], 0.98]) - 0.01), 1.0)
    band = Layer(points=points, look="band", kind="area", low=lows, high=highs)
    return [band, Layer(points=points, look="main")], up


def risk(of: Evidence) -> Iterator[str]:
    """The share of right answers among the surest, and what the model promises."""
    found, (layers, up) = of.judgement, risk_layers(of)
    drawn = plot(layers, across=SHARE, up=up, named_by="plot-risk", words=(in_percent, in_percent))
    yield f'<div class="two">{drawing(sentence("risk", {"n": f"{found.n:,}"}), drawn, "plot-risk")}<div>'
    rows = [
        [f"{100 * precision:g} %", f"{least:.3f}", f"{100 * answered / found.n:.1f} %", f"{right:,} / {answered:,}"]
        for precision, least, answered, right in found.kept
    ]
    head = [words(one) for one in ("promise", "least", "answered", "right")]
    yield (table(head, rows, named_by="risk-title") if rows else paragraph("no_promise", look="")) + "</div></div>"


def robustness(of: Evidence) -> Iterator[str]:
    """Accuracy by strength for each way of spoiling the pictures, drawn and as a table."""
    if not of.robustness:
        yield paragraph("no_robustness")
        return
    yield (
        paragraph("robust", {"part": word(of.robustness[0].part), "n": f"{of.robustness[0].n:,}"})
        + '<div class="many">'
    )
    low = min(one.low for one in of.robustness)
    up, before = Axis("", max(0.0, low - 0.02), 1.0), [(0.0, one) for one in of.robustness if not one.about]
    ways: dict[str, list[tuple[float, Figure]]] = {}
    for one in of.robustness:
        way, _, strength = one.about.rpartition(" ")
        if way:
            ways.setdefault(way, [*before]).append((float(strength), one))
    for number, (way, found) in enumerate(ways.items()):
        yield _way(way, found, up, f"plot-way-{number}")
    rows = [[both(spoiled(one.about)) if one.about else words("none"), *shares(one)] for one in of.robustness]
    head = [*(words(one) for one in ("spoiled", "accuracy", "line", "interval")), "n"]
    yield "</div>" + folded(words("numbers"), table(head, rows, named_by="robustness-title", look="shares"))


def _way(way: str, found: Sequence[tuple[float, Figure]], up: Axis, identity: str) -> str:
    """Accuracy by strength for one way of spoiling."""
    points = [(strength, one.value) for strength, one in found]
    lows, highs = [one.low for _, one in found], [one.high for _, one in found]
    bars = Layer(points=points, look="bar", kind="bars", low=lows, high=highs)
    layers = [Layer(points=points, look="main"), bars, Layer(points=points, look="dot", kind="dots")]
    across = Axis("", 0.0, max(strength for strength, _ in found) or 1.0)
    drawn = plot(layers, across=across, up=up, named_by=identity, size=SMALL, words=(plain, in_percent))
    return drawing(f"<strong>{words(way)}</strong>", drawn, identity)
