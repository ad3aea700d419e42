"""A network that onnxruntime computes in place of torch: the same tensors in, the same logits out but for rounding."""

from importlib import import_module

import numpy as np
import torch
from torch import Tensor, nn

from tellapart.errors import StorageError
from tellapart.models.bundle import Bundle
from tellapart.shipping.onnx_file import LARGEST, need, onnx_of, quiet


class OnnxNetwork(nn.Module):
    """Images (B C S S) float32 to logits (B K), on the processor, with as many threads as torch has."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        onnxruntime = import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads without work rest
        self.session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])

    def forward(self, images: Tensor) -> Tensor:
        logits = self.session.run(["logits"], {"images": np.ascontiguousarray(images.numpy())})[0]
        return torch.from_numpy(logits)


def network_by_onnx(bundle: Bundle) -> OnnxNetwork:
    """The bundle's network in onnxruntime; nothing is written to disk.

    Raises UsageError where a library is missing or cannot write this network, StorageError above 2 GB.
    """
    need("onnx")
    to = bundle.preprocess
    example = torch.zeros(2, to.channels, to.size, to.size)
    with quiet(), torch.no_grad():
        batch = ({0: torch.export.Dim("batch")},)
        made = onnx_of(torch.export.export(bundle.module(), (example,), dynamic_shapes=batch), ["images"], ["logits"])
        if made.ByteSize() > LARGEST:
            raise StorageError("The network is above 2 GB, the most that ONNX can hold.", "Try --engine torch.")
        return OnnxNetwork(made.SerializeToString())
