"""What saving costs: processor and wall seconds of one save, and its share of the time at the default interval.

    python benchmarks/checkpoint.py [--rounds 9]

A save is what a training does each time: best and last staged, flushed, hashed, renamed and read back, status.json
written, the oldest removed; the best is a new one every time, which is the worst case. SGD with momentum. The share is
that of one core; a training on more cores spends less. Exits 1 above 2 %.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from tellapart.models.build import Architecture, build
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.training.checkpoint import Checkpoint, Position
from tellapart.training.optim import make_optimiser
from tellapart.workflow import keeping
from tellapart.workflow.keeping import Keeper

NETWORKS = {
    "small, digits": Architecture(name="small", num_classes=10, channels=1, size=8, args={"width": 16}),
    "resnet18": Architecture(name="resnet18", num_classes=1000, channels=3, size=224),
}


def checkpoint_of(architecture: Architecture) -> Checkpoint:
    """Weights and momentum of a network."""
    model = build(architecture)
    optimiser = make_optimiser(model, Recipe.from_values({"optim.lr": 0.1, "optim.nesterov": True}).optim)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step(0.1, skip=torch.zeros(()))
    return Checkpoint(position=Position(), model=model.state_dict(), optimiser=optimiser.state())


def saved(architecture: Architecture, folder: Path, rounds: int) -> tuple[float, float, float]:
    """Median processor and wall seconds of a save, and the seconds until the next one is due."""
    run, now = Run.create(folder, "run"), checkpoint_of(architecture)
    keeper = Keeper(run, Recipe(), start=Position(), wanted=lambda: False)
    times = []
    for step in range(10, 10 * rounds + 20, 10):
        at = replace(now, position=Position(step=step, epoch=1, best_step=step))
        keeper.keep("best", lambda at=at: at)
        began, wall = time.process_time(), time.monotonic()
        keeper.keep("last", lambda at=at: at)
        times.append((time.process_time() - began, time.monotonic() - wall, keeper.due - time.monotonic()))
    cpu, wall, due = (statistics.median(column) for column in zip(*times[1:], strict=True))
    return cpu, wall, due


def main() -> None:
    """Measure, print a line for each network, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    worst = 0.0
    for name, architecture in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            cpu, wall, due = saved(architecture, Path(folder), rounds)
        worst = max(worst, cpu / (due + wall))
        print(
            f"{name}: a save takes {cpu:.3f} s of the processor, {wall:.3f} s on the clock (medians of {rounds}); "
            f"the next comes after {due:.0f} s: {60 * cpu / (due + wall):.3f} s a minute, {cpu / (due + wall):.2%}"
        )
    sys.exit(0 if worst <= keeping.SHARE else 1)


if __name__ == "__main__":
    main()
