"""What computes the answers to many pictures: torch, or onnxruntime where making the network over for it pays."""

import math
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain, islice

import numpy as np
import torch
from torch import Tensor, nn

from tellapart.data.augment import network_input
from tellapart.errors import TellapartError, UsageError
from tellapart.evaluation.predict import calibrated
from tellapart.workflow.predict import Classifier, Picture

LEAST, MOST, WORTH = 1_000, 100_000, 60.0
"""Fewer pictures are not timed; more are not looked for ahead; and the seconds that torch must need for them: to make a
network over took 4 to 25 seconds on busy processors, and saves a quarter of the time or more (docs/log.md)."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")
TIMED, ROUNDS = 8, 3
GAIN, OFF = 1.1, 1e-4
"""How much faster the other one must be, and how far its probabilities may be off."""


def settle(
    ready: Classifier, asked: str, begun: str, pictures: Iterator[Picture], *, come: bool
) -> tuple[str, str, Iterator[Picture]]:
    """The engine for these pictures, what to say of it, and the pictures again. `begun`: the one that a file of answers
    was begun with, '' for none: `auto` stays with it. `come`: they may still have to come, so none is waited for here.

    Raises UsageError as `use` does, before a file is begun.
    """
    if asked == "auto" and not begun:
        return ("torch", "", pictures) if come else _measured(ready, pictures)
    if not begun:
        use(ready, asked)
    engine = begun if asked == "auto" else asked
    return engine, "computed by onnxruntime, as it was begun" if asked != engine == "onnxruntime" else "", pictures


def use(ready: Classifier, engine: str) -> None:
    """Let this engine compute.

    Raises UsageError where onnxruntime is not installed, cannot compute this network, or is to do it on a GPU.
    """
    if engine != "onnxruntime":
        return
    from tellapart.shipping.onnx_network import OnnxNetwork, network_by_onnx

    if ready.device.type != "cpu":
        raise UsageError(f"onnxruntime computes on the processor here, and not on {ready.device}.", "Add --device cpu.")
    if not isinstance(ready.model, OnnxNetwork):
        ready.model = network_by_onnx(ready.bundle)


def _measured(ready: Classifier, pictures: Iterator[Picture]) -> tuple[str, str, Iterator[Picture]]:
    """torch, without a word, where the pictures are few for it; else the faster on the first of them."""
    if ready.device.type != "cpu" or not all(map(find_spec, NEEDED)):
        return "torch", "", pictures
    first = list(islice(pictures, LEAST))
    few = ready.squares(first[:TIMED])
    if len(first) == LEAST and len(few):
        enough = math.ceil(WORTH * len(few) / min(_timed(ready, ready.model, few)[0] for _ in range(2)))
        first += islice(pictures, max(0, enough - LEAST)) if enough <= MOST else ()
        if len(first) >= enough:
            return *_faster(ready, ready.squares(first[: ready.batch])), chain(first, pictures)
    return "torch", "", chain(first, pictures)


def _faster(ready: Classifier, squares: Tensor) -> tuple[str, str]:
    """Make the network over and compare both on these squares (B S S C)."""
    from tellapart.shipping.onnx_network import network_by_onnx

    try:
        other = network_by_onnx(ready.bundle)
    except TellapartError as error:
        return "torch", f"computed by torch, for onnxruntime cannot: {error.message}"
    rounds = [(_timed(ready, ready.model, squares), _timed(ready, other, squares)) for _ in range(ROUNDS)]
    ours, theirs = (min(one[k][0] for one in rounds) for k in (0, 1))
    first, second = (calibrated(ready.bundle, logits) for _, logits in rounds[-1])
    same = bool((first.argmax(1) == second.argmax(1)).all() and np.abs(first - second).max() <= OFF)
    times = f"{len(squares)} of these pictures take it {{:.3g}} s, {{}} {{:.3g}} s"
    if same and ours >= GAIN * theirs:
        ready.model = other
        return "onnxruntime", "computed by onnxruntime: " + times.format(theirs, "torch", ours)
    why = "" if same else "; their answers differ"
    return "torch", "computed by torch: " + times.format(ours, "onnxruntime", theirs) + why


def _timed(ready: Classifier, network: nn.Module, squares: Tensor) -> tuple[float, np.ndarray]:
    """Seconds, and the logits (B K)."""
    began = time.perf_counter()
    with torch.inference_mode():
        logits = network(network_input(squares, ready.bundle.preprocess)).float().numpy()
    return time.perf_counter() - began, logits
