"""Prove that no file can take `check` down: mutated pictures of six formats through the scan.

    python scripts/prove/fuzz_pictures.py [--count 2000] [--seed 0]

The pictures are of 1, 8 and 16 bits, grey, in colours, of a palette, with transparency, in CMYK, progressive, and
turned by EXIF data.

Prints how many were whole and how many bad of each kind, and the time. Exits 1 when a bad one has no reason, when a
process died, hung or ran out of memory, or when the scan and the decoder disagree about a picture.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from planted import mutants  # pyright: ignore[reportMissingImports]

from tellapart.audit.scan import Bounds, scan
from tellapart.data.decode import decode
from tellapart.data.identity import digest
from tellapart.data.index import NO_PART, Index, Strings
from tellapart.data.sources.folder import FileStore
from tellapart.errors import DataError

warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters is in the reason of each picture


def index_of(root: Path, count: int, seed: int) -> Index:
    """The mutants as files below `root`, of one class."""
    keys = []
    for name, raw in mutants(count, seed=seed):
        (root / name).write_bytes(raw)
        keys.append(name)
    return Index(
        name="mutants",
        classes=("mutant",),
        keys=Strings.of(keys),
        labels=np.zeros(count, np.int64),
        parts=np.full(count, NO_PART, np.uint8),
        store=FileStore(str(root), Strings.of(keys)),
    )


def named(raw: bytes) -> bytes:
    """The digest of a picture, or nothing when it cannot be decoded."""
    try:
        return digest(decode(raw))
    except DataError:
        return b""


def main() -> None:
    """Scan, compare, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = index_of(Path(folder), asked.count, asked.seed)
        began = time.monotonic()
        facts = scan(index, bounds=Bounds(seconds=20, processes=2))
        seconds = time.monotonic() - began
        expected = [named((Path(folder) / key).read_bytes()) for key in index.keys]
    bad = facts.table["fault"] != b""
    kinds = Counter(fault.decode() or "whole" for fault in facts.table["fault"].tolist())
    unnamed = sum(bool(b) != bool(reason) for b, reason in zip(bad, facts.reasons, strict=True))
    found = [b"" if b else row.tobytes() for b, row in zip(bad, facts.table["digest"], strict=True)]
    wrong = sum(a != b for a, b in zip(found, expected, strict=True))
    print(f"{asked.count} mutated pictures in {seconds:.1f} s: {dict(kinds)}; {unnamed} unnamed, {wrong} disagreements")
    sys.exit(0 if not unnamed and not wrong and not {"died", "late", "memory"} & set(kinds) else 1)


if __name__ == "__main__":
    main()
