"""Bundle: a model someone can use, as one safetensors file: weights, preprocessing, class names, scores, origin."""

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tellapart.errors import StorageError
from tellapart.files import readable, write_atomically
from tellapart.models.build import Architecture, outline
from tellapart.models.golden import Golden, goldens_of
from tellapart.models.header import FORMAT, Layout, brief, opened
from tellapart.names import is_elsewhere
from tellapart.preprocess import Preprocess

LARGE = 64_000_000
"""Numbers from which on the network is built before they are read, also one whose code has to be allowed for that."""
COLDEST, HOTTEST, LARGEST = 1e-3, 1e3, 1e38
"""Temperatures that a file may have, where those that are fitted lie from 1/20 to 20; and the largest logit."""


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
        layout, network = _layout_of(self.state), self.outline()
        _refuse_misfit(self.architecture, network, layout)
        state: Any = OrderedDict(self.state)
        state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]  # mnasnet asks for its version
        network.load_state_dict(state, strict=True, assign=True)
        return network.to(device).eval()

    def outline(self) -> nn.Module:
        """The network without these weights. Raises UsageError where it is far larger than they are."""
        return outline(self.architecture, numbers=_numbers(_layout_of(self.state)))


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
    header["digest"] = _digest(json.loads(json.dumps(header)), tensors)
    write_atomically(path, save(tensors, metadata={"tellapart": json.dumps(header, ensure_ascii=False)}))


def load_bundle(path: Path) -> Bundle:
    """Read a model file. Nothing in it is executed. Raises StorageError when it is broken or not a model of ours.

    What it says of itself is proved first: its weights are read when they are those of its network, so that a file
    costs the memory that its network needs, whatever else it says.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    header, layout = opened(path)
    bundle = _of_header(header, path)
    if not is_elsewhere(bundle.architecture.name) or _numbers(layout) > LARGE:
        _refuse_misfit(bundle.architecture, outline(bundle.architecture, numbers=_numbers(layout)), layout)
    try:
        with readable(brief(path)):
            state = load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise StorageError(
            f"{brief(path)} is damaged: {brief(error)}.", "Copy it again from where it was made."
        ) from error
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise StorageError(f"{brief(path)}: {brief(name)} holds numbers that are not finite.", "Train again.")
    if "digest" in header and header["digest"] != _digest(header, state):
        changed = f"{brief(path)} was changed after it was written: its digest is another."
        raise StorageError(changed, "Copy it again from where it was made.")
    return replace(bundle, state=state)


def _digest(header: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """SHA-256 of all that a file says and of every weight, so that no flipped bit goes unseen.

    Files from before it was written have none.
    """
    said = {name: value for name, value in header.items() if name != "digest"}
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in sorted(state):
        found.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}".encode())
        found.update(state[name].reshape(-1).numpy().view("u1").data)
    return found.hexdigest()


def _layout_of(state: Mapping[str, Tensor]) -> Layout:
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    return {name: (kinds.get(one.dtype, ""), tuple(one.shape)) for name, one in state.items()}


def _numbers(layout: Layout) -> int:
    return sum(math.prod(shape) for _, shape in layout.values())


def _refuse_misfit(architecture: Architecture, network: nn.Module, layout: Layout) -> None:
    """Raises StorageError when the tensors of a file are not those of the network."""
    own = _layout_of(network.state_dict())
    odd = next((name for name in (*own, *layout) if own.get(name) != layout.get(name)), None)
    if odd is None:
        return
    there, wanted = (
        " ".join(map(str, (one[0], *one[1]))) if one else "nothing" for one in (layout.get(odd), own.get(odd))
    )
    named = f"the architecture {brief(architecture.name)}: {brief(odd)}"
    raise StorageError(f"The weights do not fit {named} is {there}, expected {wanted}.")


def _of_header(header: dict[str, Any], path: Path) -> Bundle:
    """A bundle without its weights."""
    shown = brief(path)
    try:
        classes = tuple(header["classes"])
        if type(header["classes"]) is not list or not all(isinstance(name, str) for name in classes):
            raise StorageError(f"{shown} has no class names.")
        if not classes or len(set(classes)) < len(classes):
            raise StorageError(f"{shown} names a class twice, or none.")
        architecture = Architecture.from_json(header["architecture"])
        if architecture.num_classes != len(classes):
            raise StorageError(f"{shown} names {len(classes)} classes for {architecture.num_classes} outputs.")
        preprocess = Preprocess.from_json(header["preprocess"])
        if (preprocess.size, preprocess.channels) != (architecture.size, architecture.channels):
            raise StorageError(f"{shown} prepares pictures of another size than its network takes.")
        temperature = _number(header["temperature"], "temperature", COLDEST, HOTTEST, shown)
        known = header.get("known")
        return Bundle(
            architecture=architecture,
            preprocess=preprocess,
            classes=classes,
            state={},
            scores=tuple(map(_score, header["scores"])),
            origin=_origin(header["origin"]),
            temperature=temperature,
            known=None if known is None else _number(known, "known", -LARGEST, LARGEST, shown),
            promises=_promises(header.get("promises", []), shown),
            thresholds=_thresholds(header.get("thresholds", []), len(classes), shown),
            goldens=goldens_of(header.get("goldens", ()), len(classes)),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise StorageError(f"{shown} lacks a part of its header: {brief(error)}.") from error


def _number(value: Any, name: str, low: float, high: float, shown: str) -> float:
    """A number of a header. Raises StorageError, which names the field, for anything else."""
    if type(value) in (int, float) and low <= value <= high:
        return float(value)
    raise _wrong(name, value, f"a number from {low:g} to {high:g}", shown)


def _wrong(name: str, value: Any, wanted: str, shown: str) -> StorageError:
    said = f"{shown} says {brief(repr(value)[:60])} for '{name}'; expected {wanted}."
    return StorageError(said, "Copy it again from where it was made.")


def _promises(values: Any, shown: str) -> dict[float, float]:
    """The least probability for each share that is promised, from pairs of them."""
    pairs = isinstance(values, list) and all(isinstance(one, list) and len(one) == 2 for one in values)
    if not pairs or len({str(of) for of, _ in values}) < len(values):
        raise _wrong("promises", values, "a list of pairs such as [0.9, 0.7], no two of one share", shown)
    return {_number(of, "promises", 0, 1, shown): _number(at, "promises", 0, 1, shown) for of, at in values}


def _thresholds(values: Any, count: int, shown: str) -> tuple[float, ...]:
    """The probability from which on each class is said; none where a picture has one class."""
    if not isinstance(values, list) or len(values) not in (0, count):
        raise _wrong("thresholds", values, f"a list of {count} numbers from 0 to 1", shown)
    return tuple(_number(one, "thresholds", 0, 1, shown) for one in values)


def _score(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A score as `train` writes it. Raises ValueError for anything else."""
    words, figures = (values["name"], values["part"], values["about"]), (values["value"], values["low"], values["high"])
    texts = all(isinstance(one, str) for one in words)
    if not texts or type(values["n"]) is not int or not all(one is None or abs(one) < math.inf for one in figures):
        raise ValueError("a score that is none")
    return values


def _origin(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a model is from: texts, and tables of texts. Raises ValueError for anything else."""
    if not isinstance(values, Mapping) or not isinstance(values.get("packages", {}), Mapping):
        raise ValueError("an origin that is no table")
    return values
