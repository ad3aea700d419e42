"""Starting a command in several processes: torchrun's elastic launcher, with the messages and exit codes of ours."""

import contextlib
import logging
import os
import shlex
import shutil
import signal
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from tellapart.errors import Interrupted, Terminated, UsageError, WorkerError
from tellapart.files import read_text
from tellapart.names import PARALLELS
from tellapart.recipe import Recipe
from tellapart.run import Run, fresh_name, place
from tellapart.workflow.stopping import SAVE

restarts_option = click.option(
    "--restarts",
    type=click.IntRange(0, 1000),
    default=0,
    help="With --processes: start them again so many times when one has died; the run goes on.",
)


processes_option = click.option(
    "--processes", type=click.IntRange(1, 4096), help="How many processes train. [default: as in RUN]"
)
parallel_option = click.option(
    "--parallel", type=click.Choice(PARALLELS), help="All weights each, or shares. [default: as in RUN]"
)


resume_option = click.option(
    "--resume", is_flag=True, help="Go on with the run of this name if there is one: for jobs that are started again."
)


def is_again() -> bool:
    """Whether this is a second start of the same work: by torchrun after a death, or by Slurm after a requeue."""
    return any(int(os.environ.get(name) or 0) for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))


def begun_before(runs: Path, name: str, *, asked: bool) -> Run | None:
    """The run of that name that an earlier start of this work has made, to go on with it, when that is `asked` for or
    this is known to be a later start. One that was stopped before it trained is taken away: it begins anew. The first
    of several processes looks; the others follow it.
    """
    if asked and not name:
        raise UsageError("--resume goes on with a run that has a name.", "Give the name too: --run NAME.")
    run = Run(runs.absolute() / name)
    if place()[0] or not (asked or is_again()) or not name or not (run.folder / "status.json").is_file():
        return None
    if (run.folder / "recipe.toml").is_file():
        return run
    shutil.rmtree(run.folder)
    return None


def is_finished(run: Run) -> bool:
    """Whether there is nothing to go on with, which is said."""
    finished = run.status().get("state") == "finished"
    if finished:
        click.echo(f"The run {run.name} is finished; `tellapart test {run.called}` judges it.")
    return finished


def launched(processes: int, words: str, *, restarts: int = 0) -> int:
    """Run a command of ours, as it was typed, in so many processes, and wait; gives the exit code.

    Raises WorkerError for a process that a signal ended.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed", "torch.distributed.elastic.agent.server.api"):  # it has a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what it says, we say in a sentence
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=uuid.uuid4().hex,
        max_restarts=restarts,
        monitor_interval=0.1,
    )
    try:
        with _signals_as_before(), _saving_passed_on():
            elastic_launch(config, sys.executable)("-m", *shlex.split(words))
    except SignalException as error:
        return Interrupted.exit_code if error.sigval == signal.SIGINT else Terminated.exit_code
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        hint = "A system that lacks memory ends processes so." if name == "SIGKILL" else ""
        raise WorkerError(f"Rank {rank} (process {failure.pid}) was ended by {name}.", hint) from error
    return 0


def shared(recipe: Recipe, words: str, name: str, restarts: int) -> int | None:
    """Train in the processes that a recipe asks for, in a run of a fixed name that a second start finds; None when this
    process is to do it. Raises UsageError for what several processes, or one, cannot honour.
    """
    processes = recipe.machine.processes
    if place()[1] > 1 or _alone(processes, restarts):
        return None
    if recipe.train.batch_size:
        from tellapart.workflow.settle import refuse_small_batch

        refuse_small_batch(recipe, processes)  # before so many are started
    own = "" if name else " --name " + fresh_name(f"{Path(recipe.data.source).name}-{recipe.model.name}")
    return launched(processes, words + own, restarts=restarts)


def relaunched(words: str, runs: Path, name: str, processes: int | None = None, *, restarts: int = 0) -> int | None:
    """Go on with a run in several processes, as many as it had unless another number is given; None when this process
    is to do it, alone or as one of several.
    """
    if place()[1] > 1:
        return None
    recipe = Run.find(runs, name).folder / "recipe.toml"
    if not processes and recipe.is_file():
        processes = tomllib.loads(read_text(recipe)).get("machine", {}).get("processes", 1)
    processes = processes or 1
    return None if _alone(processes, restarts) else launched(processes, words, restarts=restarts)


def _alone(processes: int, restarts: int) -> bool:
    """Whether one process is to train. Raises UsageError for what means nothing to it."""
    if processes == 1 and restarts:
        raise UsageError("--restarts starts several processes again; one is to train.", "Give --processes too.")
    return processes == 1


@contextlib.contextmanager
def _signals_as_before() -> Iterator[None]:
    """Give the signals back that the launcher takes, and keeps."""
    taken = {"SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"}
    before = {number: signal.getsignal(number) for number in signal.Signals if number.name in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _saving_passed_on() -> Iterator[None]:
    """While open, a signal that asks for a checkpoint goes on to the processes."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")

    def pass_on(number: int, frame: FrameType | None) -> None:
        for child in children.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)

    before = signal.signal(SAVE, pass_on) if SAVE is not None and children.is_file() else None
    try:
        yield
    finally:
        if before is not None and SAVE is not None:
            signal.signal(SAVE, before)
