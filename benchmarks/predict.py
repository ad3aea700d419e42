"""Predicting against the bare runtime, on a CPU: many pictures by processor time, and one from a cold start.

    python benchmarks/predict.py [--pictures 256] [--rounds 7] [--side 224] [--network resnet18]

Many: `Classifier.each` on JPEG files against a plain loop over the same files: the same decoder and the same square,
a stack of 64, the same network, softmax. Both take turns; the median ratio of processor seconds, bare / ours.
One: the command `tellapart predict FILE PICTURE` against a script that imports torch, reads the weights, decodes the
picture and asks the same network; wall time, the best of all rounds, ours / bare.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tellapart.data.augment import network_input
from tellapart.data.decode import decode
from tellapart.data.square import fitted
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import Bundle, load_bundle, save_bundle
from tellapart.preprocess import Preprocess
from tellapart.workflow.predict import Classifier

BARE = """
import sys, torch
import numpy as np
from PIL import Image
from safetensors.torch import load_file
from tellapart.models.small import SmallNet
network = SmallNet(3, 10, 64)
network.load_state_dict(load_file(sys.argv[1]))
network.eval()
pixels = np.asarray(Image.open(sys.argv[2]).convert("RGB").resize((64, 64)))
with torch.inference_mode():
    print(network(torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255).softmax(1))
"""


def made(at: Path, name: str, side: int) -> Bundle:
    """A model of fresh weights, as a file and as it is read from there."""
    network = Architecture(name=name, num_classes=10, channels=3, size=side)
    classes = tuple(f"class {n}" for n in range(10))
    state = build(network).state_dict()
    contract = Preprocess(size=side, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    save_bundle(Bundle(architecture=network, preprocess=contract, classes=classes, state=state), at)
    return load_bundle(at)


def plain(bundle: Bundle, network: torch.nn.Module, files: list[Path]) -> None:
    """The loop that a person would write."""
    for start in range(0, len(files), 64):
        squares = [fitted(decode(path.read_bytes()), bundle.preprocess) for path in files[start : start + 64]]
        with torch.inference_mode():
            network(network_input(torch.from_numpy(np.stack(squares)), bundle.preprocess)).softmax(1)


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds and wall seconds."""
    began, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - began, time.perf_counter() - wall


def many(at: Path, asked: argparse.Namespace) -> None:
    """Measure and print the ratio for many pictures."""
    chance, files = np.random.default_rng(0), []
    for n in range(asked.pictures):
        small = Image.fromarray(chance.integers(0, 256, (47, 63, 3), np.uint8))
        files.append(at / f"{n:05d}.jpg")
        small.resize((500, 375), Image.Resampling.BICUBIC).save(files[-1], quality=90)
    bundle = made(at / "many.safetensors", asked.network, asked.side)
    ready, network = Classifier(bundle), bundle.module()
    rounds = []
    for n in range(asked.rounds + 1):
        turns = [lambda: plain(bundle, network, files), lambda: list(ready.each(files))]
        told = [spent(one) for one in (turns if n % 2 else turns[::-1])]
        rounds.append(told if n % 2 else told[::-1])
    ratios = [bare[0] / ours[0] for bare, ours in rounds[1:]]
    faster = statistics.median(bare[1] / ours[1] for bare, ours in rounds[1:])
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}, n = {len(ratios)} rounds"
    print(f"many: {asked.network}, {asked.side} px, {len(files)} JPEG files of 500 x 375: bare / ours", end=" ")
    print(f"{statistics.median(ratios):.3f} of processor time ({spread}), {faster:.2f} of wall time")


def one(at: Path, rounds: int) -> None:
    """Measure and print the ratio for one picture from a cold start."""
    made(at / "one.safetensors", "small", 64)
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (100, 120, 3), np.uint8)).save(at / "one.png")
    files = [str(at / "one.safetensors"), str(at / "one.png")]
    turns = {
        "bare": [sys.executable, "-c", BARE, *files],
        "ours": [sys.executable, "-m", "tellapart", "predict", *files],
    }
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    best = dict.fromkeys(turns, float("inf"))
    for _ in range(rounds + 1):
        for name, words in turns.items():
            began = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=kept)
            best[name] = min(best[name], time.perf_counter() - began)
    ratio = best["ours"] / best["bare"]
    print(f"one: {best['ours']:.2f} s from a cold start, bare {best['bare']:.2f} s: {ratio:.2f} times", end=" ")
    print(f"(best of {rounds + 1})")


def main() -> None:
    """Measure and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--network", default="resnet18")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        one(Path(folder), asked.rounds)
        many(Path(folder), asked)


if __name__ == "__main__":
    main()
