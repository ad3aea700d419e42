"""Prove that resuming is exact, on a recipe of one's own: a training whole, one stopped and resumed, compared."""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tellapart.errors import Interrupted, UsageError, WorkerError
from tellapart.recipe import Recipe
from tellapart.run import Run, refuse_several
from tellapart.workflow.begin import recipe_of
from tellapart.workflow.events import Step
from tellapart.workflow.reproduce import Follow
from tellapart.workflow.resume import resume
from tellapart.workflow.same import conditions_of, fingerprint, in_words
from tellapart.workflow.settle import Origins
from tellapart.workflow.train import Asking, train

COMMAND = (sys.executable, "-P", "-m", "tellapart.workflow.prove")
WHOLE, STOPPED = "whole", "stopped"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What two trainings reached, as SHA-256 by name: one went through, one stopped after the steps `stops`."""

    steps: int
    stops: list[int]
    conditions: str
    whole: dict[str, str]
    stopped: dict[str, str]

    @property
    def different(self) -> list[str]:
        """The names of what is not equal to the last bit."""
        return [name for name in self.whole | self.stopped if self.whole.get(name) != self.stopped.get(name)]


def prove_resume(
    recipe: Recipe,
    origins: Origins,
    *,
    steps: int,
    stops: Sequence[int],
    follow: Follow,
    say: Callable[[str], None],
) -> Proof:
    """Train a few steps here, and again in other processes that stop after `stops` (three random ones when empty).

    No run is left behind and no test part is opened. Raises UsageError for stops that do not lie between the first step
    and the last, WorkerError when a process fails.
    """
    refuse_several("The proof", recipe.machine.processes)
    most = min(steps, recipe.train.max_steps or steps)
    _stops(stops, most)
    recipe = recipe.replaced({"train.max_steps": most, "train.log_every": 1})
    with tempfile.TemporaryDirectory(prefix="tellapart-proof-") as folder:
        runs = Path(folder)
        follow(train(recipe, Asking(runs=runs, name=WHOLE, open_test=False, origins=origins)))
        whole = Run.open(runs, WHOLE)
        taken = whole.status()["step"]
        at = _stops(stops, taken)
        for stop in [*at, 0]:
            say(f"in another process: {f'up to step {stop}, then stopped' if stop else 'to the end'}")
            _in_another_process(runs, stop)
        stopped = fingerprint(Run.open(runs, STOPPED))
        words = in_words(conditions_of(whole))
        return Proof(steps=taken, stops=at, conditions=words, whole=fingerprint(whole), stopped=stopped)


def _stops(asked: Sequence[int], taken: int) -> list[int]:
    """The steps after which to stop, of a training that takes so many. Raises UsageError."""
    if taken < 2 or any(not 0 < stop < taken for stop in asked):
        raise UsageError(
            f"The training takes {taken} step{'s' * (taken > 1)}; one is stopped after 1 to {max(taken - 1, 1)}.",
            "Choose other steps with --at, or have more of them with --steps or --epochs.",
        )
    return sorted(set(asked)) or sorted(random.sample(range(1, taken), min(3, taken - 1)))


def _in_another_process(runs: Path, stop: int) -> None:
    paths = [str(Path(__file__).parents[2]), *(path for path in sys.path if path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    words = [*COMMAND, str(runs), str(stop)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise WorkerError(f"The process that stops and resumes ended with code {done.returncode}: {last}")


def leg(runs: Path, stop: int) -> None:
    """Begin the training that is stopped, or resume it; end it after step `stop`, or go to its end when that is 0."""
    endings: list[Interrupted] = []
    asking = Asking(runs=runs, name=STOPPED, open_test=False, asked=lambda: endings[0] if endings else None)
    begun = (runs / STOPPED).is_dir()
    events = resume(Run.open(runs, STOPPED), asking) if begun else train(recipe_of(Run.open(runs, WHOLE)), asking)
    try:
        for event in events:
            if isinstance(event, Step) and event.step == stop:
                endings.append(Interrupted("Stopped, as the proof wants it."))
    except Interrupted:
        if not endings:
            raise


if __name__ == "__main__":
    leg(Path(sys.argv[1]), int(sys.argv[2]))
