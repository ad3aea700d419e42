"""Prove that a save can be cut off anywhere: by death, by the disk, by the power, by kill -9 from outside, by others.

    python scripts/prove/crash.py [--states 60] [--strace 12] [--races 100] [--json FILE]

Every call of a save that reaches the disk is the last one (then the product's own loader must find old or new, whole,
and the next save must work), or fails with each of eight errors (then a sentence names path and cause as well); after
every call the power is cut, in `states` ways each, where what was not flushed may be missing. Ways of saving that are
known to be bad must be caught. Where strace is at hand a process of its own is killed at calls drawn by lot; where a
tiny file system can be mounted, a training fills it and goes on when it has room. Of eight processes that want a run
at once, one has it. Exits 1 when anything of this is not so.
"""

import argparse
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from crashes import (  # pyright: ignore[reportMissingImports]
    cut_anywhere,
    first_removed,
    goes_on,
    in_place,
    problem,
    run_before,
    sweep,
    unflushed,
)
from disk import FAULTS, Dead, copied, refused  # pyright: ignore[reportMissingImports]

from tellapart.training import checkpoint as saving
from tellapart.workflow import keeping

Found = dict[str, Any]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "OMP_NUM_THREADS": "1",
}


def deaths_and_errors(at: Path) -> Found:
    """Death, and each of eight errors, at every call of a save."""
    calls, _, wrong = sweep(run_before(at / "death"), Dead)
    errors = 0
    for number in FAULTS:
        _, said, more = sweep(run_before(at / errno.errorcode[number]), lambda number=number: refused(number))
        errors, wrong = errors + sum(map(bool, said)), wrong + more
    return {"crash points": len(calls), "errors said": errors, "wrong": wrong}


def power(at: Path, states: int) -> Found:
    """The power is cut after every call of two saves."""
    looked, wrong = cut_anywhere(run_before(at / "power"), states=states)
    return {"power-cut states": looked, "wrong": wrong}


def bad_ways(at: Path) -> Found:
    """The sweeps must find something wrong with each of these."""
    caught = {}
    for bad in (in_place, first_removed):
        before = run_before(at / bad.__name__)
        with patch.object(keeping, "save_checkpoint", bad):
            caught[bad.__name__] = len(sweep(before, Dead)[2])
    files, folders = run_before(at / "files"), run_before(at / "folders")
    with patch.object(saving, "write_flushed", unflushed):
        caught["files not flushed"] = len(cut_anywhere(files, states=3)[1])
    with patch.object(saving, "flush", lambda path: None):
        caught["folders not flushed"] = len(cut_anywhere(folders, states=3)[1])
    return {"bad ways, states in which each was caught": caught, "wrong": [w for w, n in caught.items() if not n]}


TRACED = "fsync,rename,mkdir,unlinkat,rmdir,openat,write"
SAVE = "import sys; from pathlib import Path; from crashes import save; save(Path(sys.argv[1]), 40)"


