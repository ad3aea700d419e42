"""Every way out: ONNX, a program of torch.export, a state dict for plain PyTorch, OpenVINO; and how each is opened."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tellapart.data.augment import network_input
from tellapart.files import writable, write_atomically
from tellapart.models.bundle import Bundle
from tellapart.models.weights import read
from tellapart.shipping.network_file import network_text
from tellapart.shipping.onnx_file import FRONTS, facts, onnx_bytes, program, quiet
from tellapart.shipping.parity import Answers
from tellapart.shipping.predict_onnx import Model
from tellapart.shipping.shipped import Shipped, shares_of
from tellapart.shipping.snippets import snippets

ARTEFACTS = {"onnx": "model.onnx", "torch-export": "model.pt2", "state-dict": "weights.pth", "openvino": "model.xml"}
"""Each way out, and the file it leads to."""
CLASSES, THRESHOLDS, NETWORK = "classes.json", "thresholds.json", "network.py"
"""What lies beside a state dict; the last two only where there is something to say."""


def write(
    way: str,
    bundle: Bundle,
    name: str,
    folder: Path,
    *,
    front: str,
    precision: str,
    calibration: tuple[NDArray[np.uint8], ...] = (),
) -> None:
    """Write the files of one way out into a folder that is there. Raises UsageError where a library is missing or
    cannot write this network.
    """
    file = folder / ARTEFACTS[way]
    if way == "onnx":
        made = onnx_bytes(bundle, name, front=front, precision=precision, calibration=calibration)
        write_atomically(file, made)
        for called, text in snippets().items():
            write_atomically(folder / called, text)
    elif way == "torch-export":
        with writable(file):
            about, made = _about(bundle, name, front, precision), _exported(bundle, front)
            for node in made.graph.nodes:  # where each is from names folders of this machine
                node.meta.pop("stack_trace", None)
            torch.export.save(made, file, extra_files={"tellapart": about})
    elif way == "openvino":
        openvino = import_module("openvino")
        with quiet():
            model = openvino.convert_model(_exported(bundle, front))
            for output, called in zip(model.outputs, ("probabilities", "logits"), strict=True):
                output.get_tensor().set_names({called})
            openvino.save_model(model, file, compress_to_fp16=False)
    else:
        with writable(file):
            torch.save(bundle.module().state_dict(), file)
        write_atomically(folder / CLASSES, json.dumps(list(bundle.classes)) + "\n")
        if bundle.thresholds:
            write_atomically(folder / THRESHOLDS, json.dumps(list(bundle.thresholds)) + "\n")
        if text := network_text(bundle):
            write_atomically(folder / NETWORK, text)
    if way != "state-dict":
        write_atomically(folder / "model.json", _about(bundle, name, front, precision) + "\n")


def _exported(bundle: Bundle, front: str) -> Any:
    return program(Shipped(bundle, FRONTS[front](bundle.preprocess)), bundle, front)


def _about(bundle: Bundle, name: str, front: str, precision: str) -> str:
    return json.dumps(facts(bundle, name, front, precision), indent=1)


def opened(way: str, bundle: Bundle, file: Path) -> Answers:
    """The answers of a file as the runtime it is for gives them. Raises UsageError where that is missing."""
    if way == "onnx":
        return Model(file).answers
    if way == "openvino":
        openvino = import_module("openvino")
        compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda pictures: tuple(np.array(one) for one in compiled([pictures]).values())  # type: ignore[return-value]
    if way == "torch-export":
        with quiet():
            return _by_torch(torch.export.load(file).module())
    return _by_torch(_Plain(bundle, replace(bundle, state=read(file)).module()))


class _Plain(nn.Module):
    """A network with our pictures before it and probabilities after it."""

    def __init__(self, bundle: Bundle, network: nn.Module) -> None:
        super().__init__()
        self.bundle, self.network = bundle, network

    def forward(self, squares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.network(network_input(squares, self.bundle.preprocess))
        return shares_of(self.bundle, logits), logits


def _by_torch(module: Any) -> Answers:
    def answers(pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            shares, logits = module(torch.tensor(pictures))
        return shares.numpy(), logits.numpy()

    return answers
