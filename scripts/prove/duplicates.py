"""Prove the search for near duplicates: planted copies found, and false alarms among clean pictures.

    python scripts/prove/duplicates.py SOURCE [SOURCE …] [--root FOLDER] [--most 2000]

Of each source, up to `--most` pictures: the share that is called a copy as they stand (exact ones aside), then for
each kind of change the share of planted copies that is found. Exits 1 when of any kind fewer than 99 % of the
re-encoded or resized ones, or 95 % of the mirrored ones, are found, or more than 0.1 % of the clean ones are called
copies.
Pictures below 28 pixels are too small for it.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from planted import CHANGES  # pyright: ignore[reportMissingImports]

from tellapart.audit.near import near_pairs
from tellapart.audit.worker import seen
from tellapart.data.decode import decode
from tellapart.data.sources import open_source

Table = NDArray[np.void]
MOST_PLANTED = 500


def facts_of(images: list[Image.Image]) -> Table:
    """What the scan sees of pictures."""
    return np.array([seen(np.asarray(image))[0] for image in images])


def pairs_of(table: Table) -> set[tuple[int, int]]:
    """The near pairs, mirrored or not, without those of equal pixels."""
    sizes = np.stack([table["height"], table["width"]], axis=1).astype(np.int64)
    both = [near_pairs(table["thumb"], sizes, mirrored=mirrored) for mirrored in (False, True)]
    pairs = np.concatenate(both)
    differ = (table["digest"][pairs[:, 0]] != table["digest"][pairs[:, 1]]).any(axis=1)
    return {(int(a), int(b)) for a, b in np.sort(pairs[differ], axis=1)}


def found(images: list[Image.Image], clean: Table, change: Callable[[Image.Image], Image.Image]) -> float:
    """The share of planted copies that is paired with its original, among all clean pictures."""
    planted = facts_of([change(image) for image in images[:MOST_PLANTED]])
    pairs = pairs_of(np.concatenate([clean, planted]))
    same = (planted["digest"] == clean["digest"][: len(planted)]).all(axis=1)
    return sum(same[n] or (n, n + len(clean)) in pairs for n in range(len(planted))) / len(planted)


def main() -> None:
    """Measure every source and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--root", default="")
    parser.add_argument("--most", type=int, default=2000)
    asked = parser.parse_args()
    good = True
    print(f"{'source':<20} {'n':>6} {'alarms %':>8}  " + "  ".join(CHANGES))
    for source in asked.sources:
        index = open_source(source, root="" if "/" in source else asked.root)
        rows = np.random.default_rng(0).permutation(len(index))[: asked.most]
        pixels = [decode(index.store.read(int(row))) for row in rows]
        images = [Image.fromarray(p[:, :, 0] if p.shape[2] == 1 else p) for p in pixels]
        clean = facts_of(images)
        alarms = len({row for pair in pairs_of(clean) for row in pair}) / len(clean)
        shares = {name: found(images, clean, change) for name, change in CHANGES.items()}
        words = "  ".join(f"{100 * share:>{len(name)}.1f}" for name, share in shares.items())
        print(f"{Path(source).name[:20]:<20} {len(clean):>6} {100 * alarms:>8.3f}  {words}", flush=True)
        each = all(share >= (0.95 if "mirrored" in name else 0.99) for name, share in shares.items())
        good = good and each and alarms <= 0.001
    sys.exit(0 if good else 1)


main()
