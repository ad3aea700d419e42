"""Transfer learning: the head that is fitted at once, or tuning within a budget, against a recipe of someone else's.

    python benchmarks/transfer.py FOLDER WEIGHTS --seeds 10 --peer "python finetune.py FOLDER WEIGHTS --seed SEED"
    python benchmarks/transfer.py FOLDER WEIGHTS --seeds 5 --budget 120 --peer "…"

FOLDER has train/ and val/. Ours: `tellapart train FOLDER --weights WEIGHTS`, with `--freeze body` or with `--budget`,
from `exec` to the model file on disk, each time with an empty cache. The peer is any command that prints one JSON line
an epoch with `seconds` and `accuracy` on val/; SEED stands for the seed. With a budget both have that time, and the
best epoch of either counts, chosen on the pictures that judge it. Without one, the peer runs to its end once.
"""

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time


def ours(asked: argparse.Namespace, seed: int) -> tuple[float, float, int]:
    """Wall seconds, accuracy on val/ and its n, of one training in a fresh process with an empty cache."""
    more = ["--budget", f"{asked.budget}s"] if asked.budget else ["--freeze", "body"]
    with tempfile.TemporaryDirectory() as place:
        words = [sys.executable, "-m", "tellapart", "train", asked.folder, "--weights", asked.weights, *more]
        words += ["--runs", f"{place}/runs", "--seed", str(seed), "--json", *shlex.split(asked.more)]
        began = time.monotonic()
        environment = {**os.environ, "XDG_CACHE_HOME": f"{place}/cache"}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        seconds = time.monotonic() - began
    figures = json.loads(done.stdout)["figures"]
    found = next(f for f in figures if f["name"] == "accuracy" and f["part"] == "validation")
    return seconds, found["value"], found["n"]


def peer(command: str, limit: float) -> list[tuple[float, float]]:
    """Seconds and accuracy of each epoch that ended within the limit."""
    process = subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    epochs: list[tuple[float, float]] = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("{"):
                record = json.loads(line)
                if record["seconds"] > limit:
                    break
                epochs.append((record["seconds"], record["accuracy"]))
    finally:
        process.kill()
        process.wait()
    return epochs


STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Of so many values: by how many standard errors their mean may be off (95 %)."""


def told(name: str, values: list[float]) -> None:
    """The mean over seeds with its interval by Student's t."""
    mean, n = statistics.mean(values), len(values)
    off = STUDENT.get(n, 1.96) * statistics.stdev(values) / math.sqrt(n) if n > 1 else math.nan
    print(f"{name}: mean {100 * mean:.2f} % [{100 * (mean - off):.2f}, {100 * (mean + off):.2f}] over {n} seeds")


def main() -> None:
    """Take turns, and print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("weights")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--budget", type=float, default=0, help="seconds for each training; 0: our head against a whole run"
    )
    parser.add_argument("--peer", default="", help="command of the other recipe; SEED stands for the seed")
    parser.add_argument("--more", default="", help="further words for ours")
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    mine, theirs, seconds, last = [], [], [], math.nan
    for seed in range(asked.seeds):
        took, accuracy, n = ours(asked, seed)
        mine.append(accuracy)
        seconds.append(took)
        print(f"ours, seed {seed}: {took:.1f} s, {100 * accuracy:.2f} % (n = {n})", flush=True)
        if asked.peer and (asked.budget or not seed):
            epochs = peer(asked.peer.replace("SEED", str(seed)), asked.budget or math.inf)
            theirs.append(max((accuracy for _, accuracy in epochs), default=0.0))
            last = epochs[-1][0] if epochs else math.nan
            print(f"peer, seed {seed}: {len(epochs)} epochs in {last:.1f} s, best {100 * theirs[-1]:.2f} %", flush=True)
    told("ours", mine)
    print(f"ours: median {statistics.median(seconds):.1f} s, {min(seconds):.1f} to {max(seconds):.1f} s")
    if theirs and asked.budget:
        told("peer", theirs)
        told("ours - peer", [a - b for a, b in zip(mine, theirs, strict=True)])
    elif theirs:
        print(f"peer: {last:.1f} s, {last / statistics.median(seconds):.1f} times ours; best {100 * theirs[0]:.2f} %")


main()
