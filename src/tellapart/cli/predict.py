"""`tellapart predict`."""

import json
import sys
from collections import Counter, deque
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from tellapart.cli.bar import download_bar
from tellapart.cli.options import PATH, device_option, json_option, runs_option
from tellapart.errors import DataError, UsageError
from tellapart.recipe import printable

if TYPE_CHECKING:
    from tellapart.run import Run
    from tellapart.workflow.answers import Answers
    from tellapart.workflow.predict import Classifier
    from tellapart.workflow.stopping import Stopping


@click.command("predict", epilog="Example: tellapart predict RUN dog.png FOLDER")
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True)
@click.option("--top-k", type=click.IntRange(1), help="How many classes to name; 3, and with --out all of them.")
@click.option(
    "--out", type=PATH, metavar="FILE", help="Write to a .csv, .jsonl or .parquet; once stopped, it goes on there."
)
@click.option("--precision", type=float, help="Answer only where answers are right so often: 0.9, 0.95 or 0.99.")
@click.option(
    "--views", default="", metavar="KINDS", help="Answer by several views of each: mirror, shift or mirror,shift."
)
@click.option(
    "--engine",
    type=click.Choice(("auto", "torch", "onnxruntime")),
    default="auto",
    help="What computes; auto takes what is measured faster, where --out has much to do.",
)
@click.option("-v", "--verbose", is_flag=True, help="Also print the size of the file and the shape of the input.")
@device_option
@runs_option
@json_option
def command(
    model: str,
    pictures: tuple[str, ...],
    top_k: int | None,
    out: Path | None,
    precision: float | None,
    views: str,
    engine: str,
    verbose: bool,
    device: str,
    runs: Path,
    as_json: bool,
) -> int:
    """Say what is on PICTURES, by MODEL: a run, or a model.safetensors.

    PICTURES are files, folders, 'globs', .tar files, or -: a list of paths on standard input.

    A picture that is like none of the classes is called unknown, with the reason. Where a picture may have several
    classes, all are named of which the probability reaches the threshold of the class. A file that cannot be read is
    named in the answer, and the exit code is then 3. Pictures that the run has seen, or keeps sealed, are counted
    beneath it.
    """
    from tellapart.evaluation.views import kinds_of
    from tellapart.workflow import devices
    from tellapart.workflow.answering import asked_for
    from tellapart.workflow.answers import Answers
    from tellapart.workflow.engines import use
    from tellapart.workflow.models import find_model, run_of
    from tellapart.workflow.predict import Classifier
    from tellapart.workflow.stopping import Stopping

    bundle, name = find_model(runs, model)
    more = {"top_k": top_k or (3 if out is None else len(bundle.classes)), "precision": precision}
    more["kinds"] = kinds_of(views)
    stopping = Stopping(f"The same command goes on with {out}.")
    every = asked_for(pictures, stopping.waiting(sys.stdin.buffer.read))
    ready = Classifier(bundle, device=devices.choose(device))
    if out is not None:
        refuse_both(as_json, verbose)
        answers = Answers(out, ready.classes)
        return to_file(Task(ready, every, answers, more, pictures, run_of(runs, model), engine, stopping))
    use(ready, engine)
    return to_screen(ready, every, name, more, run_of(runs, model), verbose=verbose, as_json=as_json)


def to_screen(
    ready: "Classifier", every: Iterator, name: str, more: dict, run: "Run | None", *, verbose: bool, as_json: bool
) -> int:
    """Print the answers, and what the run knows of these pictures."""
    from tellapart.workflow.openings import looked

    contract = ready.bundle.preprocess
    guesses = list(ready.each(every, **more, digests=run is not None))
    if not guesses:
        raise DataError("No files were found there.", "Name pictures, or folders of them.")
    notes = looked(run, [guess.digest for guess in guesses]) if run else []
    if as_json:
        answer = {"format": 1, "model": name, "predictions": [as_data(guess) for guess in guesses], "notes": notes}
        click.echo(json.dumps(answer, indent=1))
    else:
        shape = (1, contract.channels, contract.size, contract.size)
        for guess in guesses:
            click.echo(line(guess, shape if verbose else None))
        click.echo("".join(f"{note}\n" for note in notes), err=True, nl=False)
    return 3 if any(guess.error for guess in guesses) else 0


