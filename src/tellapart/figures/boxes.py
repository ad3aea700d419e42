"""The boxes of a network's drawing, from one watched pass: steps in the order of execution, with every shortcut."""

from collections import Counter
from collections.abc import Sequence

from tellapart.figures.diagram import MOST_BOXES, MOST_LANES, Box, lanes_of, shortcuts
from tellapart.models.table import is_quiet, size_of
from tellapart.models.trace import Step, Trace

SHORT = {
    **{"Conv2d": "conv", "conv2d": "conv", "ConvTranspose2d": "transposed conv", "Linear": "linear"},
    **{"BatchNorm2d": "BN", "BatchNorm1d": "BN", "LayerNorm": "LN", "LayerNorm2d": "LN", "relu": "ReLU"},
    **{"MaxPool2d": "max pool", "max_pool2d": "max pool", "AvgPool2d": "average pool", "avg_pool2d": "average pool"},
    **{"AdaptiveAvgPool2d": "average pool", "adaptive_avg_pool2d": "average pool", "amax": "maximum of the map"},
    **{
        "MultiheadAttention": "attention",
        "add": "+",
        "mul": "×",
        "cat": "concatenate",
        "Flatten": "flatten",
        "Dropout": "dropout",
    },
}

PRODUCTS = ("matmul", "bmm", "einsum", "scaled_dot_product_attention")
"""Calls that multiply matrices, where multiply-adds were not counted."""


def boxes_of(seen: Trace, *, most: int = MOST_BOXES) -> list[Box]:
    """A box for each step. Activations, norms and dropout stand in the box they follow.

    A network of more than `most` boxes, or of more than six shortcuts beside each other, is drawn with whole modules as
    boxes.
    """
    depths = range(max((step.path.count(".") for step in seen.steps), default=0) + 1, 0, -1)
    drafts = (_boxes(seen, depth) for depth in (99, *depths))
    found = (b for b in drafts if len(b) <= most and lanes_of(shortcuts(b))[1] <= MOST_LANES)
    return next(found, None) or _boxes(seen, 1)


def _boxes(seen: Trace, depth: int) -> list[Box]:
    """The steps in boxes: each with what follows it, or, where paths are longer than `depth`, by module."""
    groups: list[list[int]] = []
    heads = _visible_sources(seen)
    takers = Counter(source for sources in heads.values() for source in sources)
    for n, sources in heads.items():
        last = groups[-1] if groups else []
        if last and _together(seen, last, n, depth, sources, takers):
            last.append(n)
        else:
            groups.append([n])
    box_of = {n: number for number, group in enumerate(groups, 1) for n in group} | {-1: 0}
    boxes = [Box("picture", "", size_of(seen.picture[1:]), "", ())]
    for number, group in enumerate(groups, 1):
        given = {box_of[source] for n in group for source in heads[n]} - {number}
        boxes.append(_box(seen, group, depth, tuple(sorted(given))))
    return boxes


def _visible_sources(seen: Trace) -> dict[int, tuple[int, ...]]:
    """For each step that is drawn, the drawn steps (-1: the picture) whose results reach it."""
    through: dict[int, tuple[int, ...]] = {-1: (-1,)}
    drawn: dict[int, tuple[int, ...]] = {}
    for n, step in enumerate(seen.steps):
        sources = tuple(dict.fromkeys(one for source in step.sources for one in through[source]))
        hidden = is_quiet(step) or not step.sources
        through[n] = sources if hidden else (n,)
        if not hidden:
            drawn[n] = sources
    return drawn


def _module(step: Step, depth: int) -> str:
    """The module that stands for a step when only `depth` parts of a path are drawn, or ''."""
    parts = step.path.split(".")
    inside = len(parts) > depth or (step.module is None and len(parts) == depth and step.path)
    return ".".join(parts[:depth]) if inside else ""


def _together(
    seen: Trace, group: Sequence[int], n: int, depth: int, sources: tuple[int, ...], takers: Counter[int]
) -> bool:
    """Whether a step belongs into the box before it: of the same drawn module, or, where layers are drawn, because it
    only reworks, number by number, what that box gave to nobody else.
    """
    step, before = seen.steps[n], seen.steps[group[-1]]
    modules = {_module(step, depth), _module(seen.steps[group[0]], depth)}
    if modules != {""}:
        return len(modules) == 1
    heavy = step.multiply_adds or step.weight_layers or step.name in PRODUCTS
    light = not heavy and step.window is None and step.output == before.output
    return light and sources == (group[-1],) and takers[group[-1]] == 1 and _frame(step) == _frame(before)


def _frame(step: Step) -> str:
    """The module of the network that a step stands in; a layer directly in the network has none."""
    first, dot, _ = step.path.partition(".")
    return first if dot or (step.module is None and first) else ""


def _box(seen: Trace, group: Sequence[int], depth: int, sources: tuple[int, ...]) -> Box:
    first, last = seen.steps[group[0]], seen.steps[group[-1]]
    module = _module(first, depth)
    words = " · ".join(dict.fromkeys(_words(seen.steps[n]) for n in group))
    if module:
        layers = sum(seen.steps[n].weight_layers for n in group)
        words = f"{seen.kinds.get(module, module).lstrip('_')}, {layers} weight layer{'s' * (layers != 1)}"
    frame = _frame(first) if not module or "." in module else ""
    return Box(words, module or first.path, size_of(last.output[1:]), frame, sources)


def _words(step: Step) -> str:
    """A step as one writes it into a box: `conv 3x3, 64, /2`."""
    word, window = SHORT.get(step.name, step.name), step.window
    if word == "conv" and window:
        groups = getattr(step.module, "groups", 1)
        word = "depthwise" if groups > 1 and groups == step.inputs[0][1] else word
        parts = f"{word} {size_of(window.kernel)}, {step.output[1]}"
        return parts + (f", {groups} groups" if 1 < groups < step.inputs[0][1] else "") + _stride(window.stride)
    if window and "Adaptive" not in step.name and "adaptive" not in step.name:
        return f"{word} {size_of(window.kernel)}{_stride(window.stride)}"
    return f"linear {step.output[-1]}" if word == "linear" else word


def _stride(stride: tuple[int, int]) -> str:
    return "" if stride == (1, 1) else f", /{stride[0]}" if stride[0] == stride[1] else f", /{size_of(stride)}"
