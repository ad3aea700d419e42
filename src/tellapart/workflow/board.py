"""What TensorBoard gets while a run trains: how it was asked for, scalars with the same tags in every run, the first
pictures and the first batch, the graph at the end; and, where it is asked for, what is inside the network after each
epoch, and a trace of some steps. `panels` adds how it was judged.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.profiler import profile, schedule

from tellapart.data.augment import Augmenter, network_input
from tellapart.data.loader import Batch
from tellapart.data.pictures import Pictures
from tellapart.data.square import centre
from tellapart.evaluation.predict import BATCH, THUMBNAIL
from tellapart.figures.grid import grid
from tellapart.figures.inside import kernel_sheet, map_sheet
from tellapart.files import writable
from tellapart.models.frozen import head_of
from tellapart.models.inside import features, first_convolution, kernels, maps
from tellapart.preprocess import Preprocess
from tellapart.recipe import printable
from tellapart.reporting.graph import trace_graph
from tellapart.reporting.projector import write_projector
from tellapart.reporting.tensorboard import open_board
from tellapart.run import Run
from tellapart.workflow.panels import asked_for
from tellapart.workflow.sees import undone

FIRST_PICTURES, OF_BATCH = 10, 32
"""Training pictures as they are, and of the first batch as it is trained on, at most."""
POINTS = 1000
"""Validation pictures in the projector at most; of more, every second, third … one is taken."""
TRACE = "steps.pt.trace.json"
"""The trace of `--board profile`, beside the event file: Perfetto and chrome://tracing open it."""
PROFILED = {"wait": 3, "warmup": 2, "active": 5}
"""Steps that the profiler lets pass, at which it warms up, and which it records."""
SCALARS = {
    "step": ("loss", "penalty", "lr", "grad_norm"),
    "epoch": ("train_loss", "val_loss", "val_accuracy", "val_mean_average_precision", "lr", "pictures_per_second"),
}
"""The numbers of a record that become curves; the tags are the same in every run."""


class Boarded:
    """A TensorBoard writer that is told the records of a training; it does nothing where tensorboard is missing."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # a resumed run writes its curves again, from metrics.jsonl
        self.folder, self.board = folder, open_board(folder)
        self.first: Batch | None = None
        self.waiting = self.board is not None

    def __enter__(self) -> "Boarded":
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()

    def record(self, record: Mapping[str, Any]) -> None:
        """The scalars of one line of metrics.jsonl. Steps count from 1 over the whole training, epochs from 1."""
        if self.board is None:
            return
        kind = record["kind"]
        at = record["step"] if kind == "step" else record["epoch"] + 1
        lead = "train" if kind == "step" else "epoch"
        values = {f"{lead}/{name}": record[name] for name in SCALARS[kind] if record.get(name) is not None}
        self.board.scalars(at, values)

    def began(self, run: Run, pictures: Pictures) -> None:
        """How the run was asked for, and its first pictures."""
        if self.board is not None:
            asked_for(self.board, run)
            self.pictures(pictures)

    def keeping(self, change: Augmenter) -> Augmenter:
        """The same, which also keeps the first batch that it makes, for `batch`."""

        def applied(batch: Batch) -> Batch:
            made = change(batch)
            self.first = made if self.waiting else None
            self.waiting = False
            return made

        return applied

    def pictures(self, pictures: Pictures) -> None:
        """The first training pictures with their class names, as the network sees them."""
        if self.board is not None:
            rows = pictures.index.rows("train")[:FIRST_PICTURES]
            names = [pictures.index.called(row) for row in rows.tolist()]
            squares = centre(pictures.pixels.gather(rows), pictures.preprocess.size)
            self.board.pictures("data/first_pictures", squares, names)

    def batch(self, pictures: Pictures, step: int) -> None:
        """The batch that was kept, once: its first pictures as the network sees them, above what they are labelled."""
        if self.board is None or self.first is None:
            return
        some = replace(self.first, images=self.first.images[:OF_BATCH].cpu())
        named = [_labelled(label.tolist(), pictures.index.classes) for label in self.first.labels[:OF_BATCH]]
        self.board.image("data/augmented_batch", np.asarray(grid(list(undone(some, pictures.preprocess)), named)), step)
        self.first = None

    def graph(self, model: nn.Module, preprocess: Preprocess, device: torch.device) -> None:
        """The network's graph, from one forward pass."""
        if self.board is not None:
            side = preprocess.size
            blank = torch.from_numpy(np.zeros((1, side, side, preprocess.channels), np.uint8)).to(device)
            self.board.graph(trace_graph(model, network_input(blank, preprocess)))

    def inside(self, model: nn.Module, pictures: Pictures, device: torch.device, *, epoch: int) -> None:
        """Histograms of each weight and, where a step was taken, of its gradient in the last one; kernels, and maps of
        one validation picture, of the first convolution. The network, and what chance draws, stay as they are.
        """
        if self.board is None:
            return
        named = dict(model.named_parameters())
        weights = {f"weights/{name}": p.detach() for name, p in named.items()}
        gradients = {f"gradients/{name}": p.grad for name, p in named.items() if p.grad is not None}
        self.board.histograms(epoch, {tag: t.float().cpu().numpy() for tag, t in (weights | gradients).items()})
        if place := first_convolution(model):
            picture = _input(pictures, pictures.index.rows("validation")[:1], device)
            drawn, seen = kernel_sheet(kernels(model).values.numpy()), map_sheet(maps(model, picture).values.numpy())
            self.board.image(f"inside/kernels_of_{place}", np.asarray(drawn.image()), epoch)
            self.board.image(f"inside/maps_of_{place}", np.asarray(seen.image()), epoch)

    def projected(self, model: nn.Module, pictures: Pictures, device: torch.device) -> None:
        """Validation pictures in the projector, by the numbers that the last layer with weights is given."""
        if self.board is None:
            return
        index, rows, head = pictures.index, pictures.index.rows("validation"), head_of(model)
        rows = rows[:: -(-len(rows) // POINTS)]
        some = [rows[n : n + BATCH] for n in range(0, len(rows), BATCH)]
        points = torch.cat([features(model, head, _input(pictures, batch, device)) for batch in some]).numpy()
        step = -(-pictures.preprocess.size // THUMBNAIL)
        squares = centre(pictures.pixels.gather(rows), pictures.preprocess.size)[:, ::step, ::step]
        names = [(index.called(row), index.keys[row]) for row in rows.tolist()]
        write_projector(self.folder, points, names, squares, name=f"what {head} is given")


def _labelled(label: int | list[float], classes: tuple[str, ...]) -> str:
    """The name of a class, or the shares of a mixed picture: a line for each class it has a part of."""
    if isinstance(label, int):
        return printable(classes[label])
    return "\n".join(f"{share:.0%} {printable(classes[k])}" for k, share in enumerate(label) if share >= 0.005)


def _input(pictures: Pictures, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    return network_input(torch.from_numpy(pictures.pixels.gather(rows)).to(device), pictures.preprocess)


@contextmanager
def profiled(folder: Path, *, asked: bool) -> Iterator[Callable[[], None]]:
    """While open, what is yielded is called after each step; a few of them are written as a trace, if `asked`."""
    if not asked:
        yield lambda: None
        return

    def write(seen: profile) -> None:
        with writable(folder):
            seen.export_chrome_trace(str(folder / TRACE))

    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler tells the screen that it begins and ends
    with profile(schedule=schedule(**PROFILED, repeat=1), on_trace_ready=write) as steps:
        yield steps.step
