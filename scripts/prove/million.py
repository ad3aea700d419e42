"""Prove that an index of one million files is cheap: listed in 15 s within 400 MiB, opened again in 1 s.

    python scripts/prove/million.py [--files 1000000] [--classes 1000]

Makes that many empty files in class folders in a temporary place, and lists them in fresh processes: once by walking,
twice from the kept listing. Prints seconds, the highest memory use of the process and the seconds for the size and
time of every file; exits 1 when a goal is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ONE = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from tellapart.data.sources.folder import folder
began = time.monotonic()
index = folder(Path(sys.argv[1]))
seconds = time.monotonic() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
began = time.monotonic()
stats = index.store.stamps(np.arange(len(index))) if len(sys.argv) > 2 else None
print(json.dumps([len(index), seconds, peak, time.monotonic() - began, "torch" in sys.modules, list(index.said)]))
"""


def make(root: Path, files: int, classes: int) -> None:
    """Write empty files with numbers that are not padded, so that the natural order is worked for."""
    for k in range(classes):
        folder = root / f"class_{k}"
        folder.mkdir(parents=True)
        at = os.open(folder, os.O_RDONLY)
        for n in range(files // classes):
            os.close(os.open(f"IMG_{n}.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.close(at)


def one(root: Path, cache: str, *more: str) -> tuple[float, float, float, list[str]]:
    """Seconds to list, highest MiB, seconds for all sizes and times, and what was said, in a fresh process."""
    environment = {**os.environ, "TELLAPART_DATA": cache}
    words = [sys.executable, "-c", ONE, str(root), *more]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, seconds, peak, stats, torch, said = json.loads(done.stdout)
    assert not torch
    print(f"{rows:,} pictures: {seconds:.2f} s, at most {peak:.0f} MiB. {' '.join(said)}", flush=True)
    return seconds, peak, stats, said


def main() -> None:
    """Make the files, list them, list them again, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "million"
        make(root, asked.files, asked.classes)
        time.sleep(2.5)  # folders that changed in the last two seconds are not kept
        walked, peak, _, _ = one(root, place + "/cache")
        again, _, _, said = one(root, place + "/cache")
        _, _, stats, _ = one(root, place + "/cache", "stats")
    print(f"sizes and times of all files: {stats:.2f} s")
    assert said, "the listing was not kept"
    sys.exit(0 if walked <= 15 and peak <= 400 and again <= 1 else 1)


if __name__ == "__main__":
    main()
