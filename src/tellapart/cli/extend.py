"""`tellapart extend`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from tellapart.cli.resume import goes_on, gone_on

if TYPE_CHECKING:
    from tellapart.workflow.events import Event
    from tellapart.workflow.train import Asking


@click.command("extend", epilog="Example: tellapart extend RUN --epochs 40")
@click.argument("run")
@click.option("--epochs", type=click.IntRange(1), required=True, help="How many epochs the run is to have in all.")
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    help="The rate from which a schedule that had come to rest falls once more. [default: a tenth of the first one]",
)
@goes_on
def command(words: str, run: str, epochs: int, lr: float | None, **how: Any) -> int | None:
    """Train RUN, which is finished, for more epochs.

    It goes on from its last checkpoint. The schedules constant, step and plateau go on as they were; the others had
    come to rest and fall once more to 0, from a smaller rate. The old recipe, figures and test predictions are kept.
    """

    def work(asking: "Asking") -> "Iterable[Event]":
        from tellapart.run import Run
        from tellapart.workflow.extend import extend

        return extend(Run.open(asking.runs, run), epochs, asking, lr=lr)

    return gone_on(words, run, work, **how)
