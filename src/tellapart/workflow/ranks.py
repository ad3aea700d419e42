"""Ranks: one training by several processes. The first leads: it has the run, and tells; the others follow."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from tellapart.errors import (
    DivergedError,
    Interrupted,
    MismatchError,
    Terminated,
    UsageError,
    WorkerError,
)
from tellapart.recipe import Recipe
from tellapart.run import Run, now
from tellapart.training.checkpoint import Checkpoint, Position, packed, unpacked
from tellapart.training.fit import Asked, Step
from tellapart.training.lifeline import Lifeline
from tellapart.training.world import World, join
from tellapart.workflow.begin import with_own_files
from tellapart.workflow.events import Event
from tellapart.workflow.fitting import Pieces, lacks_memory, loop, memory_in_words, taken_up, validated
from tellapart.workflow.keeping import joint
from tellapart.workflow.prepare import Prepared
from tellapart.workflow.same import conditions
from tellapart.workflow.settle import Settled

SAME = ("torch", "code")
"""The conditions that must not differ between processes."""
DONE = "done"


def in_world(
    begin: Callable[[], Iterator[Event]], follow: Callable[[World], Iterator[Event]], asked: Asked
) -> Iterator[Event]:
    """The events of `begin` in the first process, or in the only one; the others `follow` it, and have none.

    Raises WorkerError when they do not find each other, UsageError for a second training of several processes, and the
    ending that `asked` returns while they wait for each other.
    """
    world = join(asked)
    lifeline = world.lifeline
    if lifeline is not None and lifeline.ended.is_set():
        raise UsageError(
            "This process has taken part in a training already.", "Start the next one with torchrun again."
        )
    if lifeline is None or lifeline.led:
        return begin()
    return _leading(lifeline, begin) if world.rank == 0 else _following(lifeline, world.watched(follow(world)))


def _leading(lifeline: Lifeline, begin: Callable[[], Iterator[Event]]) -> Iterator[Event]:
    lifeline.led = True
    try:
        yield from begin()
    except BaseException as error:
        lifeline.leave(error)
        raise
    lifeline.say(f"go/{lifeline.told}", DONE)
    lifeline.leave()


def _following(lifeline: Lifeline, events: Iterator[Event]) -> Iterator[Event]:
    try:
        yield from events
    except BaseException as error:
        if isinstance(error, Interrupted | Terminated | DivergedError):
            error.quiet = True  # the first process says it too, and knows the run
        elif isinstance(error, WorkerError) and not error.quiet:
            error.quiet = not ("Rank 0 " in error.message and lifeline.first())
            error.hint = lifeline.hint
        lifeline.leave(error)
        raise
    lifeline.leave()


def tell(run: Run, pieces: Pieces, start: Position, asked: Asked, *, taken: Checkpoint | None = None) -> None:
    """Let the other processes put the same pieces together, and take up the same checkpoint when one was taken; without
    one the weights are those of the seed.

    Raises WorkerError when one of them cannot, which says why itself.
    """
    world, lifeline = pieces.world, pieces.world.lifeline
    if lifeline is None:
        return
    number, lifeline.told = lifeline.told, lifeline.told + 1
    message = {
        "recipe": with_own_files(run, pieces.prepared.recipe).to_toml(),
        "made": _made_of(pieces),
        "first": pieces.first,
        "max_steps": pieces.plan.max_steps,
        "hint": f"`tellapart resume {run.called}` goes on from the last checkpoint.",
    }
    lifeline.note, lifeline.hint = partial(_noted, run), message["hint"]
    lifeline.say(f"go/{number}", json.dumps(message))
    for rank in range(1, world.size):
        lifeline.heard(f"ready/{number}/{rank}", asked)
    with world.naming():
        world.passed(packed(_as_taken(taken, pieces, start)))


def _made_of(pieces: Pieces) -> dict[str, str]:
    """What must be the same in all processes."""
    found = conditions(pieces.device, pieces.world)
    return {"pictures": pieces.prepared.content, "split": pieces.prepared.split} | {one: found[one] for one in SAME}


def _noted(run: Run, words: str) -> None:
    """Write down the last words of a training that waits for a process that will not come."""
    run.set_status(state="interrupted", error=words)
    run.append("log.txt", f"{now()} {words}")


def _as_taken(taken: Checkpoint | None, pieces: Pieces, start: Position) -> Checkpoint:
    """The checkpoint that training goes on from, with what changed when it was taken up."""
    if taken is None:
        return Checkpoint(position=start, model={})
    count = {"count": torch.tensor(pieces.average.count)} if taken.average else {}
    return replace(taken, position=start, average={**taken.average, **count})


def followed(
    world: World,
    number: int,
    asked: Asked,
    find: Callable[[Settled], Prepared],
    put: Callable[[Prepared], Pieces],
) -> bool:
    """Take part in the training of that number; False when there is none any more."""
    lifeline = world.lifeline
    text = DONE if lifeline is None else lifeline.heard(f"go/{number}", asked)
    if lifeline is None or text == DONE:
        return False
    message = json.loads(text)
    lifeline.hint = message["hint"]
    pieces = put(find(Settled(Recipe.from_toml(message["recipe"], where="the first process"), {})))
    pieces = replace(pieces, first=message["first"], plan=replace(pieces.plan, max_steps=message["max_steps"]))
    _refuse_other(message["made"], _made_of(pieces))
    lifeline.say(f"ready/{number}/{world.rank}", "")
    found = unpacked(world.passed())
    start = taken_up(pieces, found) if found.model else found.position
    world, agreed = pieces.world, world.agreeing(asked, lambda: False, lambda: False)
    plan = replace(pieces.plan, spent=agreed.other(0))
    judge = lambda model: validated(model, pieces, asked)  # noqa: E731
    keep = joint(world, lambda *_: None)
    ours = loop(replace(pieces, plan=plan), judge=judge, keep=keep, asked=agreed.asked, start=start)
    try:
        for record in ours:
            if world.sharded and isinstance(record, Step) and record.loss is not None:
                pieces.loss.penalty(pieces.model)  # its part of what the first process writes down
    except RuntimeError as error:
        if lacks_memory(error):
            raise memory_in_words(pieces) from error
        raise
    return True


def _refuse_other(there: dict[str, str], here: dict[str, str]) -> None:
    """Raises MismatchError for what this process has and the first has not."""
    other = [name for name in there if there[name] != here[name]]
    if other:
        what = ", ".join(f"{name} {here[name]} instead of {there[name]}" for name in other)
        raise MismatchError(
            f"This process has {what}.", "All need the same pictures, the same tellapart and the same torch."
        )
