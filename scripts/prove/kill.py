"""Prove that a training can be killed at any moment: kill -9, resume, and the same bits in the end.

    python scripts/prove/kill.py [--kills 200] [--cold 5] [--seed 0] [--json FILE] [--broken]

A fork server has torch loaded; each training is a child of it that is killed at a random moment: half of the kills by
the clock, half inside the phase that has the fewest. A killed training is resumed, and killed again, and resumed, until
it is let through; then weights, optimiser, average, scaler, position, best model, model file, predictions and records
must have the SHA-256 of a training that was never killed. Cold ones are whole processes of the command line. Exits 1
when a run is lost, when a sum differs, or when fewer kills than asked for landed in a phase. --broken leaves something
out when a run is resumed (its records are not cut): the proof must then fail.
"""

import argparse
import json
import mmap
import os
import platform
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from sums import sums  # pyright: ignore[reportMissingImports]

from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.workflow import final, fitting, keeping, prepare
from tellapart.workflow import resume as going_on
from tellapart.workflow.events import Begun
from tellapart.workflow.train import Asking, train

PHASES = ("start", "decode", "step", "save", "evaluate")
BASE = {
    "data.source": "digits",
    "data.limit": 160,
    "train.epochs": 3,
    "train.batch_size": 16,
    "train.log_every": 3,
    "machine.device": "cpu",
    "machine.threads": 1,
    "machine.cache": 0,
    "machine.save_seconds": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "mlp, sgd, mixup": {"model.name": "mlp:32,32", "augment.mixup": 0.2},
    "small (conv, batch norm), adamw, EMA": {"model.name": "small", "optim.name": "adamw", "train.ema": 0.9},
    "small, sgd, accumulation of 2, clipped": {"train.accumulate": 2, "train.batch_size": 8, "optim.clip": 1.0},
    "small, SWA, fp16 with a scaler, plateau": {
        "train.swa": 0.7,
        "machine.precision": "fp16",
        "optim.schedule": "plateau",
        "optim.plateau_after": 1,
    },
    "mobilenet_v3_small (dropout), rmsprop, early stop": {
        "model.name": "mobilenet_v3_small",
        "input.size": 32,
        "data.limit": 48,
        "train.patience": 2,
        "optim.name": "rmsprop",
        "optim.lr": 1e-4,
    },
}


