"""What TensorBoard gets: scalars with the same tags in every run, the first pictures, and the graph at the end."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tellapart.data.augment import network_input
from tellapart.data.pictures import Pictures
from tellapart.data.square import centre
from tellapart.preprocess import Preprocess
from tellapart.reporting.graph import trace_graph
from tellapart.reporting.tensorboard import open_board

FIRST_PICTURES = 10
SCALARS = {
    "step": ("loss", "penalty", "lr", "grad_norm"),
    "epoch": ("train_loss", "val_loss", "val_accuracy", "lr", "pictures_per_second"),
}
"""The numbers of a record that become curves; the tags are the same in every run."""


class Boarded:
    """A TensorBoard writer that is told the records of a training; it does nothing where tensorboard is missing."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # a resumed run writes its curves again, from metrics.jsonl
        self.board = open_board(folder)

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

    def pictures(self, pictures: Pictures) -> None:
        """The first training pictures with their class names, as the network sees them."""
        if self.board is not None:
            rows = pictures.index.rows("train")[:FIRST_PICTURES]
            names = [pictures.index.classes[k] for k in pictures.index.labels[rows]]
            squares = centre(pictures.pixels.gather(rows), pictures.preprocess.size)
            self.board.pictures("data/first_pictures", squares, names)

    def graph(self, model: nn.Module, preprocess: Preprocess, device: torch.device) -> None:
        """The network's graph, from one forward pass."""
        if self.board is not None:
            side = preprocess.size
            blank = torch.from_numpy(np.zeros((1, side, side, preprocess.channels), np.uint8)).to(device)
            self.board.graph(trace_graph(model, network_input(blank, preprocess)))
