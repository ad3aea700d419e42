"""What tests/test_fsdp.py looks at: trainings whose weights two processes share. A process of its own, for it forks.

python tests/sharding.py FOLDER: leaves runs there, and prints what else there is to know as JSON.
"""

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts" / "prove"))
import tensorboard.summary  # noqa: F401 - loaded once, not in every process
from ranks import Worlds, break_at, command_line, train_words  # pyright: ignore[reportMissingImports]

from tellapart.errors import DataError
from tellapart.training.shards import local
from tellapart.workflow import fitting

SMOOTH = (
    "conv 16 3 padding=1 bias=false, batchnorm, gelu, conv 32 3 padding=1 stride=2 bias=false, batchnorm, gelu, "
    "gap, linear classes"
)
"""Without kinks, or biases before a norm, where the last bit of a sum soon makes another network."""
SMALL = [
    *("--model=layers", f"--set=model.layers={SMOOTH}", "--optimizer=adamw", "--set=train.ema=0.9"),
    *("--set=optim.clip=0.5", "--set=train.accumulate=2", "--set=train.batch_size=8", "--set=train.log_every=1"),
    "--set=loss.l1=0.0001",
]
FSDP = "--parallel=fsdp"


def held(words: list[str]) -> None:
    """Train, and print the share of all weights, and of what the optimiser remembers, that this process holds."""
    inner = fitting.fit

    def fit(model, *more, optimiser, **named):
        yield from inner(model, *more, optimiser=optimiser, **named)
        for kept in ([*model.parameters()], [t for t in optimiser.state().values() if t.ndim]):
            shares = sum(local(t).numel() for t in kept) / sum(t.numel() for t in kept)
            sys.stderr.write(f"SHARE {shares}\n")

    fitting.fit = fit
    command_line(words)


def misread(words: list[str], victim: int) -> None:
    """Train; in one process the pictures of the second validation cannot be read."""
    inner, calls = fitting.to_judge, [0]

    def to_judge(pictures, asked):
        calls[0] += 1
        bad = os.environ["RANK"] == str(victim) and calls[0] == 2
        return inner(pictures, (lambda: DataError("picture-9.png is broken.")) if bad else asked)

    fitting.to_judge = to_judge
    command_line(words)


def stopped(words: list[str]) -> None:
    """Train; a SIGTERM meets the second process in the second epoch."""
    break_at("term", 1, 11)
    command_line(words)


def main() -> None:
    at = Path(sys.argv[1])
    worlds = Worlds(at)

    def run(size, *words, work=command_line):
        codes = worlds.codes(worlds.start(size, partial(work, [*words])), within=40)
        return {"codes": codes, "said": [worlds.words(rank) for rank in range(size)]}

    def train(name, *more, work=command_line, size=2):
        return run(size, *train_words(at, name, "--epochs=3", *more), work=work)

    def resume(name, *more, size=2):
        return run(size, "resume", name, "--no-test", "--runs", str(at / "runs"), *more)

    try:
        found = {
            "mlp-ddp": train("mlp-ddp", "--model=mlp:33"),
            "mlp-fsdp": train("mlp-fsdp", "--model=mlp:33", FSDP, size=3),
            "small-ddp": train("small-ddp", *SMALL),
            "small-fsdp": train("small-fsdp", *SMALL, FSDP, work=held),
            "stopped": train("stopped", *SMALL, FSDP, work=stopped),
        }
        for name in ("under-ddp", "in-one"):
            shutil.copytree(at / "runs" / "stopped", at / "runs" / name)
        found["resumed"] = resume("stopped")
        found["under-ddp"] = resume("under-ddp", "--parallel", "ddp")
        found["in-one"] = resume("in-one", "--processes", "1", size=1)
        found["misread"] = train("misread", *SMALL, FSDP, work=partial(misread, victim=1))
        found["reread"] = resume("misread")
        branch = ("branch", "small-fsdp", "--epochs=1", "--no-test", "--runs", str(at / "runs"), "--optimizer=adagrad")
        found["branch"] = run(2, *branch, "--name=branch")
        found["bf16"] = train("bf16", "--model=mlp:33", "--set=machine.precision=bf16", FSDP)
        found["muon"] = train("muon", "--optimizer=muon", FSDP)
        found["budget"] = train("budget", "--budget=9s", FSDP)
        found["alone"] = train("alone", "--model=mlp:33", "--optimizer=muon", FSDP, size=1)
        found["diverged"] = train("diverged", "--model=small", "--lr=1e9", FSDP)
    finally:
        worlds.close()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
