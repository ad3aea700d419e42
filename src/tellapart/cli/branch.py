"""`tellapart branch`."""

from pathlib import Path
from typing import Any

import click

from tellapart.cli.launch import relaunched
from tellapart.cli.options import json_option, name_option, no_test_option, runs_option
from tellapart.cli.recipe_flags import flags_of, set_option, values_of
from tellapart.recipe import rules


@click.command("branch", epilog="Example: tellapart branch RUN --from last --lr 0.01 --epochs 5")
@click.argument("parent", metavar="RUN")
@click.option(
    "--from",
    "start",
    default="best",
    show_default=True,
    metavar="best|last|CHECKPOINT",
    help="Which checkpoint to start from; the folder checkpoints of the run has them.",
)
@flags_of(*(path for path, rule in rules() if rule.flag and not path.startswith("data.")))
@set_option
@name_option
@runs_option
@no_test_option
@json_option
@click.pass_obj
def command(
    words: str, parent: str, start: str, name: str, runs: Path, no_test: bool, as_json: bool, **flags: Any
) -> int | None:
    """Train a new run from the weights of RUN, with other settings.

    It has the pictures and the split of RUN, and all its settings but those given here; the state of the optimiser
    comes along where it is kept and fits.
    """
    changes, origins = values_of(flags)
    if (code := relaunched(words, runs, parent, int(changes.get("machine.processes") or 0))) is not None:
        return code
    from tellapart.workflow.stopping import Stopping

    with Stopping() as stopping:  # before torch is loaded, which takes its time
        from tellapart.cli.show import Asking, followed
        from tellapart.run import Run
        from tellapart.workflow.branch import branch

        asking = Asking(runs=runs, name=name, open_test=not no_test, command=words, origins=origins)
        followed(
            lambda asking: branch(Run.open(runs, parent), changes, asking, start=start),
            asking,
            stopping,
            as_json=as_json,
        )
    return None
