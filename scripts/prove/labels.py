"""Prove what the search for doubtful labels is worth: wrong labels planted among the labels as they are.

    python scripts/prove/labels.py SOURCE [SOURCE …] [--root FOLDER] [--share 0.07] [--most 5000] [--weights FILE]

Of each source, up to `--most` pictures of each part: first with its own labels, then with `--share` of them replaced by
another class at random. Prints how far the small classifier goes from the majority (0) to always right (1), how many
labels it doubts, as a share of its errors too, which of the planted ones are among them, and what `check` would say. It
has no goal: the doubts are candidates. With --weights everything is done with frozen features of that network as well.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from tellapart.audit.duplicates import near_units
from tellapart.audit.facts import Facts
from tellapart.audit.frozen import frozen_features
from tellapart.audit.labels import FROZEN_RIDGE, RIDGE, Doubts, doubted, doubtful_labels, features, judged
from tellapart.audit.scan import Bounds, scan
from tellapart.models.pretrained import given
from tellapart.recipe import Recipe
from tellapart.run import cores
from tellapart.workflow.data import found


def planted(facts: Facts, share: float) -> tuple[Facts, np.ndarray]:
    """The facts with this share of the labels moved to another class, and the rows that were moved."""
    rng, classes = np.random.default_rng(1), len(facts.index.classes)
    rows, labels = rng.choice(len(facts), int(share * len(facts)), replace=False), facts.index.labels.copy()
    labels[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    return replace(facts, index=replace(facts.index, labels=labels)), rows


def main() -> None:
    """Measure every source, with its own labels and with wrong ones, one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--root", default="")
    parser.add_argument("--share", type=float, default=0.07)
    parser.add_argument("--most", type=int, default=5_000)
    parser.add_argument("--weights", type=Path)
    asked = parser.parse_args()
    print(f"{'source':<20} {'by':<20} {'n':>6} planted skill doubts of errors  found  right  said")
    for source in asked.sources:
        root = {} if "/" in source else {"data.root": asked.root}
        clean = scan(
            found(Recipe.from_values({"data.source": source, "data.limit": asked.most, **root})),
            bounds=Bounds(processes=cores()),
        )
        rows, units = judged(clean), near_units(clean)
        if rows is None:
            print(f"{Path(source).name[:20]:<20} too few pictures, or too many classes")
            continue
        kinds = [("small", features(clean.table["thumb"][rows]), RIDGE)]
        kinds += [(*frozen_features(clean, rows, given(asked.weights, "")), FROZEN_RIDGE)] if asked.weights else []
        for by, inputs, ridge in kinds:
            for share in (0.0, asked.share):
                facts, wrong = planted(clean, share)
                seen = doubted(facts, rows, units[rows], inputs, ridge=ridge)
                print(f"{Path(source).name[:20]:<20} {by:<20} {line(facts, seen, wrong)}", flush=True)


def line(facts: Facts, seen: Doubts, wrong: np.ndarray) -> str:
    """What was made doubtful, beside what was planted, and what `check` would say."""
    hits, said = np.isin(seen.rows, wrong).sum(), [one.severity for one in doubtful_labels(facts, seen) if one.files]
    shares = len(seen.rows) / max(1, seen.n - seen.hits), hits / max(1, len(wrong)), hits / max(1, len(seen.rows))
    words = f"{shares[0]:>7.2f}  {shares[1]:>5.2f}  {shares[2]:>5.2f}  {said[0] if said else 'nothing'}"
    return f"{seen.n:>6} {len(wrong):>7} {seen.skill():>5.2f} {len(seen.rows):>6} {words}"


if __name__ == "__main__":
    main()
