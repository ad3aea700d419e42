"""Features of the pictures of a check by a frozen pretrained network; kept, so that a second check is instant."""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tellapart.audit.facts import Facts
from tellapart.data import kept as cached
from tellapart.data.progress import Progress, quiet
from tellapart.errors import DataError
from tellapart.models.pretrained import Pretrained
from tellapart.recipe import printable
from tellapart.run import cores

BATCH, KEPT = 32, 4
"""Pictures at a time; sets of features that are kept, of 2 bytes a number."""

Features = tuple[str, NDArray[np.float32]]
"""By which network, and (n, F)."""


def frozen_features(facts: Facts, rows: NDArray[np.int64], by: Pretrained, *, progress: Progress = quiet) -> Features:
    """What the network makes of some whole pictures (n), which are decoded and fitted as for any network.

    Raises DataError when the file is not of such a network, or a picture is not any more what the check has read.
    """
    told = hashlib.blake2b(f"{by.digest} {by.name} 1".encode(), digest_size=16)
    told.update(facts.table["digest"][rows].tobytes())
    columns = cached.kept(cached.FEATURES, told.hexdigest())
    if columns is None:
        name, values = _made(facts, rows, by, progress)
        columns = {"name": np.frombuffer(name.encode(), np.uint8), "values": values.view(np.uint8).ravel()}
        cached.keep(cached.FEATURES, told.hexdigest(), columns, most=KEPT)
    values = columns["values"].view(np.float16).reshape(len(rows), -1)
    return columns["name"].tobytes().decode(), values.astype(np.float32)


def _made(facts: Facts, rows: NDArray[np.int64], by: Pretrained, progress: Progress) -> tuple[str, NDArray[np.float16]]:
    """The same anew, in half precision. No picture is decoded here that a bounded child has not decoded before."""
    import torch

    from tellapart.data.augment import network_input
    from tellapart.data.pictures import StreamedPixels
    from tellapart.models.frozen import PREPROCESS, frozen

    name, network = frozen(by)
    pixels = StreamedPixels(replace(facts.index, digests=facts.table["digest"]), PREPROCESS, cores())
    found = []
    with torch.inference_mode():
        for at in range(0, len(rows), BATCH):
            progress(at, len(rows))
            squares = torch.from_numpy(pixels.gather(rows[at : at + BATCH]))
            answers = network(network_input(squares, PREPROCESS).contiguous(memory_format=torch.channels_last))
            if not torch.isfinite(answers).all():
                raise DataError(f"{printable(str(by.path))} as {name} gives no finite numbers.", "Take another file.")
            found.append(answers.clamp(-6e4, 6e4).numpy().astype(np.float16))
    progress(len(rows), len(rows))
    return name, np.concatenate(found)
