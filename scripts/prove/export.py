"""Prove that what is exported answers as the model does, for every family of networks.

    python scripts/prove/export.py [--only NAME ...] [--pictures 200] [--json FILE]

Each network gets a head first, fitted on real pictures (the handwritten digits, enlarged and coloured), for answers of
random weights would agree by chance or not at all. It is then exported to ONNX, from pictures to probabilities, and
files of digits that it was not fitted on go both ways, from their bytes. Printed: the accuracy of both, in how many
pictures they agree, and the largest difference of a probability. Exits 1 when a certificate does not pass, or a head
has learned nothing.
"""

import argparse
import io
import json
import math
import platform
import sys
import tempfile
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from tellapart.data.augment import network_input
from tellapart.data.decode import decode
from tellapart.data.sources.digits import digits
from tellapart.data.square import fitted
from tellapart.errors import UsageError
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import Bundle
from tellapart.models.frozen import head_of
from tellapart.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from tellapart.shipping.others import opened, write
from tellapart.shipping.parity import Sample, parity

FAMILIES: dict[str, int] = {
    "small": 32,
    "linear": 16,
    "mlp:64": 16,
    "quick": 32,
    "resnet18": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "regnet_y_400mf": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "mnasnet0_5": 64,
    "googlenet": 64,
    "inception_v3": 80,
    "alexnet": 64,
    "vgg11": 64,
    "resnext50_32x4d": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vit_b_32": 224,
    "maxvit_t": 224,
    "timm:efficientvit_b0": 64,
}
"""One member of each family, and the side of the pictures it is proved with."""
CLASSES = tuple("0123456789")
FITTED, BATCH, STEPS, LEAST, SHIFT, SHARP = 200, 32, 300, 0.5, 100.0, 8.0
"""Pictures for the head, and at a time (a quarter of them where they are large: of maxvit 32 take 14 GB); steps of a
body that is trained too, up to four times as many, until it reaches this accuracy (0.1 is chance); what lifts logits,
and what they are multiplied by."""


