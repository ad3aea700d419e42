"""Doubtful labels: out-of-fold predictions of a small classifier, ranked by how surely they contradict the given label.

Features: those of a frozen pretrained network where there is one and they tell the classes better, else random whitened
patches of the small copies as filters, rectified and pooled over quadrants (Coates and Ng, AISTATS 2011, with sampled
patches for k-means). Then ridge regression on one-hot labels. Which rows are doubtful follows confident learning
(Northcutt, Jiang and Chuang, JAIR 2021): another class must be predicted about as surely as for its own pictures on
average, and the given one as little as for pictures of others, each to within a quarter.
Candidates for a person to look at; nothing is changed by them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellapart.audit.facts import SIDE, Facts
from tellapart.audit.findings import Finding, Score, not_judged, some
from tellapart.audit.near import FOLDS, folds_of
from tellapart.data.overlay import COLUMNS
from tellapart.files import csv_text

PATCH, STRIDE, FILTERS = 6, 2, 128
RIDGE, FROZEN_RIDGE = 0.1, 3.0
"""Of the mean square of the features; chosen, like them, by the recall of planted noise (docs/log.md)."""
FEWEST, MOST_CLASSES, MOST, MOST_FROZEN = 50, 1000, 100_000, 50_000
"""With fewer pictures, or more classes, out-of-fold predictions say nothing. No more than MOST are looked at (n), and
no more than MOST_FROZEN by a pretrained network."""
TOO_LITTLE = f"that takes {FEWEST} whole pictures, {FOLDS} of each class, and at most {MOST_CLASSES:,} classes"
SMALL, FROZEN = "a small classifier", "a classifier on frozen features of"
SKILL = 0.4
"""Share of the way from the majority to always right that the classifier must go before it may doubt a label."""
MANY = 0.2
"""Share of its errors that contradict the label strongly, of a classifier that is nearly always right; one of less
skill needs more, by half of what it lacks: clean sets come to 0.29 at a skill of 0.66, and to 0.39 at 0.45."""

Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Doubts(Score):
    """Doubtful labels, the surest first, and how often the out-of-fold prediction agrees with the label.

    rows (D); suggested (D): classes; scores (D): given less suggested, below 0. by: what predicts; others: what else
    was tried and is right less often, with how often. whole: pictures there are, of which n were looked at.
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    scores: NDArray[np.float64]
    whole: int
    by: str = SMALL
    others: tuple[str, ...] = ()

    def partly(self) -> str:
        """That not all labels were looked at; '' when they were."""
        said = f"labels of {self.n:,} of {self.whole:,} pictures were looked at, evenly taken; the others were not"
        return said if self.n < self.whole else ""

    def judge(self) -> str:
        """What predicts, how often it is right, and what the others come to."""
        return "; ".join([f"{self.by}, right for {self.words()}, n = {self.n:,}", *self.others])


def patches_of(thumbs: NDArray[np.uint8]) -> Matrix:
    """(n, P, 108): the patches of each small copy, each made free of its mean and scaled to one contrast."""
    windows = np.lib.stride_tricks.sliding_window_view(thumbs, (PATCH, PATCH), axis=(1, 2))[:, ::STRIDE, ::STRIDE]
    flat = windows.reshape(len(thumbs), -1, 3 * PATCH * PATCH).astype(np.float32)
    flat -= flat.mean(axis=2, keepdims=True)
    flat /= np.sqrt(np.einsum("npk,npk->np", flat, flat) / flat.shape[2] + 100)[:, :, None]
    return flat


