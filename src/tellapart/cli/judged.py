"""A judgement as lines: every score with its interval, how sure the answers are, and what they promise."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tellapart.recipe import printable

if TYPE_CHECKING:
    from tellapart.evaluation.calibration import Reliability
    from tellapart.evaluation.judgement import Judgement
    from tellapart.evaluation.marks import Marked
    from tellapart.evaluation.metrics import Figure
    from tellapart.evaluation.slices import Slice
    from tellapart.workflow.robust import Robustness
    from tellapart.workflow.views import Gain

PLAIN = ("loss", "Brier", "Cohen's kappa", "MCC")
"""Scores that are no shares: they are shown as they are, not in percent."""


def judgement_lines(found: "Judgement | Marked") -> Iterator[str]:
    """Everything that is said of one part, but the classes; with them where a picture may have several."""
    from tellapart.evaluation.marks import Marked
    from tellapart.figures.inert import in_line

    if isinstance(found, Marked):
        yield from _marked_lines(found)
        return
    width = max(len(one.name) for one in found.figures)
    yield f"{f'of the {found.part} part':<{width}}  value [95 % interval]"
    yield from (f"{one.name:<{width}}  {spanned(one)}" for one in found.figures)
    unit = "" if found.groups is None else f" in {found.groups:,} groups, which the intervals are of"
    apart = f"{100 * found.resolves:.1f} points, or less when two models make the same mistakes"
    yield f"n = {found.n:,} pictures{unit}; they tell accuracies apart that differ by {apart}"
    yield ""
    yield from answering_lines(found)
    if found.confused:
        named = (f"{in_line(own)} as {in_line(said)} ({count:,})" for own, said, count in found.confused[:5])
        yield printable(f"most confused: {', '.join(named)}")


def _marked_lines(found: "Marked") -> Iterator[str]:
    """The scores of pictures that may have several classes, and a table of the classes at their thresholds."""
    from tellapart.figures.inert import in_line

    width = max(len(one.name) for one in found.figures)
    yield f"{f'of the {found.part} part':<{width}}  value [95 % interval]"
    yield from (f"{one.name:<{width}}  {spanned(one) if one.n else '– (nothing to judge)'}" for one in found.figures)
    unit = "" if found.groups is None else f" in {found.groups:,} groups, which the intervals are of"
    yield f"n = {found.n:,} pictures{unit}, {found.several:,} with several classes, {found.none:,} with none"
    yield ""
    yield from _class_lines(found)
    where = "these pictures, which flatters it" if found.fitted_here else "validation"
    yield f"a picture has each class whose probability (sigmoid) reaches its threshold: of the highest F1 on {where}"
    if few := [in_line(name) for name, one in zip(found.classes, found.thresholds, strict=True) if not one.fitted]:
        yield printable(f"threshold 0.5, for too few of validation have it, or lack it: {', '.join(few)}")


def _class_lines(found: "Marked", most: int = 40) -> Iterator[str]:
    """A class a line: its pictures, how well it is ranked, its threshold, and what that finds."""
    from tellapart.figures.inert import in_line
    from tellapart.figures.letters import apart

    of = {(one.about, one.name): one for one in found.by_class}
    names, heads = apart(found.classes, in_line), ("average precision", "recall", "precision")
    width = max(len("class"), *map(len, names))
    columns = "  ".join(f"{head:<24}" for head in heads)
    yield f"{'class':<{width}}  {'n':>6}  threshold  {columns}".rstrip()
    rows = list(zip(found.classes, names, found.thresholds, strict=True))
    for own, name, least in rows[:most]:
        cells = (of.get((own, head)) for head in heads)
        shown = "  ".join(f"{spanned(one) if one and one.n else '–':<24}" for one in cells)
        yield f"{name:<{width}}  {of[own, 'recall'].n:>6,}  {least.value:>9.3f}  {shown}".rstrip()
    if len(rows) > most:
        yield f"… and {len(rows) - most} more; --json has them all"


def spanned(one: "Figure") -> str:
    """A score with its interval, in percent where it is a share of one."""
    if one.name.split(",")[0] in PLAIN:
        return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
    return f"{100 * one.value:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]"


def answering_lines(found: "Judgement") -> Iterator[str]:
    """How sure the answers are, as against how often right; what they promise; what is unknown."""
    by, where = found.answering, "these pictures" if found.fitted_here else "validation"
    span = "" if by.span is None else f" [{by.span[0]:.2f}, {by.span[1]:.2f}], fitted to {where} (n = {by.n:,})"
    yield f"temperature {by.temperature:.2f}{span}"
    yield f"calibration error  {_error(found.raw)} without it"
    yield f"                   {_error(found.calibrated)} with it: {_verdict(found.calibrated, found.fitted_here)}"
    for precision, least, answered, right in found.kept:
        rightly = f", {100 * right / answered:.1f} % of these rightly" if answered else ""
        yield (
            f"promise {100 * precision:g} % right: from probability {least:.3f} on; here {answered:,} of {found.n:,} "
            f"({100 * answered / found.n:.1f} %) are answered{rightly}"
        )
    if not found.kept:
        yield "promise: validation is too small, or wrong too often, to show from where on 90 % of answers are right"
    if by.known is not None:
        share = 100 * found.unknown / found.n
        yield f"unknown: {found.unknown:,} of {found.n:,} ({share:.1f} %) score less than 98 % of validation does"


def slice_lines(by: str, found: "list[Slice]") -> Iterator[str]:
    """A slice a line, the worst first: its n, its accuracy, and how far it is off that of the rest."""
    from tellapart.figures.inert import in_line

    if len(found) < 2:
        yield printable(f"by {by}: no two values have five pictures or more each")
        return
    names = [in_line(one.figure.about) for one in found]
    width = max(map(len, names))
    yield printable(f"by {by}, {found[0].figure.part} part")
    yield f"{'':<{width}}  {'n':>6}  {'accuracy [95 % interval]':<24}  points off the rest"
    for name, one in zip(names, found, strict=True):
        off = f"{100 * one.off:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
        word = ("  worse, surely" if one.off < 0 else "  better, surely") * one.sure
        yield f"{name:<{width}}  {one.figure.n:>6,}  {spanned(one.figure):<24}  {off}{word}"
    if not any(one.sure for one in found):
        yield f"no slice is surely off the rest, of {len(found)} looked at"


def view_lines(found: "Gain") -> Iterator[str]:
    """The accuracy of one look and of several, and what is gained."""
    yield f"{found.each} views of each validation picture ({', '.join(found.kinds)}), n = {found.one.n:,}"
    yield f"one look  {spanned(found.one)}"
    by = found.gained
    off = f"{100 * by.difference:+.1f} points [{100 * by.low:+.1f}, {100 * by.high:+.1f}]"
    yield f"{found.each} views   {spanned(found.several)}, {off}, {by.won} won, {by.lost} lost: {found.verdict}"


def robustness_lines(found: "Robustness") -> Iterator[str]:
    """A table of accuracies: a way of spoiling pictures a line, a strength a column; then what it falls for."""
    from tellapart.evaluation.robustness import STRENGTHS

    clean = found.figures[0]
    yield f"accuracy on {clean.n:,} validation pictures, in percent: {spanned(clean)} as they are, and spoilt:"
    yield f"{'strength':<9}" + "".join(f"{n:<18}" for n in range(1, 6)).rstrip()
    for way in STRENGTHS:
        cells = (f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]" for one in found.of(way))
        yield f"{way:<9}" + "".join(f"{cell:<18}" for cell in cells).rstrip()
    yield from found.findings()


def _error(found: "Reliability") -> str:
    low, high = found.interval
    return f"{100 * found.error:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _verdict(found: "Reliability", fitted_here: bool) -> str:
    bound = f"a calibrated model stays below {100 * found.by_chance:.1f} % on {found.n:,} pictures"
    if found.calibrated:
        return f"no sign of being off; {bound}" + ", but these are what it was fitted to" * fitted_here
    return f"its probabilities are off; {bound}"
