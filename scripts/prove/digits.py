"""Prove the main job: the sealed accuracy of `tellapart train digits` over seeds, and its time from process start.

    python scripts/prove/digits.py [--seeds 20]

Each seed is one process, as a person would start it. Prints one line a seed and a summary; exits 1 when the mean is
below 98 % or the median time above 20 s.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time


def one(seed: int, runs: str) -> tuple[float, int, float]:
    """Test accuracy, n and wall seconds of one training in a fresh process."""
    words = [sys.executable, "-m", "tellapart", "train", "digits", "--seed", str(seed), "--runs", runs, "--json"]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - began
    figures = json.loads(done.stdout)["figures"]
    accuracy = next(f for f in figures if f["name"] == "accuracy" and f["part"] == "test")
    return accuracy["value"], accuracy["n"], seconds


def main() -> None:
    """Run all seeds and judge them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as runs:
        rows = []
        for seed in range(asked.seeds):
            rows.append(one(seed, runs))
            print(
                f"seed {seed:2d}  test accuracy {rows[-1][0]:.4f} (n = {rows[-1][1]})  {rows[-1][2]:.1f} s", flush=True
            )
    shares, times = [row[0] for row in rows], [row[2] for row in rows]
    mean, sd = statistics.fmean(shares), statistics.stdev(shares)
    half = 1.96 * sd / math.sqrt(len(shares))
    print(
        f"mean {mean:.4f} ± {half:.4f}, sd {sd:.4f}, {len(shares)} seeds, one split of n = {rows[0][1]}; "
        f"median {statistics.median(times):.1f} s from process start, slowest {max(times):.1f} s"
    )
    sys.exit(0 if mean >= 0.98 and statistics.median(times) <= 20 else 1)


main()
