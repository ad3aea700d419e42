"""Looks: where a model looked in some of its mistakes, and whether that means anything; stored once. No torch."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import StorageError
from tellapart.evaluation.predictions import Predictions
from tellapart.files import write_atomically

SLOW = "slow"
"""Why there are no maps, where they would have taken too long."""


@contextmanager
def held(path: Path, what: str) -> Iterator[tuple[Any, dict[str, NDArray[Any]]] | None]:
    """The words and arrays of a file beside a run; None where there is none. Raises StorageError where the file is
    damaged, or does not hold what is read of it in the block.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file():
            yield None
            return
        with safe_open(path, framework="numpy") as file:
            yield json.loads(file.metadata()["tellapart"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        hint = "Remove it; the report is whole without it."
        raise StorageError(f"{path} does not hold {what}: {error}.", hint) from error


@dataclass(frozen=True, kw_only=True)
class Look:
    """The heat for one class in one picture: its row among the predictions, the class, what is known of the map (as
    `tellapart why --json` says it), and over the small copy the heat (T T) uint8, 255 where it is hottest, and whether
    it is among the hottest fields (T T).
    """

    row: int
    name: str
    known: Mapping[str, Any]
    heat: NDArray[np.uint8]
    hottest: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Those of some predictions: their digest, the method, and the looks, picture by picture.

    `why`: why there are none, SLOW or what the network said of it; "" where there are some, or nothing is wrong.
    """

    of: str
    method: str = ""
    why: str = ""
    looks: tuple[Look, ...] = ()

    def save(self, path: Path) -> None:
        """Write as one safetensors file, whole or not at all."""
        from safetensors.numpy import save

        each = [{"row": one.row, "class": one.name, "known": dict(one.known)} for one in self.looks]
        words = {"of": self.of, "method": self.method, "why": self.why, "looks": each}
        stacked = {name: [getattr(one, name) for one in self.looks] for name in ("heat", "hottest")}
        arrays = {name: np.array(maps, np.uint8) for name, maps in stacked.items()}
        write_atomically(path, save(arrays, metadata={"tellapart": json.dumps(words)}))

    @classmethod
    def load(cls, path: Path, of: Predictions) -> "Looks | None":
        """Read what `save` wrote; None where there is no such file, or it is of other predictions than these.

        Raises StorageError for a damaged one.
        """
        with held(path, "heat maps") as file:
            if file is None:
                return None
            words, arrays = file
            maps = zip(words["looks"], arrays["heat"], arrays["hottest"].astype(bool), strict=True)
            found = [
                Look(row=int(one["row"]), name=one["class"], known=one["known"], heat=warm, hottest=edge)
                for one, warm, edge in maps
            ]
            looks = cls(of=words["of"], method=words["method"], why=words["why"], looks=tuple(found))
        return looks if looks.of == digest(of) else None


def digest(said: Predictions) -> str:
    """What tells predictions from others: of their keys and logits, as hex."""
    told = hashlib.blake2b("\0".join(said.keys).encode("utf-8", "surrogatepass"), digest_size=16)
    told.update(np.ascontiguousarray(said.logits).tobytes())
    return told.hexdigest()
