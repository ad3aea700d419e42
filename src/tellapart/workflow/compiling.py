"""Compiling: whether a training gains by torch.compile, measured with its own steps before it begins."""

from collections.abc import Generator
from dataclasses import replace

from tellapart.errors import UsageError
from tellapart.workflow.events import Event, Said
from tellapart.workflow.fitting import Pieces
from tellapart.workflow.pace import Put, measured, within_budget
from tellapart.workflow.prepare import Prepared
from tellapart.workflow.settle import settle_compile

LEAST = 300.0
"""Seconds of a training below which compiling is not tried: that alone takes about a minute on two cores."""


def at_its_pace(pieces: Pieces, put: Put, *, began: float) -> Generator[Event, None, Pieces]:
    """The pieces with their network compiled where that pays, and with as many steps as their budget has room for."""
    if pieces.plan.compiled:
        pace = measured(pieces)
        yield Said(text=f"compiled in {pace.first:.0f} s: a step takes {pace.words()}")
        pieces = put(pieces.prepared)
    elif pieces.prepared.recipe.machine.compile is None:
        pays, why = _pays(pieces, put)
        yield Said(text=f"{'' if pays else 'not '}compiled: {why}")
        pieces = put(_settled(pieces.prepared, pays, why))
    return (yield from within_budget(pieces, put, began=began))


def _pays(pieces: Pieces, put: Put) -> tuple[bool, str]:
    """Whether compiling saves more than it takes, and why. The pieces are of no use for training afterwards."""
    steps, plain = pieces.plan.max_steps, measured(pieces)
    if (whole := plain.seconds(pieces, steps=steps)) < LEAST:
        return False, f"the training takes about {max(1, round(whole))} s without it, too little to gain anything"
    try:
        fast = measured(put(_settled(pieces.prepared, True, "")))
    except UsageError as error:
        return False, error.message
    why = f"a step takes {fast.words()} compiled and {plain.words()} plain; compiling took {fast.first:.0f} s"
    return steps * (plain.step - fast.step) > fast.first, why


def _settled(prepared: Prepared, pays: bool, why: str) -> Prepared:
    return replace(prepared, settled=settle_compile(prepared.settled, pays, why))
