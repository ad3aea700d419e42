"""Inspecting: two steps of a training looked at layer by layer, without a run folder and without threads of its own."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

from torch import Tensor, nn

from tellapart.recipe import Recipe, printable
from tellapart.training.checkpoint import Position
from tellapart.training.fit import Step
from tellapart.workflow import devices
from tellapart.workflow.assemble import put_together
from tellapart.workflow.events import line_of
from tellapart.workflow.fitting import loop
from tellapart.workflow.prepare import prepare
from tellapart.workflow.settle import Settled, refuse_impossible
from tellapart.workflow.train import Asking, stoppable


def inspected(recipe: Recipe, asking: Asking) -> Iterator[str]:
    """Two steps in words: of each the loss, the rate and the gradient's norm, and for each layer the shape it gives out
    and the norm of its own gradients. Nothing is written; raises what a training would.
    """
    one = {"machine.workers": 0, "train.log_every": 1}
    settled = Settled(recipe.replaced(one), asking.origins)
    refuse_impossible(settled)
    prepared = prepare(settled, progress=stoppable(asking), fetching=asking.fetching)
    pieces = put_together(prepared, devices.choose(recipe.machine.device))
    pieces = replace(pieces, plan=replace(pieces.plan, clip=0.0))
    yield printable(f"{recipe.data.source}, {recipe.model.name}, batches of {pieces.train.batch_size}")
    unjudged = {"judge": lambda model: (math.inf, 0.0, 1), "keep": lambda kind, make: None}
    with shapes(pieces.model) as out:
        records = loop(pieces, **unjudged, asked=asking.asked, start=Position())
        for step in islice((record for record in records if isinstance(record, Step)), 2):
            yield line_of(step) or ""
            yield from layers(pieces.model, out)


@contextmanager
def shapes(model: nn.Module) -> Iterator[dict[str, tuple[int, ...]]]:
    """While open, the shape that each layer gave out last, by its name and in the order of their turn."""
    found: dict[str, tuple[int, ...]] = {}

    def hook(name: str) -> Any:
        def note(module: nn.Module, given: Any, output: Any) -> None:
            first = output if isinstance(output, Tensor) else output[0]
            found[name] = tuple(first.shape)

        return note

    leaves = [(name, m) for name, m in model.named_modules() if not list(m.children()) or list(m.parameters(False))]
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def layers(model: nn.Module, out: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """A line for each layer: its name and kind, the shape it gave out, its weights and the norm of their gradient."""
    width = max(len("(itself)"), *map(len, out))
    yield f"  {'layer':<{width}}  {'kind':<20}  {'gives out':<22}  {'weights':>11}  gradient"
    for name, shape in out.items():
        module = model.get_submodule(name)
        called, own = name or "(itself)", list(module.parameters(recurse=False))
        grads = [p.grad.float().norm() for p in own if p.grad is not None]
        norm = f"{math.hypot(*(g.item() for g in grads)):.3g}" if grads else "–"
        size = " x ".join(map(str, shape))
        count = sum(p.numel() for p in own)
        yield f"  {called:<{width}}  {type(module).__name__:<20}  {size:<22}  {count:>11,}  {norm}"
