"""Every network that has a name, with its numbers: as torchvision states them, and counted for our own."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from tellapart.models.build import Architecture, build
from tellapart.models.look import look
from tellapart.names import OWN_MODELS, TORCHVISION_MODELS

NOT_STATED = "not stated"
OWN_SIZE, OWN_CLASSES = 32, 10
"""What our own networks are counted with; they fit any size and number of classes."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network with one of its published weights: counts for pictures of `size`, and top-1 accuracy on the validation
    part of ImageNet-1K in percent. Weights of features alone have 0 classes and no top-1. Our own networks have no
    published weights: None and empty words.

    `licence` is the one stated for these weights, or NOT_STATED.
    """

    name: str
    parameters: int
    multiply_adds: int
    size: int
    classes: int
    top_1: float | None = None
    weights: str = ""
    file: str = ""
    megabytes: float | None = None
    licence: str = ""


def own() -> list[Entry]:
    """Our own networks, built as empty shells and counted."""
    return [_counted(name) for name in (*OWN_MODELS, "mlp:256")]


def _counted(name: str) -> Entry:
    architecture = Architecture(name=name, num_classes=OWN_CLASSES, channels=3, size=OWN_SIZE)
    with torch.device("meta"):
        model = build(architecture)
    weights = sum(param.numel() for param in model.parameters())
    adds = look(model, architecture).multiply_adds
    return Entry(name=name, parameters=weights, multiply_adds=adds, size=OWN_SIZE, classes=OWN_CLASSES)


def published() -> tuple[list[Entry], list[str]]:
    """All published weights of torchvision's classifiers; and the networks that this torchvision does not know."""
    from torchvision import models

    known = set(models.list_models(module=models))
    return (
        [_stated(name, one) for name in TORCHVISION_MODELS if name in known for one in models.get_model_weights(name)],
        [name for name in TORCHVISION_MODELS if name not in known],
    )


def files() -> dict[str, tuple[str, str]]:
    """Each published file of a whole classifier: which network its weights are for, and its address."""
    from torchvision import models

    known = [name for name in TORCHVISION_MODELS if name in models.list_models(module=models)]
    every = ((name, one) for name in known for one in models.get_model_weights(name))
    return {one.url.rpartition("/")[2]: (name, one.url) for name, one in every if one.meta["categories"]}


def licence_of(file: str, sha256: str) -> str:
    """What torchvision states for a published file, which bears the beginning of its hash; NOT_STATED for any other."""
    name = file.replace("\\", "/").rpartition("/")[2]
    stem = name.rpartition(".")[0].rpartition("-")[2]
    stated = (one.licence for one in published()[0] if one.file == name and stem and sha256.startswith(stem))
    return next(stated, NOT_STATED)


def default_file(name: str) -> str:
    """The file that torchvision gives first for a network."""
    from torchvision import models

    return models.get_model_weights(name)["DEFAULT"].url.rpartition("/")[2]


def _stated(name: str, weights: Any) -> Entry:
    meta = weights.meta
    top_1 = meta["_metrics"]["ImageNet-1K"]["acc@1"]
    return Entry(
        name=name,
        parameters=meta["num_params"],
        multiply_adds=round(meta["_ops"] * 1e9),
        size=weights.transforms.keywords["crop_size"],
        classes=len(meta["categories"] or ()),
        top_1=top_1 if math.isfinite(top_1) else None,
        weights=weights.name,
        file=weights.url.rpartition("/")[2],
        megabytes=meta["_file_size"],
        licence=meta.get("license", NOT_STATED),
    )


def chosen(
    entries: Iterable[Entry],
    *,
    text: str = "",
    most_parameters: float | None = None,
    most_multiply_adds: float | None = None,
    least_top_1: float | None = None,
    licence: str = "",
) -> list[Entry]:
    """Those with `text` in the name, `licence` in the licence, and numbers within the bounds; the smallest first.

    What has no published accuracy has not the least one.
    """
    found = [
        one
        for one in entries
        if text.lower() in one.name
        and licence.lower() in one.licence.lower()
        and (most_parameters is None or one.parameters <= most_parameters)
        and (most_multiply_adds is None or one.multiply_adds <= most_multiply_adds)
        and (least_top_1 is None or (one.top_1 or 0.0) >= least_top_1)
    ]
    return sorted(found, key=lambda one: (one.parameters, one.name, one.weights))