def refuse_both(as_json: bool, verbose: bool) -> None:
    """Raises UsageError for what says how answers are printed, where they are written to a file."""
    if as_json or verbose:
        flag = "--json" if as_json else "--verbose"
        raise UsageError(f"{flag} prints answers, and --out writes them to a file.", "Leave out one of them.")


class Task(NamedTuple):
    """What is to be answered to a file: `words` name the pictures, `more` are the options of `Classifier.each`."""

    ready: "Classifier"
    pictures: Iterator
    answers: "Answers"
    more: dict
    words: tuple[str, ...]
    run: "Run | None"
    engine: str
    stopping: "Stopping"


def to_file(task: Task) -> int:
    """Write the answers to a file, from where it stands; say how many there are of each kind.

    Raises BusyError when another process writes it, and the ending that is asked for, after a whole batch.
    """
    from tellapart.workflow.answering import LIST, begun, engine_of, held, identity
    from tellapart.workflow.answers import make_parquet, need
    from tellapart.workflow.engines import settle

    answers, counts, options = task.answers, Counter(), {**task.more, "kinds": list(task.more["kinds"])}
    need(answers.path)
    with held(answers), task.stopping:
        engine, said, pictures = settle(
            task.ready, task.engine, engine_of(answers), task.pictures, come=LIST in task.words
        )
        made_by = {
            "model": identity(task.ready.bundle),
            "set of options": options,
            "list of pictures": list(task.words),
        }
        begun(answers, {"format": 1, **made_by, "engine": engine})
        click.echo(f"{said}\n" * bool(said), err=True, nl=False)
        notes = answered(task._replace(pictures=pictures, engine=engine), counts)
        if answers.lines.exists() and answers.lines != answers.path:
            make_parquet(answers, task.stopping.asked)
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("answered", "unknown", "unsure", "unreadable"))
    click.echo(f"{answers.path}: {counts.total():,} pictures: {kinds}")
    click.echo("".join(f"{note}\n" for note in notes), err=True, nl=False)
    return 3 if counts["unreadable"] else 0


def answered(task: Task, counts: Counter) -> list[str]:
    """Write a line for each picture that has none, and return what the run knows of them."""
    from tellapart.workflow.answering import left, write
    from tellapart.workflow.engines import use
    from tellapart.workflow.openings import looked

    run, at = task.run, {"batch": task.ready.batch, "asked": task.stopping.asked}
    coming = left(task.answers, task.pictures, counts, **at)
    first = list(islice(coming, 1))
    if before := counts.total():
        click.echo(f"{task.answers.path} has {before:,} pictures already", err=True)
    if not first:
        if not before:
            raise DataError("No files were found there.", "Name pictures, or folders of them.")
        return []
    use(task.ready, task.engine)
    with download_bar() as show:
        guesses = task.ready.each(chain(first, coming), **task.more, digests=run is not None)
        digests = write(task.answers, guesses, counts, **at)
        shown = (show(counts.total(), None, "pictures") or digest for digest in digests)
        notes = looked(run, shown) if run else [] * len(deque(shown, maxlen=0))
    if ending := task.stopping.asked():
        raise ending
    return notes


def as_data(guess) -> dict:
    """A guess as plain data."""
    top = [{"class": name, "index": number, "probability": share} for name, number, share in guess.top]
    return {
        "path": guess.path,
        "top": top,
        "doubt": guess.doubt or None,
        **({} if guess.said is None else {"said": [name for name, _, _ in guess.said]}),
        **({"error": guess.error} if guess.error else {"width": guess.size[0], "height": guess.size[1]}),
    }


def line(guess, shape: tuple[int, ...] | None) -> str:
    """A guess on one line: 'dog.png  dog (5) 93.1 %  cat (3) 4.0 %'; of several classes, all that a picture has."""
    from tellapart.figures.inert import in_line

    if guess.error:
        return printable(f"{guess.path}  cannot be read: {guess.error}")
    shown = guess.top if guess.said is None else guess.said or guess.top[:1]
    named = "  ".join(f"{in_line(name)} ({number}) {100 * share:.1f} %" for name, number, share in shown)
    if guess.said == ():
        named = f"none of the classes; likeliest  {named}"
    seen = f"  size {guess.size}, input {shape}" if shape else ""
    doubt = f"{guess.doubt}; likeliest  " * bool(guess.doubt)
    return printable(f"{guess.path}  {doubt}{named}{seen}")
