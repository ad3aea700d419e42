"""What TensorBoard gets: scalars with the same tags in every run, the first pictures, and the graph at the end."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from tellapart.data.augment import network_input
from tellapart.data.pictures import Pictures
from tellapart.preprocess import Preprocess
from tellapart.reporting.graph import trace_graph
from tellapart.reporting.tensorboard import open_board
from tellapart.training.fit import Epoch, Step

FIRST_PICTURES = 10


class Boarded:
    """A TensorBoard writer that is told the records of a training; it does nothing where tensorboard is missing."""

    def __init__(self, folder: Path) -> None:
        self.board = open_board(folder)

    def __enter__(self) -> "Boarded":
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()

    def record(self, record: Step | Epoch) -> None:
        """The scalars of one record. Steps count from 1 over the whole training, epochs from 1."""
        if self.board is None:
            return
        if isinstance(record, Step):
            values = {"train/loss": record.loss, "train/lr": record.lr, "train/grad_norm": record.grad_norm}
            self.board.scalars(record.step, {tag: value for tag, value in values.items() if value is not None})
        else:
            self.board.scalars(
                record.epoch + 1,
                {
                    "epoch/train_loss": record.train_loss,
                    "epoch/val_loss": record.val_loss,
                    "epoch/val_accuracy": record.val_accuracy,
                    "epoch/lr": record.lr,
                    "epoch/pictures_per_second": record.pictures_per_second,
                },
            )

    def pictures(self, pictures: Pictures) -> None:
        """The first training pictures with their class names, as the network sees them."""
        if self.board is not None:
            rows = pictures.index.rows("train")[:FIRST_PICTURES]
            names = [pictures.index.classes[k] for k in pictures.index.labels[rows]]
            self.board.pictures("data/first_pictures", pictures.pixels.gather(rows), names)

    def graph(self, model: nn.Module, preprocess: Preprocess, device: torch.device) -> None:
        """The network's graph, from one forward pass."""
        if self.board is not None:
            side = preprocess.size
            blank = torch.from_numpy(np.zeros((1, side, side, preprocess.channels), np.uint8)).to(device)
            self.board.graph(trace_graph(model, network_input(blank, preprocess)))
