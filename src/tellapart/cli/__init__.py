"""The door: one short module per verb, loaded when it is called. Nothing heavy is imported here."""

import os
import shlex
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from tellapart import __version__
from tellapart.cli.verbs import Verbs
from tellapart.errors import TellapartError, nearest

VERBS = {
    "train": "Train a classifier on labelled pictures and judge it.",
    "resume": "Go on with a run that was stopped.",
    "extend": "Train a finished run for more epochs.",
    "branch": "Start a new run from the weights of another.",
    "reproduce": "Repeat a run from its folder and compare.",
    "prove-resume": "Show that resuming is exact, on your own recipe.",
    "test": "Judge a trained model on its sealed test part, or on other pictures.",
    "check": "Say what is wrong with labelled pictures.",
    "advise": "Say which network and settings suit your pictures.",
    "baseline": "Judge simple classifiers first: what training must beat.",
    "search": "Try values of settings, and rank them by validation.",
    "report": "Write what may be said of a run, as one HTML file.",
    "predict": "Say what is on pictures: files, folders, lists, shards.",
    "verify": "Prove that a model answers here as where it was made.",
    "serve": "Answer for a model on a page and to programs.",
    "why": "Show where a model looks, and whether that means anything.",
    "runs": "List the runs, best first.",
    "compare": "Say whether one run is better than another, on the same pictures.",
    "board": "Show the runs in TensorBoard.",
    "split": "Divide pictures into train, validation and test, as a file.",
    "data": "List, fetch and show data sets.",
    "model": "Look at a network and what is inside it.",
    "shape": "Compute the size after a layer, and work examples.",
    "config": "Show the recipe in force and where each value is from.",
    "export": "Write a run as something other programs can use.",
    "cache": "Where fetched data sets lie, and how to remove them.",
    "doctor": "Say what is installed, what works, and what is missing.",
    "completion": "Print the shell completion script.",
}
"""Every verb with its one line of help: `--help` needs no other module."""

HELP_INSTEAD = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click 8.2 and newer raise for a bare `tellapart`; older ones print the help themselves."""


class Lazy(Verbs):
    """A group whose verbs are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        return import_module(f"tellapart.cli.{cmd_name.replace('-', '_')}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]}, epilog="Start here: tellapart train digits"
)
@click.version_option(__version__, "-V", "--version", message="tellapart %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--code", multiple=True, metavar="FILE.py", help="Let this file run, whose class a run or model names.")
def group(debug: bool, code: tuple[str, ...]) -> None:
    """From labelled pictures to a classifier whose number you can report and whose file you can ship."""
    for file in code:
        from tellapart.models.allowed import allow_code

        allow_code(file)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with the code of errors.py."""
    words = sys.argv[1:] if args is None else args
    debug = words[:1] == ["--debug"]  # `train` has a flag of that name that means something else
    group.context_settings["obj"] = shlex.join(["tellapart", *words])
    sys.exit(guarded(lambda: group.main(args=words, prog_name="tellapart", standalone_mode=False), debug=debug))


def guarded(work: Callable[[], Any], *, debug: bool) -> int:
    """Do the work and turn what it raises into words on stderr and an exit code."""
    # A waiting OpenMP thread must sleep, not spin: spinning beside another busy process makes training ten times
    # slower. Both are read by torch when it is loaded, so they are set here.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Large arrays in large pages (Linux): a first epoch at 224 px may spend less time (docs/log.md).
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of a picture is said by data/decode.py
    try:
        result = work()
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except (click.Abort, KeyboardInterrupt):
        return complain("Stopped by Ctrl-C.", "", 130)
    except HELP_INSTEAD as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        hint = f"`{error.ctx.command_path} --help` lists what is possible." if error.ctx else ""
        return complain(_of_click(error), hint, 2)
    except click.ClickException as error:
        return complain(error.format_message(), "", 2)
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code != 1:
            raise  # click answers a shell that asks for completions
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of the output went away
        return 0
    except Exception as error:
        if debug:
            raise
        if isinstance(error, TellapartError):
            return error.exit_code if error.quiet else complain(error.message, error.hint, error.exit_code)
        return complain(
            f"Something unexpected happened: {type(error).__name__}: {error}",
            "This is a mistake of tellapart. Run again with `tellapart --debug …` and report the traceback.",
            1,
        )


def complain(message: str, hint: str, code: int) -> int:
    """One sentence of what happened, one of what to do, on stderr. What was typed wrong, or a stop, the first of the
    processes on this machine says for all.
    """
    several = os.environ.get("WORLD_SIZE") not in (None, "", "1")
    if several and code in (2, 130, 143) and os.environ.get("LOCAL_RANK", "0") != "0":
        return code
    click.echo(click.style("error: ", fg="red", bold=True) + message, err=True)
    if hint:
        click.echo(click.style("hint: ", fg="cyan", bold=True) + hint, err=True)
    return code


def _of_click(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        guess = nearest(error.option_name, [o for p in (error.ctx.command.params if error.ctx else []) for o in p.opts])
        return f"There is no flag {error.option_name}." + (f" Did you mean {guess}?" if guess else "")
    return error.format_message()
