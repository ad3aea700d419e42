"""The training pictures nearest to a picture, in the eyes of a model; what it makes of them is kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tellapart.data import kept as cached
from tellapart.data.augment import network_input
from tellapart.data.decode import Pixels
from tellapart.data.pictures import Pictures
from tellapart.data.square import centre
from tellapart.evaluation.neighbours import FEATURES, last_layer, nearest
from tellapart.evaluation.predict import AT_ONCE
from tellapart.models.frozen import head_of
from tellapart.models.inside import features, fingerprint
from tellapart.workflow.embedded import Body, known
from tellapart.workflow.looking import Eye, Subject

MOST, KEPT = 50_000, 8
"""Training pictures that are compared; sets of features that are kept, of 2 bytes a number."""


@dataclass(frozen=True, kw_only=True)
class Near:
    """A training picture like another: its key and class, the distance 1 - cos, and its square (S S C)."""

    key: str
    name: str
    distance: float
    square: Pixels


def nearest_of(eye: Eye, subjects: Sequence[Subject], pictures: Pictures, count: int) -> tuple[list[list[Near]], str]:
    """For each picture the `count` nearest training pictures, by what the last layer of the network is given, and
    among how many. No other part is read.
    """
    inputs = [eye.input(one) for one in subjects]
    head = last_layer(eye.model, inputs[0]) if inputs else ""
    if not head:
        return [[] for _ in inputs], "No nearest training pictures: no linear layer or convolution ends this network."
    train = pictures.index.rows("train")
    rows = train[:: -(-len(train) // MOST)]
    among, size = known_features(eye, head, pictures, rows), eye.bundle.preprocess.size
    found = []
    for pixels in inputs:
        own = features(eye.model, head, pixels)[0].numpy()
        near = nearest(own, among, rows, count)
        squares = centre(pictures.pixels.gather(np.array([one.row for one in near], np.int64)), size)
        found.append([_named(pictures, *one, square) for one, square in zip(near, squares, strict=True)])
    some = f"{len(rows):,} of {len(train):,}" if len(rows) < len(train) else f"{len(train):,}"
    return found, f"nearest of {some} training pictures, by the cosine between what {head} is given"


def _named(pictures: Pictures, row: int, distance: float, square: Pixels) -> Near:
    index = pictures.index
    return Near(key=index.keys[row], name=index.called(row), distance=distance, square=square)


def known_features(eye: Eye, head: str, pictures: Pictures, rows: NDArray[np.int64], *, keep: bool = True) -> FEATURES:
    """What the layer at `head` is given for training pictures (N F), kept by the weights and by the pictures, if to
    `keep`; what the head was fitted to, where the body is still that.
    """
    if head == head_of(eye.model) and (before := known(body_of(eye), pictures, rows)) is not None:
        return before
    about = f"{fingerprint(eye.model)} {head} {eye.bundle.preprocess} 1"
    told = hashlib.blake2b(about.encode(), digest_size=16)
    told.update(b"" if pictures.index.digests is None else pictures.index.digests[rows].tobytes())
    columns = cached.kept(cached.FEATURES, told.hexdigest())
    if columns is None:
        columns = {"values": features_of(eye, head, pictures, rows).astype(np.float16).view(np.uint8).ravel()}
        if keep:
            cached.keep(cached.FEATURES, told.hexdigest(), columns, most=KEPT)
    return columns["values"].view(np.float16).reshape(len(rows), -1).astype(np.float32)


def body_of(eye: Eye) -> Body:
    """The network that looks, without its head."""
    return Body(eye.model, eye.bundle.architecture, eye.device)


def features_of(eye: Eye, head: str, pictures: Pictures, rows: NDArray[np.int64]) -> FEATURES:
    """What the layer at `head` is given for pictures (N F), each of length 1."""
    to, found = eye.bundle.preprocess, []
    once = max(1, AT_ONCE // to.size**2)
    for at in range(0, len(rows), once):
        squares = torch.from_numpy(pictures.pixels.gather(rows[at : at + once])).to(eye.device)
        values = features(eye.model, head, network_input(squares, to)).numpy()
        found.append(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))
        eye.progress(min(at + once, len(rows)), len(rows), "training pictures")
    return np.concatenate(found)
