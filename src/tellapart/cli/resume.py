"""`tellapart resume`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tellapart.cli.launch import parallel_option, processes_option, relaunched, restarts_option
from tellapart.cli.options import json_option, no_test_option, runs_option

if TYPE_CHECKING:
    from tellapart.workflow.events import Event
    from tellapart.workflow.train import Asking

OPTIONS = (runs_option, no_test_option, json_option, processes_option, parallel_option, restarts_option, click.pass_obj)
"""What every command takes that goes on with a run."""


def goes_on(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the options of a command that goes on with a run."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def gone_on(
    words: str,
    run: str,
    work: Callable[["Asking"], "Iterable[Event]"],
    *,
    runs: Path,
    no_test: bool,
    as_json: bool,
    processes: int | None,
    parallel: str | None,
    restarts: int,
) -> int | None:
    """Go on with a run, in as many processes as are asked for."""
    if (code := relaunched(words, runs, run, processes, restarts=restarts)) is not None:
        return code
    from tellapart.workflow.stopping import Stopping

    with Stopping() as stopping:  # before torch is loaded, which takes its time
        from tellapart.cli.show import Asking, followed

        asking = Asking(runs=runs, open_test=not no_test, command=words, parallel=parallel or "")
        followed(work, asking, stopping, as_json=as_json)
    return None


@click.command("resume", epilog="Example: tellapart resume RUN")
@click.argument("run")
@goes_on
def command(words: str, run: str, **how: Any) -> int | None:
    """Go on with RUN, which was stopped, from its last checkpoint.

    A test part that was to stay sealed (--no-test) stays so, until `tellapart test RUN`.
    """

    def work(asking: "Asking") -> "Iterable[Event]":
        from tellapart.run import Run
        from tellapart.workflow.many import go_on

        return go_on(Run.find(asking.runs, run), asking)

    return gone_on(words, run, work, **how)
