"""ONNX: a model as one file that onnxruntime opens anywhere, float32, float16 or int8, with all that is said of it."""

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tellapart.errors import StorageError, TellapartError, UsageError
from tellapart.models.bundle import Bundle
from tellapart.recipe import printable
from tellapart.shipping.shipped import Pixels, Shipped, Square

FRONTS = {"picture": Square, "square": lambda _: Pixels()}
"""What goes in: pictures of any size, or the network's squares."""
OPSET, LARGEST = 20, 2**31 - 2**20
QUANTISED = ["Conv", "Gemm", "MatMul"]
LAYOUT = {"picture": "(N, H, W, C), of one size in each call", "square": "(N, S, S, C), the network's squares"}


@contextlib.contextmanager
def bringing(extra: str) -> Iterator[None]:
    """Where optional libraries are imported. Raises UsageError that names the missing one and the extra with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of third parties, about each other
            yield
    except ImportError as error:
        hint = f"python3 -m pip install 'tellapart[{extra}]'"
        raise UsageError(f"This needs {error.name}, which is not installed.", hint) from error


def need(way: str) -> None:
    """Import what a way out takes, before anything is computed. Raises UsageError where it is missing."""
    if way == "openvino":
        with bringing("openvino"):
            import_module("openvino")
    if way == "onnx":
        with bringing("onnx"):
            import_module("onnx")
            import_module("onnxscript")
            import_module("onnxruntime")


def facts(bundle: Bundle, name: str, front: str, precision: str = "float32") -> dict[str, Any]:
    """What is said of a model beside its numbers, as plain data."""
    origin = {key: bundle.origin[key] for key in ("run", "time", "content", "split") if key in bundle.origin}
    return {
        "format": 1,
        "model": name,
        "input": f"pictures: uint8 {LAYOUT[front]}",
        "front": front,
        "precision": precision,
        "outputs": "probabilities and logits, float32 (N, K)",
        "classes": list(bundle.classes),
        "thresholds": list(bundle.thresholds),
        "preprocess": bundle.preprocess.to_json(),
        "architecture": bundle.architecture.name,
        "temperature": bundle.temperature,
        "known": bundle.known,
        "promises": [list(one) for one in sorted(bundle.promises.items())],
        "origin": origin,
    }


def program(network: nn.Module, bundle: Bundle, front: str) -> Any:
    """The network as torch.export writes it down: any number of pictures, with "picture" of any size."""
    to, size = bundle.preprocess, torch.export.Dim
    height, width = (to.size, to.size) if front == "square" else (to.size + 5, to.size + 9)
    shapes = {0: size("batch")} | ({1: size("height"), 2: size("width")} if front == "picture" else {})
    example = torch.zeros(2, height, width, to.channels, dtype=torch.uint8)
    with quiet(), torch.no_grad():
        return torch.export.export(network.eval(), (example,), dynamic_shapes={"pictures": shapes})


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What exporters say about themselves is for their makers; what they refuse becomes an error of ours."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except TellapartError:
        raise
    except Exception as error:  # exporters raise every built-in error, and many of their own
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(f"This network cannot be exported: {printable(said)}", "Another format may do.") from error
    finally:
        logging.disable(before)


def onnx_bytes(
    bundle: Bundle, name: str, *, front: str, precision: str, calibration: Sequence[NDArray[np.uint8]] = ()
) -> bytes:
    """The file. `calibration`: pictures (1, H, W, C) of the training part, as they go in; only int8 looks at them.

    Raises UsageError where a library is missing or cannot write this network, StorageError above 2 GB.
    """
    onnx = import_module("onnx")
    kind = torch.float16 if precision == "fp16" else torch.float32
    written = program(Shipped(bundle, FRONTS[front](bundle.preprocess), kind=kind), bundle, front)
    with quiet():
        model = onnx_of(written, ["pictures"], ["probabilities", "logits"])
    if model.ByteSize() > LARGEST:
        raise StorageError("The model is above 2 GB, the most that one ONNX file can hold.", "Try --precision fp16.")
    if precision == "int8":
        model = _quantised(model, calibration)
    _bare(model.graph)
    said = facts(bundle, name, front, precision)
    singly = {f"class.{k}": printable(one) for k, one in enumerate(bundle.classes)}  # for programs that read no JSON
    singly |= {f"threshold.{k}": repr(one) for k, one in enumerate(bundle.thresholds)}
    singly |= {} if bundle.known is None else {"known": repr(bundle.known)}
    onnx.helper.set_model_props(model, {"tellapart": json.dumps(said), **singly})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def onnx_of(written: Any, inputs: list[str], outputs: list[str]) -> Any:
    """What torch.export wrote down as a model of ONNX."""
    made: Any = torch.onnx.export(
        written, dynamo=True, opset_version=OPSET, input_names=inputs, output_names=outputs, verbose=False
    )
    return made.model_proto


def _bare(graph: Any) -> None:
    """Take out where in whose files each line came from: paths of this machine have no place in a file for others."""
    for one in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        one.ClearField("metadata_props")
        if hasattr(one, "attribute"):
            one.ClearField("doc_string")


def _quantised(model: Any, calibration: Sequence[NDArray[np.uint8]]) -> Any:
    """The same with 8-bit weights and activations, whose ranges the pictures show; the way into the network stays."""
    quantization, onnx = import_module("onnxruntime.quantization"), import_module("onnx")
    keep = [node.name for node in model.graph.node if "'front'" in _scopes(node)]
    with tempfile.TemporaryDirectory(prefix="tellapart-int8-") as folder, quiet():
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, plain)
        quantization.quantize_static(
            plain,
            small,
            _reader(quantization, calibration),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=QUANTISED,
            nodes_to_exclude=keep,
        )
        return onnx.load(small)


def _scopes(node: Any) -> str:
    return next((one.value for one in node.metadata_props if one.key == "pkg.torch.onnx.name_scopes"), "")


def _reader(quantization: Any, pictures: Sequence[NDArray[np.uint8]]) -> Any:
    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(pictures)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            found = next(self.left, None)
            return None if found is None else {"pictures": found}

    return Reader()
