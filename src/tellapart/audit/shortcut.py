"""The shortcut probe: how well something that should not matter tells the classes apart, all by itself."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.audit.facts import Facts
from tellapart.audit.findings import Finding, Score, not_judged, some
from tellapart.audit.near import FOLDS, folds_of
from tellapart.evaluation.intervals import wilson

BINS, MOST = 12, 10_000
FEWEST = 40
FRAME = 3
"""Pixels of the small copy's edge that count as its border: a tenth of the side."""

OUTSIDE, INSIDE = 0.3, 0.6
"""How far a probe must go from the majority (0) to always right (1) to be a warning. What stands beside the picture
(bytes, size, format) should say nothing, so a third of the way is much. Colour and border are part of what is shown
and may say something rightly, so they must go most of the way, and nearly as far as comparing whole pictures goes; or a
third of the way, and surely further than that. So may the bytes where nothing was lost in saving: they then tell how
much detail there is, not how it was saved."""
SHOWN = "mean colour", "border"
DETAIL, BESIDE = "detail", "file size beside detail"
"""What of the file size is content: the bytes that the small copy takes. The file size is a warning where it tells
surely more than that, or where its ratio to it, in steps of a tenth, goes a third of the way as well."""
LOSSLESS = b"PNG", b"BMP", b"TIFF", b"PPM"
NEARLY = 0.8
SURE = 3.29
"""Standard errors by which a probe must beat the majority, one in a thousand: five are tried at once, and out-of-fold
hits on few pictures vary more than independent ones (at 1.96, 9 of 32 clean sets of 40 to 60 pictures got a warning).
"""


@dataclass(frozen=True, kw_only=True)
class Probe(Score):
    """What one probe achieved, and the skill from which on it knows too much."""

    name: str
    limit: float

    def named(self) -> str:
        """'file size 61.2 % [58.1, 64.2]'."""
        return f"{self.name} {self.words()}"


def inputs(facts: Facts, rows: NDArray[np.int64]) -> dict[str, tuple[NDArray[np.float64], float]]:
    """What each probe sees (n, D), and its limit; what is the same for all pictures is left out."""
    t = facts.table[rows]
    formats = np.unique(np.char.add(t["format"], t["mode"]), return_inverse=True)[1]
    thumb = t["thumb"]
    sides = (thumb[:, :FRAME], thumb[:, -FRAME:], thumb[:, :, :FRAME], thumb[:, :, -FRAME:])
    edge = np.concatenate([side.mean(axis=(1, 2)) for side in sides], axis=1)
    detail = np.array([_saved(small) for small in thumb])[:, None]
    seen = {
        DETAIL: (detail, np.inf),
        BESIDE: (np.round(20 * np.log1p(t["bytes"][:, None] / detail)), np.inf),
        "file size": (t["bytes"][:, None], INSIDE if np.isin(t["format"], LOSSLESS).all() else OUTSIDE),
        "picture size": (np.stack([t["height"], t["width"]], axis=1), OUTSIDE),
        "file format": (formats[:, None], OUTSIDE),
        "mean colour": (t["mean"], INSIDE),
        "border": (edge, INSIDE),
    }
    return {name: (x.astype(np.float64), limit) for name, (x, limit) in seen.items() if (x != x[:1]).any()}


def _saved(small: NDArray[np.uint8]) -> int:
    """The bytes of a small copy saved as a JPEG, always in the same way: how much detail it shows."""
    out = io.BytesIO()
    Image.fromarray(small).save(out, "JPEG", quality=75)
    return out.tell()


def probes(facts: Facts, units: NDArray[np.int64]) -> list[Probe]:
    """Every probe, cross-validated so that copies of a picture are in one fold; the last is the baseline on pixels."""
    rows = facts.training()
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST)).astype(np.int64)] if len(rows) else rows
    labels = facts.index.labels[rows]
    if len(rows) < FEWEST or len(np.unique(labels)) < 2:
        return []
    fold = folds_of(units[rows])
    majority = float(np.bincount(labels).max() / len(rows))
    found = []
    for name, (x, limit) in inputs(facts, rows).items():
        hits = int((_bayes(_binned(x), labels, fold) == labels).sum())
        found.append(Probe(name=name, hits=hits, n=len(rows), majority=majority, limit=limit))
    hits = int((_nearest(facts.table["thumb"][rows], labels, fold) == labels).sum())
    return [*found, Probe(name="nearest neighbour", hits=hits, n=len(rows), majority=majority, limit=np.inf)]


