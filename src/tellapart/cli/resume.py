"""`tellapart resume`."""

from pathlib import Path

import click

from tellapart.cli.options import json_option, runs_option


@click.command("resume", epilog="Example: tellapart resume RUN")
@click.argument("run")
@runs_option
@click.option("--no-test", is_flag=True, help="Leave the test part sealed while you are still trying things.")
@json_option
@click.pass_obj
def command(words: str, run: str, runs: Path, no_test: bool, as_json: bool) -> None:
    """Go on with RUN, which was stopped, from its last checkpoint."""
    from tellapart.cli.show import Screen, ended
    from tellapart.run import Run
    from tellapart.workflow.many import go_on
    from tellapart.workflow.stopping import Stopping
    from tellapart.workflow.train import Asking

    screen = Screen()
    with Stopping() as stopping:
        asking = Asking(runs=runs, open_test=not no_test, command=words, asked=stopping.asked, progress=screen.decoding)
        verdict = screen.follow(go_on(Run.find(runs, run), asking))
    click.echo(ended(verdict, as_json=as_json))
