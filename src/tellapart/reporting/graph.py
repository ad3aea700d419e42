"""Trace one forward pass into the graph that TensorBoard draws, without a compiler.

`torch.jit.trace` is deprecated and `torch.export` imports for seconds, so the pass is only watched: a function mode
sees every torch call, module hooks say in which module it happened, and tensors are told apart by identity.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tellapart.models.look import still
from tellapart.models.trace import call_name, hooked, tensors

GraphDef: TypeAlias = Any
"""tensorboard.compat.proto.graph_pb2.GraphDef: protobuf makes its classes at run time, so no type checker knows it."""


def trace_graph(model: nn.Module, example: Tensor) -> GraphDef:
    """The graph of `model(example)`: a node per torch call, parameter and buffer, named by the path of its module.

    The pass runs in eval mode without gradients; hooks are gone and training flags are back afterwards, also after an
    error. A part of a path that is only a number gets its class (`0_Conv2d`); a module called again gets a scope of
    its own (`relu`, `relu_1`). Work that torch does not show (NumPy, TorchScript) becomes one node per module, so that
    input and output stay connected. Give the plain module, not the wrapper of torch.compile or DDP.

    Args:
        model: any module whose forward takes one tensor.
        example: B C H W, float, on the model's device; B = 1 is enough.

    Returns:
        GraphDef with nodes `input`, …, `output`, each with its `_output_shapes`.

    >>> [node.name for node in trace_graph(nn.Sequential(nn.ReLU()), torch.zeros(1, 3)).node]
    ['input', '0_ReLU/ReLU', 'output']
    """
    watch = _Watch(model, example)
    with ExitStack() as stack:
        stack.enter_context(still(model))
        stack.enter_context(hooked(model, watch.enter, watch.leave))
        stack.enter_context(_Recorder(watch))
        result = model(example)
    outputs = list(tensors(result))
    watch.add("output", op="output", inputs=outputs, outputs=outputs)
    return _graph_def(watch.nodes)


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    op: str
    inputs: list[str]
    shapes: list[torch.Size]
    settings: str


@dataclass(frozen=True, slots=True)
class _Call:
    """One running forward: the module, where it lives (`a.0`), where it is drawn (`a/0_Conv2d`), what it was given."""

    module: nn.Module
    path: str
    scope: str
    inputs: list[Tensor]


class _Watch:
    """What has been seen so far: the nodes, which node made which tensor, and which modules are running."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self.nodes: list[_Node] = []
        self._maker: dict[int, str] = {}
        self._kept: list[Tensor] = []  # an id stays one tensor's own only while the tensor lives
        self._calls: list[_Call] = []
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._labels = _labels(model)
        self._scopes = {"/".join(labels) for labels in self._labels.values()}
        self._taken_scopes: set[str] = set()
        self._taken: set[str] = set()
        self._stored = {id(t): (name, op, t) for name, op, t in _stored(model, self._labels)}
        self.add("input", op="input", inputs=[], outputs=[example])

    def add(self, name: str, *, op: str, inputs: list[Tensor], outputs: list[Tensor], settings: str = "") -> None:
        """Draw one node; from now on it is the maker of `outputs` (also of one that it changed in place)."""
        edges = [self._edge(tensor) for tensor in inputs]
        # A node called like a scope would be drawn inside that scope.
        name = _fresh(name, self._taken | self._scopes)
        self._taken.add(name)
        self.nodes.append(_Node(name, op, edges, [t.shape for t in outputs], settings))
        for slot, tensor in enumerate(outputs):
            self._maker[id(tensor)] = f"{name}:{slot}" if slot else name
        self._kept.extend(outputs)

    def call(self, name: str, *, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Draw a torch call made by the innermost running module."""
        running = self._calls[-1]
        op, settings = _as_module(name, running.module)
        self.add(_join(running.scope, op), op=op, inputs=inputs, outputs=outputs, settings=settings)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook: from here on, calls belong to `module`."""
        inputs = list(tensors((args, kwargs)))
        for tensor in inputs:  # one of unknown origin was made by the caller, so it is drawn there
            self._edge(tensor)
        path = self._paths[id(module)]
        self._calls.append(_Call(module, path, self._scope(path), inputs))

    def leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Forward hook: what came out unseen is drawn as one node from the module's inputs to its outputs."""
        running = self._calls[-1]
        unseen = [t for t in tensors(output) if id(t) not in self._maker and id(t) not in self._stored]
        if unseen:
            name = type(module).__name__
            self.add(_join(running.scope, name), op=name, inputs=running.inputs, outputs=unseen)
        self._calls.pop()

    def _edge(self, tensor: Tensor) -> str:
        """The node that made `tensor`; a stored or an unseen one gets its node here, at its first use."""
        if id(tensor) in self._maker:
            return self._maker[id(tensor)]
        if id(tensor) in self._stored:
            name, op, _ = self._stored[id(tensor)]
            self.add(name, op=op, inputs=[], outputs=[tensor])
        else:
            running = self._calls[-1] if self._calls else None
            scope, inputs = (running.scope, running.inputs) if running else ("", [])
            self.add(_join(scope, "unseen"), op="unseen", inputs=inputs, outputs=[tensor])
        return self._maker[id(tensor)]

    def _scope(self, path: str) -> str:
        """Where a module is drawn: inside its nearest running ancestor; called again, under a fresh name."""
        labels = self._labels[path]
        if not labels:
            return ""
        base, depth = "", 0
        for call in reversed(self._calls):
            if call.path and path.startswith(f"{call.path}."):
                base, depth = call.scope, len(self._labels[call.path])
                break
        scope = _fresh(_join(base, "/".join(labels[depth:])), self._taken_scopes | self._taken)
        self._taken_scopes.add(scope)
        self._scopes.add(scope)
        return scope


class _Recorder(TorchFunctionMode):
    """Shows every outermost torch call to the watch; torch switches the mode off inside it, so none is seen twice."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = list(tensors((args, kwargs)))
        result = func(*args, **(kwargs or {}))
        name = call_name(func)
        changed = inputs[:1] if name == "setitem" else []  # returns nothing, but the tensor is another one now
        outputs = list(tensors(result)) or changed
        if outputs:  # x.shape, x.dim() and the like make no tensor and are no part of the picture
            self._watch.call(name, inputs=inputs, outputs=outputs)
        return result


def _labels(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """How each module path is written in the picture: `features.0` -> ("features", "0_Conv2d")."""
    labels: dict[str, tuple[str, ...]] = {"": ()}
    for path, module in model.named_modules():
        if path:
            parent, _, name = path.rpartition(".")
            label = f"{name}_{type(module).__name__}" if name.isdigit() else name
            labels[path] = (*labels[parent], re.sub(r"[^\w.\-]", "_", label))
    return labels


def _stored(model: nn.Module, labels: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, str, Tensor]]:
    """Node name, op and tensor of all that the modules hold: parameters, buffers, plain tensor attributes."""
    for path, module in model.named_modules():
        for op, held in (("Parameter", module._parameters), ("Buffer", module._buffers), ("Constant", vars(module))):
            for name, tensor in held.items():
                if isinstance(tensor, Tensor):
                    yield _join("/".join(labels[path]), name), op, tensor


def _as_module(name: str, module: nn.Module) -> tuple[str, str]:
    """Op and settings of a call: torch's own leaf modules lend theirs, so conv2d reads as Conv2d(3, 32, …)."""
    cls, plain = type(module), name.replace("_", "").lower()
    own = cls.__module__.startswith("torch.nn.") and not module._modules
    # The bases count too: nn.ReLU6 is a Hardtanh and calls hardtanh.
    if own and any(base.__name__.lower().startswith(plain) for base in cls.__mro__):
        return cls.__name__, f"{cls.__name__}({module.extra_repr()})"
    return name, ""


def _join(scope: str, name: str) -> str:
    return f"{scope}/{name}" if scope else name


def _fresh(name: str, taken: set[str]) -> str:
    """`name`, or `name_1`, `name_2`, … when it is taken."""
    number, fresh = 0, name
    while fresh in taken:
        number += 1
        fresh = f"{name}_{number}"
    return fresh


def _graph_def(nodes: list[_Node]) -> GraphDef:
    graph_pb2 = import_module("tensorboard.compat.proto.graph_pb2")
    versions_pb2 = import_module("tensorboard.compat.proto.versions_pb2")
    # TensorBoard reads _output_shapes from producer 22 on, as TensorFlow writes it.
    return graph_pb2.GraphDef(node=[_node_def(node) for node in nodes], versions=versions_pb2.VersionDef(producer=22))


def _node_def(node: _Node) -> Any:
    node_def_pb2 = import_module("tensorboard.compat.proto.node_def_pb2")
    attr_value_pb2 = import_module("tensorboard.compat.proto.attr_value_pb2")
    proto = import_module("tensorboard.compat.proto.tensor_shape_pb2").TensorShapeProto
    shapes = [proto(dim=[proto.Dim(size=int(size)) for size in shape]) for shape in node.shapes]
    value = attr_value_pb2.AttrValue
    attr = {"_output_shapes": value(list=value.ListValue(shape=shapes))}
    if node.op in ("Parameter", "Buffer", "Constant"):
        attr["shape"] = value(shape=shapes[0])
    if node.settings:
        attr["settings"] = value(s=node.settings.encode())
    return node_def_pb2.NodeDef(name=node.name, op=node.op, input=node.inputs, attr=attr)
