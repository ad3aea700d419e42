"""`tellapart reproduce`."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tellapart.cli.launch import relaunched
from tellapart.cli.options import json_option, name_option, runs_option
from tellapart.cli.runs import share
from tellapart.errors import ProblemsFound

if TYPE_CHECKING:
    from tellapart.workflow.reproduce import Reproduction


SENTENCES = {
    "bit-equal": "bit-equal: the same to the last bit",
    "within chance": "not bit-equal, and within what chance explains (95 % interval of so many pictures)",
    "different": "different: the accuracy lies outside the 95 % interval of the first",
}


@click.command("reproduce", epilog="Example: tellapart reproduce RUN")
@click.argument("old", metavar="RUN")
@name_option
@runs_option
@click.option("--open-test", is_flag=True, help="Open the test part once more; it stays sealed otherwise.")
@json_option
@click.pass_obj
def command(words: str, old: str, name: str, runs: Path, open_test: bool, as_json: bool) -> int | None:
    """Repeat RUN from its folder as a new run, and say whether it is the same.

    Exit code 0: bit-equal, or within chance for a known reason. 1: different, or not bit-equal for no known reason.
    7: the pictures are no longer those of RUN.
    """
    if (code := relaunched(words, runs, old)) is not None:
        return code
    from tellapart.workflow.stopping import Stopping

    with Stopping() as stopping:  # before torch is loaded, which takes its time
        from tellapart.cli.show import Asking, Screen
        from tellapart.run import Run
        from tellapart.workflow.reproduce import reproduce

        screen = Screen()
        how = {"asked": stopping.asked, "save_now": stopping.save_now, "progress": screen.decoding}
        asking = Asking(runs=runs, name=name, open_test=open_test, command=words, **how)
        found = reproduce(Run.open(runs, old), asking, follow=screen.follow)
    if found is None:  # one process of several has nothing to say
        return None
    click.echo(json.dumps({"format": 1, **asdict(found)}, indent=1) if as_json else "\n".join(lines(found)))
    if not found.expected:
        raise ProblemsFound(f"{found.again} is not what {found.run} was.")
    return None


def lines(found: "Reproduction") -> Iterator[str]:
    """The comparison for a person."""
    yield from (f"{name:<12}  {'equal' if equal else 'different'}" for name, equal in found.equal.items())
    yield f"validation accuracy  {share(found.then)} then, n = {found.then['n']:,}; {share(found.now)} now"
    yield SENTENCES[found.found]
    if found.reasons or found.found != "bit-equal":
        because = "; ".join(found.reasons) or "nothing that is known: device, versions and code are the same"
        yield f"{'changed all the same' if found.found == 'bit-equal' else 'because of'}: {because}"
    yield f"run folder: {found.folder}"
