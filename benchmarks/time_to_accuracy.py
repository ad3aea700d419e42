"""Time from process start to a promised accuracy, ours and other systems in turn, on one folder of class folders.

    python benchmarks/time_to_accuracy.py FOLDER --target 0.88 --epochs 3 --peer "python peers.py fastai FOLDER"

Ours: `tellapart train FOLDER` from `exec` to the model file on disk and the sealed accuracy; the number of epochs is
fixed beforehand. A peer is any command that prints one JSON line an epoch with `seconds` and `accuracy`; it may look at
the test part and stops at its first look at or above the target, which is its advantage. A target that is never reached
is printed as "> seconds".
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time


def ours(folder: str, epochs: int, seed: int) -> tuple[float, float]:
    """Wall seconds and sealed test accuracy of one training in a fresh process."""
    with tempfile.TemporaryDirectory() as runs:
        words = [sys.executable, "-m", "tellapart", "train", folder, "--runs", runs, "--seed", str(seed), "--json"]
        began = time.monotonic()
        done = subprocess.run([*words, "--epochs", str(epochs)], capture_output=True, text=True, check=True)
        seconds = time.monotonic() - began
    figures = json.loads(done.stdout)["figures"]
    return seconds, next(f["value"] for f in figures if f["name"] == "accuracy" and f["part"] == "test")


def peer(command: str, target: float, limit: float) -> tuple[float, bool]:
    """Seconds of a peer's first look at or above the target, and whether there was one within `limit` seconds."""
    process = subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    began, last = time.monotonic(), 0.0
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("{"):
                record = json.loads(line)
                print(f"    {line.strip()}", flush=True)
                last = record["seconds"]
                if record["accuracy"] >= target:
                    return last, True
            if time.monotonic() - began > limit:
                break
    finally:
        process.kill()
        process.wait()
    return last, False


def main() -> None:
    """Alternate ours and each peer; print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--target", type=float, required=True)
    parser.add_argument("--epochs", type=int, required=True, help="epochs of ours, fixed before the comparison")
    parser.add_argument("--peer", action="append", default=[], help="command of a peer; may be given several times")
    parser.add_argument("--limit", type=float, default=600, help="seconds a peer may take")
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    mine: list[tuple[float, float]] = []
    theirs: list[tuple[str, float, bool]] = []
    for seed, command in enumerate([*asked.peer, ""]):
        mine.append(ours(asked.folder, asked.epochs, seed))
        print(f"ours, seed {seed}: {mine[-1][0]:.1f} s, sealed accuracy {mine[-1][1]:.4f}", flush=True)
        if command:
            theirs.append((command, *peer(command, asked.target, asked.limit)))
    median = statistics.median(seconds for seconds, _ in mine)
    low = min(accuracy for _, accuracy in mine)
    print(f"ours: median {median:.1f} s over {len(mine)}, lowest sealed accuracy {low:.4f}, target {asked.target}")
    for command, seconds, reached in theirs:
        more = "" if reached else "> "
        print(f"{more}{seconds:.1f} s, {more}{seconds / median:.1f} times ours: {command}")
    sys.exit(0 if low >= asked.target else 1)


main()
