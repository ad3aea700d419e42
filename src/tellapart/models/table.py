"""The steps of a network as rows of a table: sizes with their arithmetic, weights, work, memory and receptive field."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import ceil, prod
from typing import Any

from torch import nn

from tellapart.models.receptive import VIEWS, Window
from tellapart.models.trace import Shape, Step, Trace

QUIET = VIEWS | {
    *("contiguous", "detach", "clone", "to", "chunk", "split", "getitem", "expand", "permute", "transpose", "T"),
}
"""Calls between layers that compute nothing; a flatten is shown all the same."""
USUAL = {
    *("bias=True", "eps=1e-05", "momentum=0.1", "affine=True", "track_running_stats=True", "padding=0", "dilation=1"),
    *("ceil_mode=False", "inplace=False", "elementwise_affine=True", "approximate='none'", "groups=1"),
    *("start_dim=1", "end_dim=-1"),
}
"""Arguments that a table leaves out because they are what torch takes anyway."""


@dataclass(frozen=True)
class Row:
    """One line of the table; `formula` is empty where no window slides and nothing is flattened."""

    step: Step
    layer: str
    formula: str

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words. `jump`: pixels of the picture between neighbours; null where nothing is known."""
        step, field = self.step, self.step.field
        apart = [span.jump for span in field.spans] if field and field.axes else None
        return {
            "path": step.path,
            "layer": self.layer,
            "inputs": [list(shape) for shape in step.inputs],
            "output": list(step.output),
            "formula": self.formula,
            "parameters": step.parameters,
            "trained": step.trained,
            "frozen": step.frozen,
            "multiply_adds": step.multiply_adds,
            "bytes": step.size,
            "receptive_field": list(field.size) if field else None,
            "jump": apart,
            "again": step.again,
        }


def rows(seen: Trace) -> list[Row]:
    """The layers in the order of execution, with the calls between them that compute something."""
    return [Row(step, layer_of(step), _formula(step)) for step in seen.steps if not is_quiet(step)]


def is_quiet(step: Step) -> bool:
    """Whether a step only looks at numbers in another way."""
    return step.module is None and step.name in QUIET and not step.parameters and not _is_flatten(step)


def _is_flatten(step: Step) -> bool:
    return step.name.lower() in VIEWS and len(step.output) == 2 and any(len(shape) > 2 for shape in step.inputs[:1])


def layer_of(step: Step) -> str:
    """The kind of a step with its arguments, without those that torch takes anyway.

    >>> layer_of(Step(path="0", name="Conv2d", module=nn.Conv2d(3, 8, 3), sources=(), inputs=(), output=()))
    'Conv2d(3, 8, kernel_size=3)'
    """
    if step.module is None:
        return step.name
    words = re.sub(r"\((\d+), \1\)", r"\1", step.module.extra_repr() if not step.module._modules else "")
    usual = USUAL if "Pool" in step.name else {*USUAL, "stride=1"}
    kept = [word for word in re.split(r", (?![^(]*\))", words) if word and word not in usual]
    return f"{step.name}({', '.join(kept)})" if kept else step.name


def _formula(step: Step) -> str:
    if step.window and len(step.output) == 4 and step.inputs and len(step.inputs[0]) == 4:
        sides = [_side(step.window, n, step.inputs[0][2 + n], step.output[2 + n]) for n in (0, 1)]
        return sides[0] if sides[0] == sides[1] else "; ".join(sides)
    if _is_flatten(step):
        return f"{' x '.join(map(str, step.inputs[0][1:]))} = {prod(step.inputs[0][1:])}"
    return ""


def _side(window: Window, n: int, size: int, out: int) -> str:
    """floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1, with these numbers in it."""
    kernel, stride, padding, dilation = window.kernel[n], window.stride[n], window.padding[n], window.dilation[n]
    span = f"{kernel}" if dilation == 1 else f"{dilation} x ({kernel} - 1) - 1"
    reach = size + 2 * padding - dilation * (kernel - 1) - 1
    whole = (ceil(reach / stride) if window.ceil_mode else reach // stride) + 1
    if whole < out:  # padding="same" with an even span pads one more pixel behind than before
        return f"the same, {out}"
    less = "" if whole == out else " - 1"  # the last window would begin in the padding
    rounding = "ceil" if window.ceil_mode else "floor"
    return f"{rounding}(({size} + 2 x {padding} - {span}) / {stride}) + 1{less} = {out}"


def totals(seen: Trace) -> dict[str, Any]:
    """The sums over all steps; parameters once, however often their layer runs. `uncounted`: recurrent layers, whose
    multiply-adds torch does not count.
    """
    head = sum(step.parameters for step in seen.head())
    return {
        "parameters": seen.trained + seen.frozen,
        "trained": seen.trained,
        "frozen": seen.frozen,
        "unused": sum(p.numel() for p in seen.unused.values()),
        "weight_layers": sum(step.weight_layers for step in seen.steps),
        "multiply_adds": sum(step.multiply_adds for step in seen.steps),
        "uncounted": [step.path for step in seen.steps if isinstance(step.module, nn.RNNBase)],
        "bytes": sum(step.size for step in seen.steps),
        "head": {"parameters": head, "layers": [step.path for step in seen.head()]},
        "body": {"parameters": seen.trained + seen.frozen - head},
    }


def channels(seen: Trace) -> list[int]:
    """The channels that convolutions give, in order, without repeats next to each other."""
    convolved = (step for step in seen.steps if step.name.lower().startswith("conv") and step.weight_layers)
    return [count for count, _ in groupby(step.output[1] for step in convolved)]


def tree(model: nn.Module) -> Iterator[str]:
    """Every module by its path, with its class and arguments, deeper ones further in."""
    for path, module in model.named_modules(remove_duplicate=False):
        if path:
            yield f"{'  ' * path.count('.')}{path}: {type(module).__name__}({module.extra_repr()})"


def size_of(shape: Shape) -> str:
    """A shape in words.

    >>> size_of((64, 6, 30, 30))
    '64x6x30x30'
    """
    return "x".join(map(str, shape))
