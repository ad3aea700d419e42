"""Prove what the search for doubtful labels is worth: wrong labels planted among the labels as they are.

    python scripts/prove/labels.py SOURCE [SOURCE …] [--root FOLDER] [--share 0.07] [--most 5000]

Of each source, up to `--most` pictures of each part: first with its own labels, then with `--share` of them replaced by
another class at random. Prints how far the small classifier goes from the majority (0) to always right (1), how many
labels it doubts, as a share of its errors too, which of the planted ones are among them, and what `check` would say. It
has no goal: the doubts are candidates.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from tellapart.audit.duplicates import near_units
from tellapart.audit.facts import Facts
from tellapart.audit.labels import doubtful_labels, doubts
from tellapart.audit.scan import Bounds, scan
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
    asked = parser.parse_args()
    print(f"{'source':<20} {'n':>6} planted skill doubts of errors  found  right  said")
    for source in asked.sources:
        root = {} if "/" in source else {"data.root": asked.root}
        clean = scan(
            found(Recipe.from_values({"data.source": source, "data.limit": asked.most, **root})),
            bounds=Bounds(processes=cores()),
        )
        units = near_units(clean)
        for share in (0.0, asked.share):
            facts, wrong = planted(clean, share)
            seen = doubts(facts, units)
            if seen is None:
                print(f"{Path(source).name[:20]:<20} too few pictures, or too many classes")
                break
            hits, said = np.isin(seen.rows, wrong).sum(), [one.severity for one in doubtful_labels(facts, seen)]
            shares = [
                len(seen.rows) / max(1, seen.n - seen.hits),
                hits / max(1, len(wrong)),
                hits / max(1, len(seen.rows)),
            ]
            words = "  ".join(f"{value:>7.2f}" if n == 0 else f"{value:>5.2f}" for n, value in enumerate(shares))
            print(
                f"{Path(source).name[:20]:<20} {seen.n:>6} {len(wrong):>7} {seen.skill():>5.2f} {len(seen.rows):>6} "
                f"{words}  {said[0] if said else 'nothing'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