def from_outside(at: Path, count: int, chance: random.Random) -> Found:
    """kill -9 by strace at a call of a process of its own, at `count` calls drawn by lot."""
    if not shutil.which("strace") or not count:
        return {"killed by strace": 0, "wrong": []}
    before, log = run_before(at / "strace"), at / "strace.log"
    words = [sys.executable, "-c", SAVE]
    folder = copied(before, before.with_name("try"))
    trace = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={TRACED}"]
    subprocess.run([*trace, *words, str(folder)], env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    points, wrong = calls_below(log, str(folder)), []
    for name, ordinal in chance.sample(points, min(count, len(points))):
        folder = copied(before, before.with_name("try"))
        inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={name}"]
        inject += ["-e", f"inject={name}:signal=SIGKILL:when={ordinal}"]
        done = subprocess.run([*inject, *words, str(folder)], env=ENVIRONMENT, capture_output=True)
        found = problem(folder, oldest=30) or goes_on(folder)
        if found or done.returncode == 0:
            wrong.append(f"{name} {ordinal}: {found or 'was not killed'}")
    return {"killed by strace": min(count, len(points)), "of calls": len(points), "wrong": wrong}


def calls_below(log: Path, folder: str) -> list[tuple[str, int]]:
    """The traced calls from the first that names the folder on, as (name, which of that name)."""
    lines = [line.split(maxsplit=1) for line in log.read_text(errors="replace").splitlines()]
    count: Counter[str] = Counter()
    points, begun = [], False
    for process, call in lines:
        name = call.split("(")[0]
        if process == lines[0][0] and name in TRACED.split(","):  # strace counts for each thread by itself
            count[name] += 1
            begun = begun or folder in call
            points += [(name, count[name])] if begun else []
    return points


FULL = """
set -e
mount -t tmpfs -o size=1500k tmpfs "$1"
head -c 1300000 /dev/zero > "$1/filler"
cd "$1"
code=0; "$0" -m tellapart train digits --set machine.cache=0 --run a 2> "$2" || code=$?
rm filler
after=0; "$0" -m tellapart resume a >/dev/null 2>> "$2" || after=$?
echo "$code $after"
"""


def full_disk(at: Path) -> Found:
    """A training in a file system of 1.5 MB that a filler nearly fills; then the filler goes, and the run goes on."""
    (at / "tiny").mkdir()
    words = ["unshare", "-Urm", "sh", "-c", FULL, sys.executable, str(at / "tiny"), str(at / "said")]
    tried = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True)
    if tried.returncode:
        return {"full file system": "could not be mounted here", "wrong": []}
    said = (at / "said").read_text()
    right = tried.stdout.split() == ["4", "0"] and "The disk is full: " in said and "resume a` goes on" in said
    return {"full file system": "exit 4 with a sentence, then resumed", "wrong": [] if right else [tried.stdout, said]}


RACER = """
import os, sys, time
from pathlib import Path
from tellapart.errors import BusyError
from tellapart.run import Run
for race in range(int(sys.argv[2])):
    run, gate = Run(Path(sys.argv[1]) / f"race-{race}"), Path(sys.argv[1]) / f"go-{race}"
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        with run.alone():
            print("won", flush=True)
            sys.stdin.readline()
    except BusyError:
        print("busy", flush=True)
        sys.stdin.readline()
"""


def races(at: Path, count: int) -> Found:
    """Eight processes want a run at the same moment, so often."""
    from tellapart.run import Run

    for race in range(count):
        Run.create(at / "races", f"race-{race}")
    words = [sys.executable, "-c", RACER, str(at / "races"), str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen(words, env=ENVIRONMENT, **pipes) for _ in range(8)]
    winners: Counter[int] = Counter()
    for _ in range(count):
        asked(racers)
        winners[asked(racers).count("won")] += 1
        told(racers)
    return {"races of 8": count, "winners": dict(winners), "wrong": [] if winners == {1: count} else ["not one winner"]}


def asked(racers: list[subprocess.Popen[str]]) -> list[str]:
    """A line of each; then they go on."""
    lines = [racer.stdout.readline().strip() for racer in racers if racer.stdout]
    if "ready" in lines:
        told(racers)
    return lines


def told(racers: list[subprocess.Popen[str]]) -> None:
    """Let each go on."""
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()


def main() -> None:
    """Try everything, print one document, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=60)
    parser.add_argument("--strace", type=int, default=12)
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--json", type=Path)
    words, began = parser.parse_args(), time.monotonic()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        at = Path(folder)
        parts = [deaths_and_errors(at), power(at, words.states), bad_ways(at)]
        parts += [from_outside(at, words.strace, random.Random(0)), full_disk(at), races(at, words.races)]
    wrong = [one for part in parts for one in part.pop("wrong")]
    found = {"date": f"{datetime.now():%Y-%m-%d}", **{k: v for part in parts for k, v in part.items()}}
    found |= {"seconds": round(time.monotonic() - began, 1), "wrong": wrong}
    print(json.dumps(found, indent=1))
    if words.json:
        words.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