def features(thumbs: NDArray[np.uint8], *, seed: int = 0) -> Matrix:
    """(n, 1024): how strongly each of 128 filters, and its negative, answers in each quadrant."""
    rng = np.random.default_rng(seed)
    sample = patches_of(thumbs[rng.choice(len(thumbs), min(500, len(thumbs)), replace=False)]).reshape(-1, 108)
    values, vectors = np.linalg.eigh(np.cov(sample, rowvar=False) + 0.1 * np.eye(sample.shape[1]))
    white = (vectors / np.sqrt(values)).astype(np.float32)
    chosen = sample[rng.choice(len(sample), FILTERS)] @ white
    filters = white @ (chosen / np.maximum(1e-6, np.linalg.norm(chosen, axis=1, keepdims=True))).T
    found = np.empty((len(thumbs), 8 * FILTERS), np.float32)
    for at in range(0, len(thumbs), 256):
        patches = patches_of(thumbs[at : at + 256])
        # as one matrix: a stack of them is many small products, each shared out among cores that wait for each other
        found[at : at + 256] = _pooled((patches.reshape(-1, patches.shape[2]) @ filters).reshape(len(patches), -1))
    return found


def _pooled(answers: Matrix) -> Matrix:
    """(n, 1024): the answers (n, P 128), and their negatives, above a quarter, averaged over each quadrant."""
    side = (SIDE - PATCH) // STRIDE + 1
    quadrants = (len(answers), 2, side // 2, 2, side // 2, FILTERS)
    cuts = np.maximum(answers, 0.25), np.minimum(answers, -0.25)
    means = [np.abs(cut.reshape(quadrants).mean(axis=(2, 4))) - 0.25 for cut in cuts]
    return np.concatenate(means, axis=3).reshape(len(answers), -1)


def out_of_fold(
    inputs: Matrix, labels: NDArray[np.int64], units: NDArray[np.int64], classes: int, *, ridge: float = RIDGE
) -> Matrix:
    """(n, K): for each row the answer of a ridge regression that saw none of its fold; a unit is in one fold only."""
    fold = folds_of(units)
    scaled = (inputs - inputs.mean(axis=0)) / (inputs.std(axis=0) + 1e-3)
    scaled = np.concatenate([scaled, np.ones((len(scaled), 1), np.float32)], axis=1)
    targets = np.eye(classes, dtype=np.float32)[labels]
    grams = [scaled[fold == k].T @ scaled[fold == k] for k in range(FOLDS)]
    crosses = [scaled[fold == k].T @ targets[fold == k] for k in range(FOLDS)]
    answers = np.empty((len(labels), classes), np.float32)
    for k in range(FOLDS):
        gram, n = sum(grams) - grams[k], len(labels) - int((fold == k).sum())
        penalty = ridge * n * np.eye(len(gram), dtype=np.float32)
        answers[fold == k] = scaled[fold == k] @ np.linalg.solve(gram + penalty, sum(crosses) - crosses[k])
    return answers


def judged(facts: Facts, most: int = MOST) -> NDArray[np.int64] | None:
    """The rows (n) whose labels are looked at, evenly taken where there are more; None when they are too few."""
    rows, classes = facts.whole(), len(facts.index.classes)
    rows = rows[:: -(-len(rows) // most) or 1]
    counts = np.bincount(facts.index.labels[rows], minlength=classes)
    return None if len(rows) < FEWEST or classes > MOST_CLASSES or counts.min() < FOLDS else rows


def doubts(
    facts: Facts,
    units: NDArray[np.int64],
    frozen: Callable[[NDArray[np.int64]], tuple[str, Matrix]] | None = None,
) -> Doubts | None:
    """Which labels of whole pictures are doubtful; None when there is too little to tell from.

    frozen: for some rows the name of a pretrained network and its features of them. They are used where they predict
    the labels better, out of fold, than the small classifier.
    """
    rows = judged(facts, MOST_FROZEN if frozen else MOST)
    if rows is None:
        return None
    found = [doubted(facts, rows, units[rows], features(facts.table["thumb"][rows]))]
    if frozen:
        name, values = frozen(rows)
        found.append(doubted(facts, rows, units[rows], values, ridge=FROZEN_RIDGE, by=f"{FROZEN} {name}"))
    best = max(reversed(found), key=lambda one: one.hits)
    return replace(best, others=tuple(f"{one.by}: {one.words()}" for one in found if one is not best))


def doubted(
    facts: Facts,
    rows: NDArray[np.int64],
    units: NDArray[np.int64],
    inputs: Matrix,
    *,
    ridge: float = RIDGE,
    by: str = SMALL,
) -> Doubts:
    """What the features (n, F) of these rows make doubtful."""
    labels, classes = facts.index.labels[rows], len(facts.index.classes)
    scores = out_of_fold(inputs, labels, units, classes, ridge=ridge).astype(np.float64)
    usual = np.array([scores[labels == k, k].mean() for k in range(classes)])
    without = np.array([scores[labels != k, k].mean() for k in range(classes)])
    own, said = scores[np.arange(len(rows)), labels], scores.argmax(axis=1)
    best = scores.max(axis=1)
    quarter = (usual - without) / 4
    sure = (best >= (usual - quarter)[said]) & (own <= (without + quarter)[labels])
    doubtful = np.flatnonzero((said != labels) & sure)
    doubtful = doubtful[np.argsort((own - best)[doubtful], kind="stable")]
    return Doubts(
        rows=rows[doubtful],
        suggested=said[doubtful],
        scores=(own - best)[doubtful],
        whole=len(facts.whole()),
        by=by,
        n=len(rows),
        hits=int((said == labels).sum()),
        majority=float(np.bincount(labels).max() / len(rows)),
    )


def lacking(facts: Facts, found: Doubts | None) -> str:
    """Why labels are not judged, or not all of them; '' when all are."""
    if found is None:
        counts = facts.index.take(facts.whole()).counts()
        here = f"{some(int(counts.sum()), 'whole picture')}, {counts.min()} of {facts.index.classes[counts.argmin()]}"
        return f"labels are not judged: {TOO_LITTLE}; here are {here}"
    if found.skill() < SKILL:
        return f"labels are not judged: {found.judge()}; too little beside a majority of {100 * found.majority:.1f} %"
    return found.partly()


def doubtful_labels(facts: Facts, found: Doubts | None) -> Iterator[Finding]:
    """The candidates, when the classifier knows enough to doubt anyone; else that it does not."""
    if found is None or found.skill() < SKILL:
        yield not_judged(lacking(facts, found))
        return
    if not len(found.rows):
        return
    index = facts.index
    many = len(found.rows) >= (MANY + (1 - found.skill()) / 2) * (found.n - found.hits)
    low, high = found.interval()
    yield Finding(
        kind="doubtful-labels",
        severity="warning" if many else "info",
        title=f"{some(len(found.rows), 'label', found.n)} contradicted by {found.by} that did not see them",
        detail=f"Candidates to look at, not errors: the classifier itself is right for {found.words()}, "
        f"n = {found.n:,}{''.join(f' ({one})' for one in found.others)}.",
        files=tuple(
            (index.keys[row], f"{facts.place(row)}; looks like {index.classes[k]} ({score:.2f})")
            for row, k, score in zip(found.rows.tolist(), found.suggested.tolist(), found.scores.tolist(), strict=True)
        ),
        fix="Review them: --labels-out FILE.csv, fill in its last column, then train with --overlay FILE.csv",
        numbers={"labels": len(found.rows), "n": found.n, "accuracy": found.hits / found.n, "low": low, "high": high},
    )


def as_overlay(facts: Facts, found: Doubts | None) -> str:
    """The candidates as a table to be reviewed, which data/overlay.py reads; none where labels are not judged."""
    if found is None or found.skill() < SKILL:
        return csv_text(COLUMNS, [])
    index, digests = facts.index, facts.table["digest"]
    columns = (found.rows.tolist(), found.suggested.tolist(), found.scores.tolist())
    rows = []
    for row, suggested, score in zip(*columns, strict=True):
        given, other = index.classes[int(index.labels[row])], index.classes[suggested]
        rows.append((index.keys[row], digests[row].tobytes().hex(), given, other, f"{score:.4f}", ""))
    return csv_text(COLUMNS, rows)
