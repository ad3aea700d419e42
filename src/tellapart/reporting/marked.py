"""What a report says and shows of pictures that may have several classes each; the rest is that of any report."""

from collections.abc import Iterator

import numpy as np

from tellapart.evaluation.marks import called, wrong_pictures
from tellapart.evaluation.metrics import Figure
from tellapart.figures.inert import short
from tellapart.reporting.album import Album
from tellapart.reporting.evidence import Marked
from tellapart.reporting.markup import both, folded, paragraph, sentence, shares, table, words
from tellapart.reporting.sections import made_by, scores, told
from tellapart.reporting.story import FEW, Sentence, beginning, of_the_pictures, of_the_test, percent
from tellapart.reporting.words import Value, said, word

SHOWN = ("mean average precision", "micro F1", "macro F1", "sample F1", "exact match")
"""Scores that stand at the top; all are beneath."""
WORST = 36
"""Pictures that are shown of those with a wrong class."""


def summary(of: Marked) -> Iterator[str]:
    """The mean average precision, the scores at the thresholds, and the story."""
    found = {one.name: one for one in of.judgement.figures}
    one = found[SHOWN[0]]
    yield f'<p class="headline"><strong>{100 * one.value:.1f} %</strong> <span>{words(one.name)}, '
    yield f"{words(of.part)}, 95 % [{100 * one.low:.1f}, {100 * one.high:.1f}], n = {one.n:,}</span></p>"
    rows = [[words(title), *shares(found[title])] for title in SHOWN if title in found]
    head = [words("score"), "%", words("line"), words("interval"), "n"]
    yield table(head, rows, named_by="summary-title", look="shares")
    for chapter in chapters(of):
        yield f'<p class="told">{"".join(map(told, chapter))}</p>'


def quote(of: Marked) -> Iterator[str]:
    """One sentence that may be copied, and every score."""
    found = {one.name: one for one in of.judgement.figures}
    values: dict[str, Value] = {"n": f"{of.judgement.n:,}", "part": word(of.part), "model": of.recipe.model.name}
    values |= {"classes": f"{len(of.shown.classes):,}", "exact": percent(found["exact match"]), **made_by(of)}
    values |= {"average": percent(found[SHOWN[0]]), "f1": percent(found["micro F1"])}
    text = sentence("quote_marked", values)
    yield f"<blockquote><p>{text}</p></blockquote>"
    yield folded(words("scores"), scores(of.judgement.figures, "quote-title"))


def chapters(of: Marked) -> list[list[Sentence]]:
    """What may be said of the training, in the order in which it is told."""
    return [*beginning(of), list(_result(of))]


def _result(of: Marked) -> Iterator[Sentence]:
    found = {one.name: one for one in of.judgement.figures}
    exact, part = found["exact match"], word(of.part)
    values: dict[str, Value] = {"n": f"{exact.n:,}", "part": part, "right": f"{round(exact.value * exact.n):,}"}
    values |= {"exact": percent(exact), "average": percent(found[SHOWN[0]]), "f1": percent(found["micro F1"])}
    yield Sentence(key="result_marked", at="summary", values=values)
    weakest = min(_of_classes(of, "F1"), key=lambda one: one.value, default=None)
    if weakest is not None and weakest.high < found["micro F1"].low:
        values = {"name": short(weakest.about, 60), "f1": percent(weakest), "n": f"{weakest.n:,}"}
        yield Sentence(key="weakest_marked", at="classes", values=values)


def _of_classes(of: Marked, what: str) -> list[Figure]:
    """One score of every class that has it."""
    return [one for one in of.judgement.by_class if one.name == what and one.n]


def counted(of: Marked) -> Iterator[str]:
    """How many of the judged pictures have no class, and more than one."""
    found = of.judgement
    values: dict[str, Value] = {"n": f"{found.n:,}", "none": f"{found.none:,}", "several": f"{found.several:,}"}
    yield paragraph("counted_marked", {**values, "part": word(of.part)})


def unknown(of: Marked) -> list[Sentence]:
    """What the numbers do not say: only what applies to this training."""
    return [*of_the_test(of), *_of_thresholds(of), *_of_few(of), *of_the_pictures(of)]


def _of_thresholds(of: Marked) -> Iterator[Sentence]:
    found = of.judgement
    if found.fitted_here:
        yield Sentence(key="thresholds_here", at="classes")
    halves = [name for name, one in zip(found.classes, found.thresholds, strict=True) if not one.fitted]
    if halves:
        values = {"count": f"{len(halves):,}", "name": short(halves[0], 60)}
        yield Sentence(key="halves", at="classes", values=values)


def _of_few(of: Marked) -> Iterator[Sentence]:
    few = sorted((one for one in _of_classes(of, "recall") if one.n < FEW), key=lambda one: one.n)
    if few:
        values = {"count": f"{len(few):,}", "few": f"{FEW}", "name": short(few[0].about, 60), "n": f"{few[0].n:,}"}
        yield Sentence(key="few", at="classes", values=values)


def mistakes(of: Marked, album: Album) -> Iterator[str]:
    """The pictures with a wrong class, those of the largest loss first: what each has, and what it is said to have."""
    own = of.shown.marks
    assert own is not None  # noqa: S101 - the evidence is of such pictures
    named = called(of.shown.logits, [one.value for one in of.judgement.thresholds])
    wrong = wrong_pictures(of.shown, named)
    if not wrong:
        yield paragraph("no_mistake", {"n": f"{len(own):,}"})
        return
    shown = wrong[:WORST]
    values: dict[str, Value] = {"count": f"{len(wrong):,}", "n": f"{len(own):,}", "shown": f"{len(shown):,}"}
    yield paragraph("mistakes_marked", values)
    figures = (album.figure(row, both(said("shot_marked", _sets(of, own[row], named[row])))) for row in shown)
    yield ("" if album else paragraph("no_pictures")) + f'<div class="shots">{"".join(figures)}</div>'


def _sets(of: Marked, own: np.ndarray, named: np.ndarray) -> dict[str, Value]:
    """The classes that a picture has, and those it is said to have, in words."""
    sets = (" + ".join(short(of.shown.classes[k], 40) for k in np.flatnonzero(one)) for one in (own, named))
    own_words, said_words = (one or word("nothing") for one in sets)
    return {"own": own_words, "said": said_words}
