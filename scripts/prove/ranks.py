"""Prove that several processes train as one: the same inputs, the same figures, and an end whatever happens to one.

    python scripts/prove/ranks.py [--faults 24] [--seed 0] [--json FILE]

Processes of one machine, joined by gloo as torchrun would join them, forked from a server that has torch loaded.
Printed: whether the pictures that enter the network are the same, to the last bit and in the same order, for workers
{0, 1, 2} x processes {1, 2, 3}; whether the logits of a part are, for a number of pictures that the processes do not
divide; how far the weights are from those of one process; and, for faults of every kind in a random process at a random
moment, whether all ended in time, who was named, and whether the resumed run has the SHA-256 of one that met no fault.
Exits 1 when any of this is not so.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # what DistributedDataParallel loads at first use: once here, not in every process
import torch.distributed.fsdp  # and this, what sharded weights need
import torch.distributed.tensor
from torch._C._distributed_c10d import TCPStore  # pyright: ignore[reportPrivateImportUsage]

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from sums import sums  # pyright: ignore[reportMissingImports]

from tellapart.cli import main as command_line
from tellapart.data.loader import Batch
from tellapart.errors import DataError
from tellapart.evaluation.predict import logits_of_rows
from tellapart.models.bundle import load_bundle
from tellapart.recipe import Recipe
from tellapart.training.world import join
from tellapart.workflow import assemble
from tellapart.workflow.prepare import prepare
from tellapart.workflow.settle import Settled

SILENCE, DEADLINE = 3, 30.0
"""Seconds without a sign of life after which a process counts as stopped; and until which all must have ended."""
BASE = ["--set=data.limit=160", "--no-test", "--set=train.batch_size=16"]
BASE += ["--set=machine.device=cpu", "--set=machine.threads=1", "--set=machine.cache=0"]
FAULTS = ("kill", "stop", "term", "int", "unreadable picture", "full disk")
CODES = {"kill": 8, "stop": 8, "term": 143, "int": 130, "unreadable picture": 3, "full disk": 4}
"""What the first process must end with, unless it was the victim."""


class Worlds:
    """Starts as many processes as asked for, each of which does some work and leaves its words in a file."""

    def __init__(self, at: Path) -> None:
        self.at, self.attempt, self.keeper, self.port = at, 0, 0, ""

    def start(self, size: int, work: Callable[[], object]) -> list[int]:
        """The process numbers of `size` processes at work."""
        self.attempt += 1
        self.close()
        self._open_store()
        return [self._forked(rank, size, work) for rank in range(size)]

    def _open_store(self) -> None:
        """A process of its own has the store: this one must have no threads, for it forks."""
        reading, writing = os.pipe()
        self.keeper = os.fork()
        if not self.keeper:
            store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
            os.write(writing, str(store.port).encode())
            while os.getppid() != 1:
                time.sleep(0.5)
            os._exit(0)
        self.port = os.read(reading, 20).decode()
        os.close(reading)
        os.close(writing)

    def close(self) -> None:
        """End the process that has the store."""
        if self.keeper:
            os.kill(self.keeper, signal.SIGKILL)
            os.waitpid(self.keeper, 0)
        self.keeper = 0

    def words(self, rank: int) -> str:
        """What the last process of that rank wrote."""
        return (self.at / f"{self.attempt}-{rank}.txt").read_text()

    def _forked(self, rank: int, size: int, work: Callable[[], object]) -> int:
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            os.environ |= {"LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": self.port}
            os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}
            file = os.open(self.at / f"{self.attempt}-{rank}.txt", os.O_WRONLY | os.O_CREAT)
            os.dup2(file, 1)
            os.dup2(file, 2)
            work()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0
        finally:
            os._exit(code)

    def codes(self, children: list[int], *, within: float = 180, but: int = -1) -> list[int | None]:
        """The exit code of each process that ends in time; those that do not, and a stopped one, are killed: None."""
        found: list[int | None] = [None] * len(children)
        left, until = set(range(len(children))) - {but}, time.monotonic() + within
        while left and time.monotonic() < until:
            for rank in list(left):
                ended, status = os.waitpid(children[rank], os.WNOHANG)
                if ended:
                    found[rank] = os.waitstatus_to_exitcode(status)
                    left.remove(rank)
            time.sleep(0.02)
        for rank in left | ({but} - {-1}):
            os.kill(children[rank], signal.SIGKILL)
            os.waitpid(children[rank], 0)
        return found

    def run(self, size: int, work: Callable[[], object]) -> None:
        """Let the processes do their work. Raises RuntimeError when one of them does not end well."""
        codes = self.codes(self.start(size, work))
        if any(codes):
            raise RuntimeError(f"{codes}: " + "\n".join(self.words(rank) for rank in range(size)))


def observed(file: str) -> None:
    """Let this process write down which pictures it trains on, with the SHA-256 of what augmentation made of them."""
    plan_of = assemble._plan

    def plan(*words: Any, **named: Any) -> Any:
        made = plan_of(*words, **named)

        def seen(batch: Batch) -> Batch:
            batch = made.augment(batch)
            lent = batch.share is not None and batch.share.lent
            sums_ = [hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in batch.images]
            own = [] if lent else list(zip(batch.rows.tolist(), sums_, batch.labels.tolist(), strict=True))
            with Path(f"{file}-{os.environ['RANK']}.jsonl").open("a") as lines:
                lines.write(json.dumps([batch.epoch, own]) + "\n")
            return batch

        return assemble.replace(made, augment=seen)

    assemble._plan = plan


def together(file: str, size: int) -> list[Any]:
    """What all processes saw, step by step, in the order of the batches."""
    steps = [[json.loads(line) for line in Path(f"{file}-{r}.jsonl").read_text().splitlines()] for r in range(size)]
    return [[of[0][0], [one for part in of for one in part[1]]] for of in zip(*steps, strict=True)]


def train_words(at: Path, name: str, *more: str) -> list[str]:
    """The words of a command that trains."""
    return ["train", "digits", *BASE, "--runs", str(at / "runs"), "--run", name, *more]


def inputs(worlds: Worlds, at: Path, *, counts: tuple[int, ...] = (0, 1, 2)) -> dict[str, bool]:
    """Whether what enters the network is the same for any number of workers and processes."""
    found, firsts = {}, {}
    for kind, more in {
        "moved": ["--augment", "medium"],
        "mixed, in parts": ["--set=augment.mixup=0.2", "--set=train.accumulate=2", "--set=train.batch_size=8"],
    }.items():
        for workers in counts:
            for size in (1, 2, 3):
                file = str(at / f"{kind}-{workers}-{size}")

                def work(file: str = file, workers: int = workers, more: list[str] = more) -> None:
                    observed(file)
                    own = [f"--set=machine.workers={workers}", "--set=train.epochs=2", "--set=train.drop_last=false"]
                    command_line(train_words(at, Path(file).name.replace(", ", "-").replace(" ", "-"), *own, *more))

                worlds.run(size, work)
                seen = together(file, size)
                found[f"{kind}: workers {workers}, processes {size}"] = seen == firsts.setdefault(kind, seen)
    return found


def figures(worlds: Worlds, at: Path) -> dict[str, bool]:
    """Whether the logits of 269 pictures are the same to the last bit, judged in parts by 1, 2, 3 and 5 processes."""

    def work() -> None:
        world = join()
        recipe = Recipe.from_values({"data.source": "digits", "machine.device": "cpu", "machine.cache": 0})
        pieces = assemble.put_together(prepare(Settled(recipe, {})), torch.device("cpu"))
        rows = pieces.prepared.pictures.index.rows("validation")
        spans = [slice(start, min(start + 32, len(rows))) for start in range(0, len(rows), 32)]
        of = lambda span: logits_of_rows(pieces.model, pieces.train.pictures, rows[span], device=pieces.device)  # noqa: E731
        logits = world.rows(of, spans, columns=10)
        np.save(at / f"logits-{world.size}-{world.rank}.npy", logits)
        if world.lifeline is not None:
            world.lifeline.leave()

    for size in (1, 2, 3, 5):
        worlds.run(size, work)
    one = np.load(at / "logits-1-0.npy").tobytes()
    files = {size: [at / f"logits-{size}-{rank}.npy" for rank in range(size)] for size in (2, 3, 5)}
    return {f"{n} processes": all(np.load(file).tobytes() == one for file in of) for n, of in files.items()}


def weights(worlds: Worlds, at: Path) -> dict[str, float]:
    """The largest difference of any weight after three epochs from those of one process, over the largest weight."""
    found = {}
    cases = {
        "mlp": ["--model", "mlp:32"],
        "mlp, balanced classes, in parts": [
            "--model=mlp:32",
            "--set=loss.weights=balanced",
            "--set=train.accumulate=2",
            "--set=train.batch_size=8",
        ],
        "small, normalised over all": ["--model", "small", "--set=machine.sync_norm=true"],
        "mlp, in parts, sharded": [
            "--model=mlp:32",
            "--set=train.accumulate=2",
            "--set=train.batch_size=8",
            "--parallel=fsdp",
        ],
        "small, normalised over all, clipped, sharded": [
            "--model=small",
            "--set=machine.sync_norm=true",
            "--set=optim.clip=0.5",
            "--parallel=fsdp",
        ],
    }
    for number, (name, more) in enumerate(cases.items()):
        states = []
        for size in (1, 2, 3):
            run = f"weights-{number}-{size}"
            worlds.run(size, lambda run=run, more=more: command_line(train_words(at, run, "--epochs=3", *more)))
            states.append(load_bundle(at / "runs" / run / "model.safetensors").state)
        largest = max(float(t.abs().max()) for t in states[0].values() if t.is_floating_point())
        for size, state in zip((2, 3), states[1:], strict=True):
            apart = max(float((state[k] - t).abs().max()) for k, t in states[0].items() if t.is_floating_point())
            found[f"{name}: {size} processes"] = apart / largest
    return found


def break_at(fault: str, victim: int, step: int) -> None:
    """Let something go wrong in this process, if it is the victim, at a step."""
    if os.environ["RANK"] != str(victim):
        return
    taken = [0]
    plan_of = assemble._plan

    def plan(*words: Any, **named: Any) -> Any:
        made = plan_of(*words, **named)

        def moved(batch: Batch) -> Batch:
            taken[0] += 1
            if taken[0] == step:
                happen(fault)
            return made.augment(batch)

        return assemble.replace(made, augment=moved)

    assemble._plan = plan


def happen(fault: str) -> None:
    """The fault itself."""
    signals = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM, "int": signal.SIGINT}
    if fault in signals:
        os.kill(os.getpid(), signals[fault])
    elif fault == "unreadable picture":
        raise DataError("picture-7.png is not a picture any more.")
    else:
        full()


def full() -> None:
    """From now on no checkpoint can be written."""
    from tellapart.training import checkpoint

    def write(*words: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    checkpoint.write_flushed = write


def fault(worlds: Worlds, at: Path, number: int, kind: str, chance: random.Random, expected: dict[str, str]) -> dict:
    """One fault, what was said of it, and the run resumed."""
    size = 2
    victim = 0 if kind == "full disk" else chance.randrange(size)
    step, name = chance.randint(1, 27), f"fault-{number}"
    words = train_words(at, name, "--epochs=4", "--set=machine.save_seconds=0.05")

    def work() -> None:
        break_at(kind, victim, step)
        command_line(words)

    began = time.monotonic()
    children = worlds.start(size, work)
    codes = worlds.codes(children, within=60, but=victim if kind == "stop" else -1)
    seconds, said = time.monotonic() - began, "".join(worlds.words(rank) for rank in range(size))
    others = [code for rank, code in enumerate(codes) if rank != victim]
    words_of = {"kill": f"Rank {victim} (", "stop": f"Rank {victim} (", "unreadable picture": "picture-7.png"}
    named = words_of.get(kind, "error: ") in said
    ended = None not in others and all(code in (CODES[kind], 8) for code in others)
    resumed = ["resume", name, "--runs", str(at / "runs"), "--no-test"]
    if not (at / "runs" / name / "recipe.toml").is_file():
        resumed = words
    worlds.run(size, lambda: command_line(resumed))
    equal = sums(at / "runs" / name) == expected
    return {
        "fault": kind,
        "victim": victim,
        "step": step,
        "codes": codes,
        "seconds": round(seconds, 1),
        "named": named,
        "ended": ended and seconds < DEADLINE + 20,
        "equal": equal,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer combinations")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    os.environ["TELLAPART_SILENCE"] = str(SILENCE)
    with tempfile.TemporaryDirectory() as folder:
        at, chance = Path(folder), random.Random(asked.seed)
        worlds = Worlds(at)
        try:
            same = inputs(worlds, at, counts=(1,) if asked.quick else (0, 1, 2))
            judged, apart = figures(worlds, at), weights(worlds, at)
            words = train_words(at, "whole", "--epochs=4", "--set=machine.save_seconds=0.05")
            worlds.run(2, lambda: command_line(words))
            expected = sums(at / "runs" / "whole")
            met = [fault(worlds, at, n, FAULTS[n % len(FAULTS)], chance, expected) for n in range(asked.faults)]
        finally:
            worlds.close()
    found = {"inputs": same, "figures": judged, "weights": apart, "faults": met}
    print(*lines(found), sep="\n")
    if asked.json:
        about = {"date": f"{datetime.now():%Y-%m-%d}", "torch": torch.__version__, "python": platform.python_version()}
        asked.json.write_text(json.dumps({**about, "seed": asked.seed, **found}, indent=1) + "\n")
    good = all(same.values()) and all(judged.values()) and max(apart.values()) < 1e-4
    return 0 if good and all(one["named"] and one["ended"] and one["equal"] for one in met) else 1


def lines(found: dict[str, Any]) -> list[str]:
    """Everything for a person."""
    said = [f"inputs the same: {sum(found['inputs'].values())} of {len(found['inputs'])} (workers x processes)"]
    said += [f"logits of 269 pictures the same to the last bit: {n}: {same}" for n, same in found["figures"].items()]
    said += [f"weights apart from those of one process: {n}: {of:.1e}" for n, of in found["weights"].items()]
    said += [f"{one}" for one in found["faults"] if not (one["named"] and one["ended"] and one["equal"])]
    for kind in FAULTS:
        of = [one for one in found["faults"] if one["fault"] == kind]
        if of:
            counts = {what: sum(one[what] for one in of) for what in ("ended", "named", "equal")}
            longest = max(one["seconds"] for one in of)
            said.append(f"{kind}: {len(of)}; {counts}; the longest took {longest} s")
    return said


if __name__ == "__main__":
    sys.exit(main())
