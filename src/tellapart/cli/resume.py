"""`tellapart resume`."""

from pathlib import Path

import click

from tellapart.cli.launch import parallel_option, processes_option, relaunched, restarts_option
from tellapart.cli.options import json_option, no_test_option, runs_option


@click.command("resume", epilog="Example: tellapart resume RUN")
@click.argument("run")
@runs_option
@no_test_option
@json_option
@processes_option
@parallel_option
@restarts_option
@click.pass_obj
def command(
    words: str,
    run: str,
    runs: Path,
    no_test: bool,
    as_json: bool,
    processes: int | None,
    parallel: str | None,
    restarts: int,
) -> int | None:
    """Go on with RUN, which was stopped, from its last checkpoint.

    A test part that was to stay sealed (--no-test) stays so, until `tellapart test RUN`.
    """
    if (code := relaunched(words, runs, run, processes, restarts=restarts)) is not None:
        return code
    from tellapart.workflow.stopping import Stopping

    with Stopping() as stopping:  # before torch is loaded, which takes its time
        from tellapart.cli.show import Asking, followed
        from tellapart.run import Run
        from tellapart.workflow.many import go_on

        asking = Asking(runs=runs, open_test=not no_test, command=words, parallel=parallel or "")
        followed(lambda asking: go_on(Run.find(runs, run), asking), asking, stopping, as_json=as_json)
    return None
