"""Whole-batch augmentation of ours against torchvision v2, picture by picture and batch by batch, on a CPU.

    python benchmarks/augment.py [--rounds 9] [--threads 1]

The same operations: mirror, shift, turn, zoom, brightness, contrast, saturation; then RandAugment and TrivialAugment,
bilinear as ours. v2 on a batch draws once for all pictures of it, so it does less, and of a policy by chance much less.
All take turns in one process; medians of processor time, and ratios to ours.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms import v2

from tellapart.data.augment import augmenter
from tellapart.data.chance import Purpose, uniform
from tellapart.data.loader import Batch
from tellapart.recipe_augment import PRESETS, Augment

SIZES = ((32, 256), (224, 64))
SMOOTH = v2.InterpolationMode.BILINEAR


def batch_of(side: int, number: int, epoch: int) -> Batch:
    """Pictures of noise, as a loader gives them."""
    rows = np.arange(number)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (number, side, side, 3), np.uint8))
    return Batch(
        images, torch.zeros(number, dtype=torch.int64), rows, uniform(0, Purpose.AUGMENT, epoch, rows), 0, epoch
    )


def medium() -> v2.Compose:
    """The preset medium in the words of torchvision."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine([-10, 10], translate=(0.1, 0.1), scale=(1 / 1.1, 1.1), interpolation=SMOOTH),
            v2.ColorJitter(0.2, 0.2, 0.2),
        ]
    )


def milliseconds(work: Callable[[], object]) -> float:
    """Processor time of one piece of work."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def main() -> None:
    """Measure and print one line a size and a kind of augmentation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    pairs = {
        "medium": (Augment(**PRESETS["medium"]), medium()),
        "policy rand": (Augment(policy="rand"), v2.RandAugment(interpolation=SMOOTH)),
        "policy trivial": (Augment(policy="trivial"), v2.TrivialAugmentWide(interpolation=SMOOTH)),
    }
    for side, number in SIZES:
        for name, (settings, theirs) in pairs.items():
            print(f"{number} pictures of {side}, {name}: {compared(side, number, settings, theirs, asked.rounds)}")
    print(f"Medians of {asked.rounds} batches, {asked.threads} threads.")


def compared(side: int, number: int, settings: Augment, theirs: Callable[..., torch.Tensor], rounds: int) -> str:
    """Ours and both ways of torchvision in turn, every round with draws of its own; the first round is not counted."""
    ours, taken = augmenter(settings, 10), []
    for epoch in range(rounds + 1):
        batch = batch_of(side, number, epoch)
        planes = batch.images.permute(0, 3, 1, 2).contiguous()
        ways: list[Callable[[], object]] = [
            lambda batch=batch: ours(batch),
            lambda planes=planes: torch.stack([theirs(picture) for picture in planes]),
            lambda planes=planes: theirs(planes),
        ]
        taken.append([milliseconds(way) for way in ways])
    own, each, whole = (statistics.median(column) for column in zip(*taken[1:], strict=True))
    return (
        f"ours {own:.1f} ms; v2 picture by picture {each:.1f} ms ({each / own:.1f} times), "
        f"v2 on the batch {whole:.1f} ms ({whole / own:.1f} times)"
    )


main()