def samples(count: int) -> list[Sample]:
    """Digits as PNG files, higher than wide and in colour: with something to cut, to resize and to mistake."""
    index = digits(Path())
    found = []
    for row in np.random.default_rng(0).permutation(len(index))[:count].tolist():
        pixels = np.asarray(index.store.read(row)).squeeze()
        tall = np.asarray(Image.fromarray(pixels).resize((171, 203), Image.Resampling.BICUBIC)).astype(int)
        coloured = np.stack([tall, 255 - tall // 2, (tall * 3) % 256], -1).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(coloured).save(file, "PNG")
        found.append(Sample(key=index.keys[row], file=file.getvalue(), label=int(index.labels[row])))
    return found


def ridge(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (K F) and bias (K) by ridge regression on standardised features (N F): a head in a moment."""
    mean, spread = features.mean(0), features.std(0).clamp_min(1e-6)
    rows, target = (features - mean) / spread, nn.functional.one_hot(labels, len(CLASSES)).double() - 0.1
    penalty = 0.1 * features.shape[1] * torch.eye(len(rows), dtype=torch.float64)
    weight = SHARP * (rows.T @ torch.linalg.solve(rows @ rows.T + penalty, target)).T / spread
    return weight, -weight @ mean


def with_head(network: nn.Module, inputs: Tensor, labels: Tensor) -> nn.Module:
    """The network whose body is as it was drawn, with its norms measured, and whose head knows the digits."""
    head = network.get_submodule(head_of(network))
    parts, kept = inputs.split(BATCH), []
    norms = [one for one in network.eval().modules() if isinstance(one, nn.BatchNorm2d)]
    with torch.no_grad():
        for one in norms:  # norms that have seen nothing would let nothing through
            one.reset_running_stats()
            one.train().momentum = None
        for part in parts[:3]:
            network(part)
        network.eval()
        with head.register_forward_pre_hook(lambda _, given: kept.append(given[0])):
            for part in parts:
                network(part)
        features = torch.cat(kept)
        if isinstance(head, nn.Conv2d):
            features = features.mean((2, 3))
        weight, bias = ridge(features.double(), labels)
        head.weight.copy_(weight.view_as(head.weight))  # type: ignore[operator]
        if head.bias is not None:  # maxvit has none
            # A convolution as a head is followed by a ReLU (squeezenet): all logits are lifted above it.
            head.bias.copy_(bias + SHIFT * isinstance(head, nn.Conv2d))  # type: ignore[operator]
    return network


def trained(network: nn.Module, inputs: Tensor, labels: Tensor) -> nn.Module:
    """The same network after STEPS more steps of Adam on all its weights: a drawn body may tell its head nothing. Those
    of large pictures go slowly (at 1e-3 maxvit stayed at 11 %), and drop none of their layers.
    """
    large, chance = inputs.shape[-1] >= 200, torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-4 if large else 1e-3)
    for part in network.train().modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.1
        if large and isinstance(part, StochasticDepth):
            part.p = 0.0
    for _ in range(STEPS):
        some = torch.randperm(len(inputs), generator=chance)[: BATCH // 4 if large else BATCH]
        said = network(inputs[some])
        said = said if isinstance(said, Tensor) else said[0]  # inception and googlenet have more to say in training
        optimiser.zero_grad()
        nn.functional.cross_entropy(said, labels[some]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0 if large else math.inf)
        optimiser.step()
    return network.eval()


def proved(name: str, size: int, fit: list[Sample], judged: list[Sample]) -> dict[str, Any]:
    """The certificate of one network, in short; with its body trained too, where its head alone learned nothing."""
    began = time.monotonic()
    to = Preprocess(size=size, channels=3, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    architecture = Architecture(name=name, num_classes=len(CLASSES), channels=3, size=size)
    inputs = network_input(torch.tensor(np.stack([fitted(decode(one.file), to) for one in fit])), to)
    labels = torch.tensor([one.label for one in fit])
    network = with_head(build(architecture), inputs, labels)
    of = Bundle(architecture=architecture, preprocess=to, classes=CLASSES, state={})
    found = certificate(of, network, judged)
    for steps in range(STEPS, 4 * STEPS + 1, STEPS):
        if not found["learned"]:
            found = {**certificate(of, trained(network, inputs, labels), judged), "steps": steps}
    return {"network": name, "size": size, **found, "seconds": round(time.monotonic() - began, 1)}


def certificate(of: Bundle, network: nn.Module, judged: list[Sample]) -> dict[str, Any]:
    """What both say of pictures that the network was not fitted on."""
    bundle = replace(of, state=network.state_dict())
    with tempfile.TemporaryDirectory() as place:
        write("onnx", bundle, bundle.architecture.name, Path(place), front="picture", precision="float32")
        answers = opened("onnx", bundle, Path(place) / "model.onnx")
        found, _ = parity(bundle, judged, answers, front="picture", arithmetic="float32", about="digits")
    assert found.accuracy is not None
    return {
        "sound": found.sound,
        "learned": found.accuracy[0] >= LEAST,
        "n": found.n,
        "accuracy": found.accuracy,
        "same": found.same,
        "clear": found.clear,
        "agreed": found.agreed,
        "largest": found.largest,
    }


def outcome(one: dict[str, Any]) -> str:
    """In a word or more."""
    if not one["sound"]:
        return "FAILED"
    return "passed" if one["learned"] else "passed, but proves nothing, for the head has learned nothing"


def main() -> int:
    """Prove what is asked for, and say so."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=list(FAMILIES))
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    every, found = samples(FITTED + asked.pictures), []
    for name in asked.only:
        try:
            one = proved(name, FAMILIES[name], every[:FITTED], every[FITTED:])
        except UsageError as error:
            if not name.startswith("timm:"):
                raise
            print(f"{name:20} skipped: {error}", flush=True)
            continue
        found.append(one)
        accuracy = " and ".join(f"{100 * share:.1f} %" for share in one["accuracy"])
        print(
            f"{name:20} {outcome(one)}: the same class for {one['same']} of {one['n']}, "
            f"accuracy {accuracy}, largest difference {one['largest']:.1e}, {one['seconds']} s",
            flush=True,
        )
        if asked.json:  # after each: the whole takes an hour
            versions = {"python": platform.python_version(), "torch": torch.__version__}
            said = {"date": f"{datetime.now():%Y-%m-%d}", **versions, "networks": found}
            asked.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return 0 if all(one["sound"] and one["learned"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