class Board:
    """What a child writes on and its killer reads: the phase it is in, and how often and how long it was in each."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 4096)

    def enter(self, phase: str) -> None:
        """The child is in this phase now."""
        now, old = time.monotonic(), self.memory[0]
        since, spent = (
            struct.unpack_from("d", self.memory, 8)[0],
            struct.unpack_from("d", self.memory, 256 + 8 * old)[0],
        )
        struct.pack_into("d", self.memory, 256 + 8 * old, spent + now - since)
        struct.pack_into("d", self.memory, 8, now)
        k = PHASES.index(phase)
        self.memory[0] = k
        struct.pack_into("q", self.memory, 64 + 8 * k, self.entered(phase) + 1)

    def entered(self, phase: str) -> int:
        """How often the child went into a phase."""
        return struct.unpack_from("q", self.memory, 64 + 8 * PHASES.index(phase))[0]

    def seconds(self, phase: str) -> float:
        """How long it was in it."""
        return struct.unpack_from("d", self.memory, 256 + 8 * PHASES.index(phase))[0]

    @property
    def phase(self) -> str:
        """Where it is, or was when it was killed."""
        return PHASES[self.memory[0]]

    def clean(self) -> None:
        """Forget everything; a new child starts."""
        self.memory[:] = bytes(4096)
        struct.pack_into("d", self.memory, 8, time.monotonic())

    @contextmanager
    def within(self, phase: str) -> Iterator[None]:
        """The child is in this phase while this is open."""
        before = self.phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def told(self, work: Callable[..., Any], phase: str) -> Callable[..., Any]:
        """The same work, with its phase on the board."""

        def doing(*words: Any, **named: Any) -> Any:
            with self.within(phase):
                return work(*words, **named)

        return doing


def watched(board: Board) -> None:
    """Put phases around the work of tellapart, and let it save often: a quarter of the time instead of a fiftieth."""
    keeping.SHARE = 0.25
    keeping.Keeper._write = board.told(keeping.Keeper._write, "save")
    prepare.first_pass = board.told(prepare.first_pass, "decode")
    fitting.validated = board.told(fitting.validated, "evaluate")
    final.predict_part = board.told(final.predict_part, "evaluate")
    final.finish = board.told(final.finish, "evaluate")


def one_training(board: Board, runs: Path, name: str, recipe: Recipe) -> None:
    """Train, or go on with a run that has its recipe; in the child."""
    asking = Asking(runs=runs, name=name)
    begun = (runs / name / "recipe.toml").is_file()
    board.enter("start")
    for event in going_on.resume(Run.open(runs, name), asking) if begun else train(recipe, asking):
        if isinstance(event, Begun):
            board.enter("step")


def forked(board: Board, runs: Path, name: str, recipe: Recipe) -> int:
    """The process number of a child that trains."""
    board.clean()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        one_training(board, runs, name, recipe)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


@dataclass
class Family:
    """A recipe, the sums of a training of it that was never killed, and its times."""

    name: str
    recipe: Recipe
    sums: dict[str, str] = field(default_factory=dict)
    entered: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def whole(board: Board, runs: Path, family: Family) -> None:
    """Train without a kill and keep what came out."""
    child = forked(board, runs, "whole", family.recipe)
    _, code = os.waitpid(child, 0)
    if code:
        sys.exit(f"{family.name}: the training that is not killed failed")
    family.sums = sums(runs / "whole")
    family.entered = {phase: board.entered(phase) for phase in PHASES}
    family.seconds = {phase: board.seconds(phase) for phase in PHASES}


def wait_for_the_moment(board: Board, family: Family, chance: random.Random, child: int, aim: str) -> bool:
    """Wait until it is time to kill; false when the child has ended before."""
    if not aim:
        return not ended_within(child, chance.uniform(0, sum(family.seconds.values())))
    often = max(1, family.entered[aim])
    wanted = chance.randint(1, often)
    while board.entered(aim) < wanted:
        if ended_within(child, 0.0002):
            return False
    return not ended_within(child, chance.uniform(0, family.seconds[aim] / often))


def ended_within(child: int, seconds: float) -> bool:
    """Whether the child ends by itself in so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(min(0.001, max(0.0, end - time.monotonic())))
    return False


@dataclass
class Tally:
    """What came of the kills."""

    landed: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    chains: int = 0
    equal: int = 0
    anew: int = 0
    problems: list[str] = field(default_factory=list)


def chain(board: Board, at: Path, family: Family, chance: random.Random, tally: Tally, *, kills: int) -> None:
    """Kill one training so often, let it finish, and compare."""
    runs, name = at / f"chain-{tally.chains}", "run-0"
    for _ in range(kills):
        if finished(runs / name):  # killed after its verdict
            break
        child = forked(board, runs, name, family.recipe)
        aim = chance.choice(("", min(PHASES, key=lambda phase: tally.landed[phase])))
        killed = wait_for_the_moment(board, family, chance, child, aim)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not killed or not os.WIFSIGNALED(status):
            break
        tally.kills += 1
        tally.landed[board.phase] += 1
        if (runs / name).is_dir() and not (runs / name / "recipe.toml").is_file():
            tally.anew, name = tally.anew + 1, f"run-{tally.anew + 1}"
    finish(board, runs, name, family, tally)
    shutil.rmtree(runs, ignore_errors=True)


