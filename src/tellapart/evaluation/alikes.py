"""Alikes: the training pictures that a network holds for most like some of its mistakes; stored once. No torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.looks import digest, held
from tellapart.evaluation.predictions import Predictions
from tellapart.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Alike:
    """A training picture like a mistake: the row of the mistake among the predictions, key and class of the picture,
    the distance 1 - cos of what the last layer is given for both, and its small copy (T T C) uint8.
    """

    row: int
    key: str
    name: str
    distance: float
    small: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Alikes:
    """Those of some predictions: their digest, the layer, how many training pictures were compared of how many, and the
    pictures, mistake by mistake, the nearest first.
    """

    of: str
    layer: str
    compared: int
    train: int
    each: Sequence[Alike] = ()

    def save(self, path: Path) -> None:
        """Write as one safetensors file, whole or not at all."""
        from safetensors.numpy import save

        each = [{"row": one.row, "key": one.key, "class": one.name, "distance": one.distance} for one in self.each]
        words = {"of": self.of, "layer": self.layer, "compared": self.compared, "train": self.train, "each": each}
        small = np.array([one.small for one in self.each], np.uint8)
        write_atomically(path, save({"small": small}, metadata={"tellapart": json.dumps(words)}))

    @classmethod
    def load(cls, path: Path, of: Predictions) -> "Alikes | None":
        """Read what `save` wrote; None where there is no such file, or it is of other predictions than these.

        Raises StorageError for a damaged one.
        """
        with held(path, "pictures that are alike") as file:
            if file is None:
                return None
            words, small = file[0], file[1]["small"]
            found = [
                Alike(
                    row=int(one["row"]), key=one["key"], name=one["class"], distance=float(one["distance"]), small=copy
                )
                for one, copy in zip(words["each"], small, strict=True)
            ]
            names = [words["layer"], *(word for one in found for word in (one.key, one.name))]
            shaped = small.dtype == np.uint8 and small.ndim == (4 if found else 1)
            if not (shaped and all(isinstance(word, str) for word in names)):
                raise ValueError("it holds something else")
            mine = words["of"] == digest(of)
            if mine and not all(0 <= one.row < len(of) and 0 <= one.distance < 3 for one in found):
                raise ValueError("a row or a distance that cannot be")
            counts = {key: int(words[key]) for key in ("compared", "train")}
            alikes = cls(of=words["of"], layer=words["layer"], each=tuple(found), **counts)
        return alikes if mine else None
