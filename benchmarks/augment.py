"""Whole-batch augmentation of ours against torchvision v2, picture by picture and batch by batch, on a CPU.

    python benchmarks/augment.py [--rounds 9] [--threads 1]

The same operations: mirror, shift, turn, zoom, brightness, contrast, saturation. v2 on a batch draws one number for all
pictures of it, so it does less. All take turns in one process; medians of processor time, and ratios to ours.
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


def batch_of(side: int, number: int) -> Batch:
    """Pictures of noise, as a loader gives them."""
    rows = np.arange(number)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (number, side, side, 3), np.uint8))
    return Batch(images, torch.zeros(number, dtype=torch.int64), rows, uniform(0, Purpose.AUGMENT, 0, rows), 0, 0)


def transforms() -> v2.Compose:
    """The preset medium in the words of torchvision."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(
                [-10, 10], translate=(0.1, 0.1), scale=(1 / 1.1, 1.1), interpolation=v2.InterpolationMode.BILINEAR
            ),
            v2.ColorJitter(0.2, 0.2, 0.2),
        ]
    )


def milliseconds(work: Callable[[], object]) -> float:
    """Processor time of one piece of work."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def main() -> None:
    """Measure and print one line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    theirs, ours = transforms(), augmenter(Augment(**PRESETS["medium"]), 10)
    for side, number in SIZES:
        batch = batch_of(side, number)
        planes = batch.images.permute(0, 3, 1, 2).contiguous()
        ways: list[Callable[[], object]] = [
            lambda batch=batch: ours(batch),
            lambda planes=planes: torch.stack([theirs(picture) for picture in planes]),
            lambda planes=planes: theirs(planes),
        ]
        rounds = [[milliseconds(way) for way in ways] for _ in range(asked.rounds + 1)][1:]
        own, each, whole = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"{number} pictures of {side}: ours {own:.1f} ms; v2 picture by picture {each:.1f} ms ({each / own:.1f} "
            f"times), v2 on the batch {whole:.1f} ms ({whole / own:.1f} times); medians of {asked.rounds}, "
            f"{asked.threads} threads"
        )


main()
