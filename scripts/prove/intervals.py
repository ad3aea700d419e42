"""Prove that 95 % intervals hold in 95 of 100 cases: every kind of score, on simulated pictures of known truth.

    python scripts/prove/intervals.py [--times 2000] [--out intervals.json]

A world of labels and logits is drawn once, very large, and gives the truth; many small test sets are drawn from it,
alone or in groups of six that share a shift. Prints how many intervals hold the truth, for each score and n; exits 1
when one holds less often by more than MARGIN; those of few pictures, and mean areas, are too wide on purpose.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.calibration import temperature
from tellapart.evaluation.judgement import by_class, overall
from tellapart.evaluation.metrics import class_curves
from tellapart.evaluation.predictions import Predictions

CLASSES, TRUTH, MARGIN = 4, 400_000, 0.03
"""Classes of the world; its pictures; how far a share may be below 0.95, plus three errors of the simulation."""
SETS = ((100, 0), (300, 0), (1000, 0), (600, 6), (1200, 6))
"""Pictures of a test set, and the size of its groups: 0 for independent pictures."""


def drawn(n: int, group: int, chance: np.random.Generator) -> Predictions:
    """Answers of a model that is right in about 80 % of cases, too sure of itself, worse on rare classes."""
    labels = chance.choice(CLASSES, n, p=(0.4, 0.3, 0.2, 0.1))
    groups = np.arange(n) // group if group else None
    logits = chance.normal(size=(n, CLASSES))
    if groups is not None:  # all of a group are off in the same direction, and of one class
        labels, logits = labels[groups * group], logits + chance.normal(size=(groups[-1] + 1, CLASSES))[groups]
    logits[np.arange(n), labels] += 2.6 - 0.3 * labels
    names, keys = tuple(f"c{k}" for k in range(CLASSES)), tuple(map(str, range(n)))
    scaled = (1.8 * logits).astype(np.float32)
    return Predictions(part="test", classes=names, keys=keys, logits=scaled, labels=labels, groups=groups)


def scores(said: Predictions) -> dict[str, tuple[float, float, float]]:
    """Value and bounds of every score."""
    found = class_curves(said)
    figures = [*overall(said, 1.0, found), *by_class(said, found)]
    return {f"{one.name} {one.about}".strip(): (one.value, one.low, one.high) for one in figures}


def truth(group: int) -> dict[str, float]:
    """The scores of a very large test set, without intervals that would take long."""
    said = drawn(TRUTH - TRUTH % max(1, group), group, np.random.default_rng(1))
    alone = Predictions(**{**vars(said), "groups": None})
    return {name: value for name, (value, *_) in scores(alone).items()}


def held(n: int, group: int, times: int) -> dict[str, float]:
    """The share of intervals that hold the truth."""
    right, found = truth(group), Counter[str]()
    for seed in range(times):
        for name, (_, low, high) in scores(drawn(n, group, np.random.default_rng(seed + 100))).items():
            found[name] += low <= right[name] <= high
    return {name: found[name] / times for name in right}


def temperatures(n: int, times: int) -> float:
    """The share of intervals of the temperature that hold it."""

    def labelled(seed: int, n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        chance = np.random.default_rng(seed)
        logits = 2 * chance.normal(size=(n, CLASSES))
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return 1.6 * logits, (shares.cumsum(1) < chance.random((n, 1))).sum(1)

    spans = (temperature(*labelled(seed, n)) for seed in range(times))
    return sum(one.low <= 1.6 <= one.high for one in spans) / times


def main() -> None:
    """All sets, and what is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found, margin = {}, MARGIN + 3 * (0.95 * 0.05 / asked.times) ** 0.5
    for n, group in SETS:
        shares = {**held(n, group, asked.times), "temperature": temperatures(n, asked.times)}
        found[f"n = {n}" + f", groups of {group}" * bool(group)] = shares
        print(f"n = {n}, groups of {group}: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    off = [(of, name, x) for of, every in found.items() for name, x in every.items() if x < 0.95 - margin]
    if asked.out:
        asked.out.write_text(json.dumps({"times": asked.times, "held": found}, indent=1) + "\n")
    every = [share for shares in found.values() for share in shares.values()]
    span = f"{min(every):.3f} to {max(every):.3f}, mean {np.mean(every):.3f}"
    print(f"{len(every)} kinds, {asked.times} times each: {span}")
    for one in off:
        print("off:", *one)
    sys.exit(bool(off))


if __name__ == "__main__":
    main()
