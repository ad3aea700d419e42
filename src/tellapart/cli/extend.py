"""`tellapart extend`."""

from pathlib import Path

import click

from tellapart.cli.launch import parallel_option, processes_option, relaunched, restarts_option
from tellapart.cli.options import json_option, no_test_option, runs_option


@click.command("extend", epilog="Example: tellapart extend RUN --epochs 40")
@click.argument("run")
@click.option("--epochs", type=click.IntRange(1), required=True, help="How many epochs the run is to have in all.")
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    help="The rate from which a schedule that had come to rest falls once more. [default: a tenth of the first one]",
)
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
    epochs: int,
    lr: float | None,
    runs: Path,
    no_test: bool,
    as_json: bool,
    processes: int | None,
    parallel: str | None,
    restarts: int,
) -> int | None:
    """Train RUN, which is finished, for more epochs.

    It goes on from its last checkpoint. The schedules constant, step and plateau go on as they were; the others had
    come to rest and fall once more to 0, from a smaller rate. The old recipe, figures and test predictions are kept.
    """
    if (code := relaunched(words, runs, run, processes, restarts=restarts)) is not None:
        return code
    from tellapart.workflow.stopping import Stopping

    with Stopping() as stopping:  # before torch is loaded, which takes its time
        from tellapart.cli.show import Asking, followed
        from tellapart.run import Run
        from tellapart.workflow.extend import extend

        asking = Asking(runs=runs, open_test=not no_test, command=words, parallel=parallel or "")
        followed(lambda asking: extend(Run.open(runs, run), epochs, asking, lr=lr), asking, stopping, as_json=as_json)
    return None
