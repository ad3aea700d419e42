"""Predictions: keys, logits and labels of one part, stored once and judged many times. No torch."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import StorageError
from tellapart.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model said of N pictures with K classes.

    keys (N), logits (N K) float32, labels (N) int64, thumbnails (N T T C) uint8 or None; groups (N) int64 where the
    split keeps pictures together that belong together, else None. marks (N K) bool where a picture may have several
    classes or none: which it has; its label is then one of them, K for none. Else None.
    """

    part: str
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    thumbnails: NDArray[np.uint8] | None = None
    groups: NDArray[np.int64] | None = None
    marks: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def units(self) -> NDArray[np.int64] | None:
        """The groups numbered from 0 (N); None where each picture is one of its own."""
        return None if self.groups is None else np.unique(self.groups, return_inverse=True)[1]

    def save(self, path: Path) -> None:
        """Write as one safetensors file, whole or not at all."""
        import json

        from safetensors.numpy import save

        words = {"part": self.part, "classes": list(self.classes), "keys": list(self.keys)}
        arrays = {"logits": np.ascontiguousarray(self.logits), "labels": self.labels}
        for name, more in (("thumbnails", self.thumbnails), ("groups", self.groups), ("marks", self.marks)):
            if more is not None:
                arrays[name] = np.ascontiguousarray(more)
        write_atomically(path, save(arrays, metadata={"tellapart": json.dumps(words)}))

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what `save` wrote. Raises StorageError when the file is missing or damaged."""
        import json

        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                words = json.loads(file.metadata()["tellapart"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return cls(
                part=words["part"],
                classes=tuple(words["classes"]),
                keys=tuple(words["keys"]),
                logits=arrays["logits"],
                labels=arrays["labels"],
                thumbnails=arrays.get("thumbnails"),
                groups=arrays.get("groups"),
                marks=arrays.get("marks"),
            )
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise StorageError(f"{path} does not hold predictions: {error}.") from error
