"""Sweeps over every moment of a save: death, an error of the disk, a power cut; and ways of saving that are bad."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from disk import Dead, Disk, after, copied, platter, survived

from tellapart.errors import StorageError
from tellapart.files import write_flushed
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.training import checkpoint as saving
from tellapart.training.checkpoint import Checkpoint, Position, is_whole, load_checkpoint, newest_first
from tellapart.workflow.keeping import Keeper
from tellapart.workflow.resume import newest


def at(step: int) -> Checkpoint:
    """The checkpoint of a step whose tensors all hold its number; each 20th step is the best so far."""
    best = step // 20 * 20
    position = Position(epoch=step // 10, step=step, best_step=best or -1, best_epoch=1, best_accuracy=best / 100)
    numbers = {"w": torch.full((50,), float(step)), "b": torch.full((3,), float(step))}
    return Checkpoint(position=position, model=numbers, optimiser=dict(numbers))


def keeper_of(folder: Path, step: int) -> Keeper:
    """What would save the step after this one."""
    start = at(step).position if step else Position()
    best = at(start.best_step) if start.best_step > 0 else None
    return Keeper(Run(folder), Recipe(), start=start, best=best, wanted=lambda: False)


def save(folder: Path, step: int) -> None:
    """Save a step, ten after the one before, as the loop does."""
    keeper = keeper_of(folder, step - 10)
    if step % 20 == 0:
        keeper.keep("best", lambda: at(step))
    keeper.keep("last", lambda: at(step))


def run_before(runs: Path) -> Path:
    """A run that has saved the steps 10 to 30."""
    run = Run.create(runs, "run")
    (run.folder / "metrics.jsonl").write_text('{"kind": "step", "step": 10}\n')
    for step in (10, 20, 30):
        save(run.folder, step)
    return run.folder


def problem(folder: Path, *, oldest: int, newest_: int = 40, whole: int = 2) -> str:
    """What is wrong with what the product's own loader finds, or ''."""
    last, best, _ = newest(folder / "checkpoints")
    if last is None:
        return "nothing is left"
    step = last.position.step
    if not oldest <= step <= newest_:
        return f"step {step} is found"
    if not all(bool((t == step).all()) for t in [*last.model.values(), *last.optimiser.values()]):
        return "a mixture is found"
    if best is None or best.position.step != last.position.best_step or float(best.model["w"][0]) != best.position.step:
        return "another best is found"
    left = sum(is_whole(one) for one in newest_first(folder / "checkpoints"))
    return "" if left >= whole else f"{left} whole ones are left"


def goes_on(folder: Path) -> str:
    """Whether the next save works after a restart, and nothing half written stays."""
    last = newest(folder / "checkpoints")[0]
    assert last is not None
    with Run(folder).alone():
        keeper_of(folder, last.position.step).keep("last", lambda: at(last.position.step + 10))
    names = {one.name for one in folder.rglob("*") if one.name.endswith(".tmp") or one.name[:5] in (".tmp-", ".tras")}
    status, found = Run(folder).status(), newest_first(folder / "checkpoints")[0]
    if names or status["checkpoints"]["last"] != found.name or load_checkpoint(found).position.step != status["step"]:
        return f"the next save left {names or status}"
    return ""


def sweep(before: Path, fault: Callable[[], BaseException]) -> tuple[list[str], list[str], list[str]]:
    """Save step 40 with a fault at every call in turn: the calls, what was said, and what was wrong."""
    folder = copied(before, before.with_name("try"))
    with Disk().in_place() as counting:
        save(folder, 40)
    said, wrong = [], []
    for k, call in enumerate(counting.calls):
        folder = copied(before, before.with_name("try"))
        with Disk(at=k, fault=fault()).in_place() as disk:
            try:
                save(folder, 40)
            except Dead:
                said.append("dead")
            except StorageError as error:
                said.append(error.message)
            else:
                said.append("")
        assert disk.failed
        found = problem(folder, oldest=40 if said[-1] == "" else 30) or goes_on(folder)
        wrong += [f"{k} {call[:2]}: {found}"] if found else []
    return [call[0] for call in counting.calls], said, wrong


def in_place(folder: Path, one: Checkpoint, name: str = "") -> Path:
    """A bad way: the newest checkpoint is made the new one where it stands."""
    old = newest_first(folder)[0] if not name.startswith("best") else next(folder.glob("best-*"))
    target = old.rename(folder / (name or one.position.name)) if old.name != name else old
    for file, raw in saving._files_of(one).items():
        (target / file).unlink(missing_ok=True)
        write_flushed(target / file, raw)
    return target


def first_removed(folder: Path, one: Checkpoint, name: str = "") -> Path:
    """A bad way: room is made before the new one is there."""
    saving.keep_only(folder, {name})
    return saving.save_checkpoint(folder, one, name)


def unflushed(path: Path, raw: bytes) -> None:
    """A bad way: bytes that are left to the system."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(handle, raw)
    os.close(handle)


def recorded(before: Path, steps: tuple[int, ...]) -> list[list[tuple[object, ...]]]:
    """The calls of several saves in a row. Throwing away has no part in it: what is thrown away is not looked at."""
    found = []
    for step in steps:
        with patch.object(shutil, "rmtree"), Disk().in_place() as disk:
            save(before, step)
        found.append(disk.calls)
    return found


def cut_anywhere(before: Path, *, states: int) -> tuple[int, list[str]]:
    """Cut the power after every call of two saves: how many states were looked at, and what was wrong."""
    chance, where = random.Random(0), before / "checkpoints"
    root, looked, wrong = platter(where), 0, []
    for step, calls in zip((40, 50), recorded(before, (40, 50)), strict=True):
        for k, call in enumerate(calls):
            after(root, where, call)
            for n in range(states if call[0] != "close" else 0):
                to = before.with_name(f"cut-{step}-{k}-{n}")
                to.mkdir()
                survived(root, to / "checkpoints", chance, (0.0, 1.0, 0.5)[min(n, 2)])
                looked += 1
                found = problem(to, oldest=step - 10 if k < len(calls) - 1 else step, newest_=step, whole=1)
                wrong += [f"{step} {k} {call[:2]}: {found}"] if found else []
                shutil.rmtree(to)
    return looked, wrong