def finish(board: Board, runs: Path, name: str, family: Family, tally: Tally) -> None:
    """Let a run through and compare what it left."""
    tally.chains += 1
    if not finished(runs / name):
        _, status = os.waitpid(forked(board, runs, name, family.recipe), 0)
        if status:
            tally.problems.append(f"{family.name}: lost, a resumed run ended with {status}")
            return
    found = sums(runs / name)
    wrong = [key for key in family.sums if found.get(key) != family.sums[key]]
    if wrong or found.keys() != family.sums.keys():
        tally.problems.append(f"{family.name}: {', '.join(wrong) or 'other files'} differ")
    else:
        tally.equal += 1


def finished(folder: Path) -> bool:
    """Whether a run has its verdict."""
    status = folder / "status.json"
    return status.is_file() and json.loads(status.read_text())["state"] == "finished"


COLD = ("digits", "--limit", "400", "--epochs", "4", "--set", "machine.save_seconds=0", "--set", "machine.cache=0")


def command(runs: Path, *words: str) -> subprocess.Popen[bytes]:
    """A whole process of the command line."""
    line = [sys.executable, "-m", "tellapart", *words, "--runs", str(runs)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cold(at: Path, count: int, chance: random.Random, tally: Tally) -> None:
    """Kill whole processes by the clock, resume them, and compare."""
    began = time.monotonic()
    if command(at, "train", *COLD, "--run", "whole").wait():
        sys.exit("the command that is not killed failed")
    usual, expected = time.monotonic() - began, sums(at / "whole")
    for k in range(count):
        name, words = f"cold-{k}", ("train", *COLD, "--run", f"cold-{k}")
        for _ in range(2):
            process = command(at, *words)
            time.sleep(chance.uniform(0.2, usual))
            process.kill()
            process.wait()
            begun = (at / name / "recipe.toml").is_file()
            if not begun and (at / name).is_dir():
                name = f"{name}-again"
            words = ("resume", name) if begun else ("train", *COLD, "--run", name)
        if not finished(at / name) and command(at, *words).wait():
            tally.problems.append(f"cold {k}: lost")
        elif sums(at / name) != expected:
            tally.problems.append(f"cold {k}: sums differ")
        else:
            tally.equal += 1
        tally.chains += 1


def main() -> None:
    """Kill, compare, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cold", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=None, help="kills that must land in each phase")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--broken", action="store_true")
    asked = parser.parse_args()
    each = asked.kills // 15 if asked.each is None else asked.each
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    chance, board, tally, began = random.Random(asked.seed), Board(), Tally(), time.monotonic()
    watched(board)
    if asked.broken:
        going_on.cut = lambda run, at: None
    with tempfile.TemporaryDirectory() as folder:
        families = [Family(name, Recipe.from_values({**BASE, **own})) for name, own in FAMILIES.items()]
        for k, family in enumerate(families):
            whole(board, Path(folder) / str(k), family)
        while tally.kills < asked.kills and not tally.problems:
            family = families[tally.chains % len(families)]
            often = min(chance.randint(2, 8), asked.kills - tally.kills)
            chain(board, Path(folder), family, chance, tally, kills=often)
        warm = tally.chains
        cold(Path(folder) / "cold", asked.cold, chance, tally)
    few = [phase for phase in PHASES if tally.landed[phase] < each]
    landed = {phase: tally.landed[phase] for phase in PHASES}
    found = {
        "date": f"{datetime.now():%Y-%m-%d}",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seed": asked.seed,
        "kills": tally.kills,
        "landed": landed,
        "before the recipe was written": tally.anew,
        "runs": warm,
        "cold runs": asked.cold,
        "equal": tally.equal,
        "families": list(FAMILIES),
        "seconds": round(time.monotonic() - began, 1),
        "problems": tally.problems,
    }
    print(json.dumps(found, indent=1))
    if few:
        print(f"fewer than {each} kills landed in: {', '.join(few)}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if few or tally.problems or tally.equal != tally.chains else 0)


if __name__ == "__main__":
    main()