def _binned(x: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n, D): each column by its quantiles, equal values together."""
    cuts = np.quantile(x, np.linspace(0, 1, BINS + 1)[1:-1], axis=0)
    return np.stack([np.searchsorted(np.unique(c), column) for c, column in zip(cuts.T, x.T, strict=True)], axis=1)


def _bayes(bins: NDArray[np.int64], labels: NDArray[np.int64], fold: NDArray[np.int64]) -> NDArray[np.int64]:
    """Out-of-fold answers (n) of naive Bayes on bins, with one count added to each."""
    classes, said = int(labels.max()) + 1, np.empty(len(labels), np.int64)
    for k in range(FOLDS):
        seen, asked = fold != k, fold == k
        prior = np.bincount(labels[seen], minlength=classes)
        scores = np.tile(np.log(prior + 1e-9), (int(asked.sum()), 1))
        for column in bins.T:
            counts = np.ones((BINS, classes))
            np.add.at(counts, (column[seen], labels[seen]), 1)
            scores += np.log(counts / (prior + BINS))[column[asked]]
        said[asked] = scores.argmax(axis=1)
    return said


def _nearest(thumbs: NDArray[np.uint8], labels: NDArray[np.int64], fold: NDArray[np.int64]) -> NDArray[np.int64]:
    """Out-of-fold answers (n) of the nearest neighbour among 16 x 16 copies."""
    side = thumbs.shape[1] // 2
    x = thumbs.reshape(len(thumbs), side, 2, side, 2, 3).mean(axis=(2, 4), dtype=np.float32).reshape(len(thumbs), -1)
    norms, said = (x**2).sum(axis=1), np.empty(len(labels), np.int64)
    for k in range(FOLDS):
        seen, asked = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        for part in np.array_split(asked, len(asked) // 1024 + 1):
            said[part] = labels[seen[(norms[seen] - 2 * x[part] @ x[seen].T).argmin(axis=1)]]
    return said


def shortcuts(found: list[Probe], facts: Facts) -> Iterator[Finding]:
    """A warning for each probe that knows too much, and one line with all of them beside the baselines."""
    if not found:
        here = some(len(facts.training()), "picture")
        yield not_judged(f"shortcuts are not looked for in {here} to train on: that takes {FEWEST}, of two classes")
        return
    baseline, by = found[-1], {probe.name: probe for probe in found}
    for probe in found[:-1]:
        low, high = probe.interval()
        most = probe.skill() >= probe.limit and (probe.limit == OUTSIDE or probe.skill() >= NEARLY * baseline.skill())
        if probe.name == "file size" and DETAIL in by and low <= by[DETAIL].hits / probe.n:
            most = most and BESIDE in by and by[BESIDE].skill() >= OUTSIDE
        more = probe.name in SHOWN and probe.skill() >= OUTSIDE and low > baseline.hits / baseline.n
        if wilson(probe.hits, probe.n, z=SURE)[0] > probe.majority and (most or more):
            yield Finding(
                kind="shortcut",
                severity="warning",
                title=f"{probe.name.capitalize()} alone tells the class: {probe.named()} of n = {probe.n:,} right, "
                f"the majority {100 * probe.majority:.1f} %",
                detail="A network may learn this instead of what is shown, and fail where it does not hold.",
                fix="Collect or save the classes in the same way; judge on pictures from elsewhere.",
                numbers={"probe": probe.name, "accuracy": probe.hits / probe.n, "low": low, "high": high, "n": probe.n},
            )
    yield Finding(
        kind="probes",
        severity="info",
        title=f"How far one comes without a network: n = {baseline.n:,}, majority {100 * baseline.majority:.1f} %",
        detail=", ".join(probe.named() for probe in found),
        numbers={probe.name: probe.hits / probe.n for probe in found} | {"n": baseline.n},
    )
