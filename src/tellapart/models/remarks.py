"""What a person should know of a network before training it, from one pass through it."""

from collections.abc import Callable, Iterator
from math import prod

import torch
from torch import nn

from tellapart.errors import UsageError
from tellapart.models.look import Look
from tellapart.models.trace import Shape, Step, Trace, trace

LARGE = 7
"""Kernels beyond this are unusual without padding: the notes take 3 or 5."""


def examine(model: nn.Module, picture: Shape, *, classes: int, name: str) -> tuple[Trace, list[str]]:
    """Send blank pictures of that shape (B C H W) through any network, and remark on what it does.

    Raises UsageError where a layer refuses its input, with the numbers, and when the output is not (B, classes).
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    seen = trace(model, torch.zeros(picture, device=device), name=name)
    _fits(seen, classes, name)
    return seen, remarks(seen, name)


def remarks(seen: Trace, name: str) -> list[str]:
    """Layers without an activation between them, even and large kernels, a head that holds most parameters, softmax
    before cross entropy, parameters that take no part.
    """
    work = sum(step.multiply_adds for step in seen.steps)
    bare = Look(list(seen.calls), seen.output, work, 0).remarks(name)
    kernels = [*_listed(seen, "an even kernel", _is_even, EVEN), *_listed(seen, "a large kernel", _is_large, LOSES)]
    return [*bare, *kernels, *_top_heavy(seen, name), *_softmax(seen, name), *_idle(seen, name)]


EVEN = "it has no pixel in its middle, and no padding keeps the size; 3 or 5 are usual"
LOSES = "without padding it takes much off each side of the map; 3 or 5, or a padding of half the kernel, are usual"


def _listed(seen: Trace, what: str, test: Callable[[Step], bool], why: str) -> Iterator[str]:
    found = [step for step in seen.steps if not step.again and test(step)]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield f"{found[0].path or found[0].name}{more}: {what}, {_kernel(found[0])}; {why}"


def _kernel(step: Step) -> str:
    return " x ".join(map(str, step.window.kernel)) if step.window else ""


def _slides(step: Step) -> bool:
    """Whether a convolution's windows overlap: patches side by side are cut with even kernels on purpose."""
    if step.window is None or not (isinstance(step.module, nn.Conv2d) or step.name == "conv2d"):
        return False
    return any(stride < kernel for stride, kernel in zip(step.window.stride, step.window.kernel, strict=True))


def _is_even(step: Step) -> bool:
    return _slides(step) and step.window is not None and any(k % 2 == 0 for k in step.window.kernel)


def _is_large(step: Step) -> bool:
    window = step.window
    return _slides(step) and window is not None and max(window.kernel) > LARGE and max(window.padding) == 0


def _top_heavy(seen: Trace, name: str) -> Iterator[str]:
    """Most parameters in the linear layers at the end, where there is a way to fewer: a network without a body is not
    meant, nor one linear layer behind an average.
    """
    steps, every = seen.head(), seen.trained + seen.frozen
    head = sum(step.parameters for step in steps)
    if not every > head > every / 2:
        return
    fewer = "narrower layers before its last one would need fewer" if len(steps) > 1 else ""
    if _takes_whole_maps(seen, steps[0]):
        fewer = "an average over the map before it would need far fewer"
    if fewer:
        layers = ", ".join(step.path or step.name for step in steps)
        yield f"the head of {name} ({layers}) holds {head:,} of {every:,} parameters ({head / every:.0%}); {fewer}"


def _takes_whole_maps(seen: Trace, first: Step) -> bool:
    """Whether the first layer of the head is given every number of the last maps (B C H W), not an average of each."""
    before = seen.steps[: next(n for n, step in enumerate(seen.steps) if step is first)]
    maps = next((step.output for step in reversed(before) if len(step.output) == 4), ())
    return max(maps[2:], default=1) > 1 and first.inputs[0][-1] >= prod(maps[1:])


def _softmax(seen: Trace, name: str) -> Iterator[str]:
    last = seen.steps[-1].name.lower() if seen.steps else ""
    if last in ("softmax", "logsoftmax", "log_softmax"):
        where = seen.steps[-1].path or "its last call"
        yield (
            f"{name} ends in {last} ({where}), and cross entropy contains a softmax: two of them flatten the "
            "gradients; give the plain numbers of the last linear layer"
        )


def _idle(seen: Trace, name: str) -> Iterator[str]:
    if seen.unused:
        count = sum(p.numel() for p in seen.unused.values())
        yield f"{count:,} parameters of {name} take no part, first {next(iter(seen.unused))}"


def _fits(seen: Trace, classes: int, name: str) -> None:
    """Refuse an output that is not (B, classes), and name the step that changed the number of pictures."""
    batch = seen.picture[0]
    if seen.output == (batch, classes):
        return
    lost = (s for s in seen.steps if s.inputs and s.inputs[0][:1] == (batch,) and s.output[:1] != (batch,))
    step = next(lost, None) if seen.output[:1] != (batch,) else None
    why = f" The number of pictures changes in {step.path or 'its forward'}, at {step.name}:" if step else ""
    numbers = f" {step.inputs[0]} becomes {step.output}." if step else ""
    raise UsageError(
        f"{name} gives {seen.output} for {batch} pictures; expected ({batch}, {classes}).{why}{numbers}",
        "Its last layer has to give one row a picture with one number a class.",
    )
