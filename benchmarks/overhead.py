"""What the engine costs over a bare hand-written loop: same network, same data in memory, same optimiser step.

    python benchmarks/overhead.py [SOURCE] [--root DIR] [--rounds 80]

Both loops train in one process, in turn (B A B A … B), for the same number of steps each round; the CPU seconds of ours
are compared with the mean of the two rounds of the other around them. Prints the median ratio and a bootstrap interval
of it; goals: at most 1.05.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from tellapart.errors import Interrupted
from tellapart.recipe import Recipe
from tellapart.workflow.assemble import put_together
from tellapart.workflow.fitting import FROM_THE_START, Pieces, loop
from tellapart.workflow.prepare import prepare
from tellapart.workflow.settle import Settled


def pieces_for(source: str, root: str, limit: int) -> Pieces:
    """The pieces of a training without augmentation, so that both loops do the same work."""
    recipe = Recipe.from_values(
        {
            "data.source": source,
            "data.root": root,
            "data.limit": limit,
            "augment.shift": 0.0,
            "augment.flip": False,
            "train.epochs": 1000,
            "machine.threads": 1,
        }
    )
    prepared = prepare(Settled(recipe, {}))
    return put_together(prepared, torch.device("cpu"))


def ours(pieces: Pieces, steps: int) -> None:
    """Our loop for so many steps; it is ended the way Ctrl-C ends it, before any validation."""
    taken = 0

    def asked() -> Interrupted | None:
        return Interrupted("enough") if taken >= steps else None

    records = loop(
        pieces, judge=lambda model: (1.0, 0.0, 1), keep=lambda kind, make: None, asked=asked, start=FROM_THE_START
    )
    try:
        for _ in records:
            taken += 1
    except Interrupted:
        return


def bare_loop(pieces: Pieces) -> Callable[[int], None]:
    """The loop one would write by hand over the same tensors: torch.optim.SGD, fused, and nothing else."""
    index, pre = pieces.prepared.pictures.index, pieces.prepared.pictures.preprocess
    rows = index.rows("train")
    images = torch.from_numpy(pieces.prepared.pictures.pixels.gather(rows)).permute(0, 3, 1, 2)
    labels = torch.from_numpy(index.labels[rows])
    mean, std = torch.tensor(pre.mean).view(1, -1, 1, 1), torch.tensor(pre.std).view(1, -1, 1, 1)
    optim = pieces.prepared.recipe.optim
    optimiser = torch.optim.SGD(
        pieces.model.parameters(),
        lr=optim.lr,
        momentum=optim.momentum,
        nesterov=True,
        weight_decay=optim.weight_decay,
        fused=True,
    )
    size, smoothing = pieces.prepared.recipe.train.batch_size, pieces.prepared.recipe.loss.label_smoothing

    def run(steps: int) -> None:
        taken = 0
        while taken < steps:
            for chosen in torch.randperm(len(labels)).split(size):
                batch = (images[chosen].float() / 255 - mean) / std
                batch = batch.contiguous(memory_format=torch.channels_last)
                loss = F.cross_entropy(pieces.model(batch), labels[chosen], label_smoothing=smoothing)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                taken += 1
                if taken == steps:
                    return

    return run


def cpu_seconds(work: Callable[[], None]) -> float:
    """Processor time of this process for one piece of work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def interval(ratios: list[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median."""
    chance = np.random.default_rng(0)
    medians = np.median(chance.choice(ratios, (4000, len(ratios))), axis=1)
    return float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="digits")
    parser.add_argument("--root", default="")
    parser.add_argument("--limit", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=80)
    asked = parser.parse_args()
    pieces = pieces_for(asked.source, asked.root, asked.limit)
    bare = bare_loop(pieces)
    ours(pieces, asked.steps)
    theirs, mine = [cpu_seconds(lambda: bare(asked.steps))], []
    for _ in range(asked.rounds):
        mine.append(cpu_seconds(lambda: ours(pieces, asked.steps)))
        theirs.append(cpu_seconds(lambda: bare(asked.steps)))
    ratios = [2 * a / (before + after) for a, before, after in zip(mine, theirs, theirs[1:], strict=False)]
    low, high = interval(ratios)
    a, b = (1000 * statistics.median(side) / asked.steps for side in (mine, theirs))
    print(
        f"{asked.source}: ours {a:.3f} ms a step, bare loop {b:.3f} ms, ratio {statistics.median(ratios):.3f} "
        f"[{low:.3f}, {high:.3f}] over {asked.rounds} rounds of {asked.steps} steps (CPU seconds, one thread)"
    )


main()
