"""Bundle: a model someone can use, as one safetensors file: weights, preprocessing, class names, scores, origin."""

import json
import math
import struct
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tellapart.errors import StorageError
from tellapart.files import write_atomically
from tellapart.models.build import Architecture, outline
from tellapart.models.golden import Golden, goldens_of
from tellapart.preprocess import Preprocess

FORMAT = 1
MAX_HEADER = 64 * 1024**2
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
PICKLED = "{} is a pickle, as torch.save writes them: loading one can run any code, so it is not opened."
GIVE = "Give a run, or a model.safetensors that `tellapart train` wrote."


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A trained classifier as a value. `state` maps parameter names to tensors on the CPU.

    Logits are divided by `temperature`. A picture whose largest logit is below `known` is like none of the classes.
    `promises`: the probability from which on answers are right in so many cases, for each share that is promised.
    `thresholds` (K), where a picture may have several classes: the probability from which on it is said to have each,
    by the sigmoid of its logit; () where it has one.
    `goldens`: pictures with what is to come out for them.
    """

    architecture: Architecture
    preprocess: Preprocess
    classes: tuple[str, ...]
    state: Mapping[str, Tensor]
    scores: tuple[Mapping[str, Any], ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    known: float | None = None
    promises: Mapping[float, float] = field(default_factory=dict)
    thresholds: tuple[float, ...] = ()
    goldens: tuple[Golden, ...] = ()

    def module(self, device: torch.device | str = "cpu") -> nn.Module:
        """The network with these weights, in eval mode, on `device`. Raises StorageError when they do not fit."""
        try:
            network = outline(self.architecture)
            state: Any = OrderedDict(self.state)
            state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]  # mnasnet asks for its version
            network.load_state_dict(state, strict=True, assign=True)
        except RuntimeError as error:
            raise StorageError(f"The weights do not fit the architecture {self.architecture.name}: {error}") from error
        return network.to(device).eval()


def save_bundle(bundle: Bundle, path: Path) -> None:
    """Write the bundle as one file, whole or not at all. Raises StorageError when it cannot be written."""
    from safetensors.torch import save

    header = {
        "format": FORMAT,
        "architecture": bundle.architecture.to_json(),
        "preprocess": bundle.preprocess.to_json(),
        "classes": list(bundle.classes),
        "scores": [dict(s) for s in bundle.scores],
        "origin": dict(bundle.origin),
        "temperature": bundle.temperature,
        "known": bundle.known,
        "promises": [list(one) for one in bundle.promises.items()],
        **({"thresholds": bundle.thresholds} if bundle.thresholds else {}),
        "goldens": [golden.to_json() for golden in bundle.goldens],
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in bundle.state.items()}
    write_atomically(path, save(tensors, metadata={"tellapart": json.dumps(header, ensure_ascii=False)}))


def load_bundle(path: Path) -> Bundle:
    """Read a model file. Nothing in it is executed. Raises StorageError when it is broken or not a model of ours."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    header = read_header(path)
    try:
        state = load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError) as error:
        raise StorageError(f"{path} is damaged: {error}.", "Copy it again from where it was made.") from error
    return _of_header(header, state, path)


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a model file, without its weights. Raises StorageError that says what the file is instead."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if start.startswith(PICKLES):
                raise StorageError(
                    PICKLED.format(path), "Keep its weights in a safetensors file; those cannot run code."
                )
            if not 0 < length <= MAX_HEADER:
                raise StorageError(f"{path} is not a model file.", GIVE)
            words = json.loads(file.read(length)).get("__metadata__", {})
        if "tellapart" not in words:
            raise StorageError(f"{path} holds weights, but not of which network, for which classes.", GIVE)
        header = json.loads(words["tellapart"])
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(f"{path} cannot be read as a model file: {error}.", GIVE) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise StorageError(f"{path} has format {found!r}; this version reads format {FORMAT}.", "Update tellapart.")
    return header


def _refuse_odd_tensors(state: dict[str, Tensor], path: Path) -> None:
    """Weights are finite float32 numbers, counters int64: anything else is not a model that `train` wrote."""
    for name, tensor in state.items():
        if tensor.dtype not in (torch.float32, torch.int64):
            raise StorageError(f"{path}: {name} is {tensor.dtype}; expected float32.")
        if not bool(torch.isfinite(tensor).all()):
            raise StorageError(f"{path}: {name} holds numbers that are not finite.", "Train again.")


def _of_header(header: dict[str, Any], state: dict[str, Tensor], path: Path) -> Bundle:
    try:
        classes = tuple(header["classes"])
        if type(header["classes"]) is not list or not all(isinstance(name, str) for name in classes):
            raise StorageError(f"{path} has no class names.")
        if not classes or len(set(classes)) < len(classes):
            raise StorageError(f"{path} names a class twice, or none.")
        _refuse_odd_tensors(state, path)
        architecture = Architecture.from_json(header["architecture"])
        if architecture.num_classes != len(classes):
            raise StorageError(f"{path} names {len(classes)} classes for {architecture.num_classes} outputs.")
        preprocess, temperature = Preprocess.from_json(header["preprocess"]), float(header["temperature"])
        if (preprocess.size, preprocess.channels) != (architecture.size, architecture.channels):
            raise StorageError(f"{path} prepares pictures of another size than its network takes.")
        if not (math.isfinite(temperature) and temperature > 1e-6):
            raise StorageError(f"{path} has the temperature {temperature}; it must be above 0.")
        known, promises = header.get("known"), {float(of): float(at) for of, at in header.get("promises", ())}
        if not all(math.isfinite(one) for one in (*promises, *promises.values(), known or 0.0)):
            raise StorageError(f"{path} has bounds for its answers that are not finite.")
        thresholds = tuple(float(one) for one in header.get("thresholds", ()))
        if thresholds and (len(thresholds) != len(classes) or not all(0 <= one <= 1 for one in thresholds)):
            raise StorageError(f"{path} has thresholds that are not one from 0 to 1 for each class.")
        return Bundle(
            architecture=architecture,
            preprocess=preprocess,
            classes=classes,
            state=state,
            scores=tuple(header["scores"]),
            origin=dict(header["origin"]),
            temperature=temperature,
            known=None if known is None else float(known),
            promises=promises,
            thresholds=thresholds,
            goldens=goldens_of(header.get("goldens", ()), len(classes)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path} lacks a part of its header: {error}.") from error
