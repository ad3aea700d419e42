"""`tellapart predict`."""

import json
import sys
from collections import Counter, deque
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tellapart.cli.bar import download_bar
from tellapart.cli.options import PATH, device_option, json_option, runs_option
from tellapart.errors import DataError, UsageError
from tellapart.recipe import printable

if TYPE_CHECKING:
    from tellapart.run import Run
    from tellapart.workflow.predict import Classifier


@click.command("predict", epilog="Example: tellapart predict RUN dog.png FOLDER")
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True)
@click.option("--top-k", type=click.IntRange(1), help="How many classes to name; 3, and with --out all of them.")
@click.option("--out", type=PATH, metavar="FILE", help="Write it to a .csv or .jsonl; once stopped, it goes on there.")
@click.option("--precision", type=float, help="Answer only where answers are right so often: 0.9, 0.95 or 0.99.")
@click.option("--views", default="", metavar="KINDS", help="Answer by several views of each: mirror, shift, or both.")
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
    from tellapart.workflow.models import find_model, run_of
    from tellapart.workflow.predict import Classifier

    bundle, name = find_model(runs, model)
    more = {"top_k": top_k or (3 if out is None else len(bundle.classes)), "precision": precision}
    more["kinds"] = kinds_of(views)
    every = asked_for(pictures, sys.stdin.buffer)
    ready = Classifier(bundle, device=devices.choose(device))
    if out is not None:
        refuse_both(as_json, verbose)
        return to_file(ready, every, out, more, pictures, run_of(runs, model))
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


def to_file(
    ready: "Classifier", every: Iterator, out: Path, more: dict, words: tuple[str, ...], run: "Run | None"
) -> int:
    """Write the answers to a file, from where it stands; say how many there are of each kind."""
    from tellapart.workflow.answering import Answers, begun, identity, left, write
    from tellapart.workflow.openings import looked

    answers, counts = Answers(out, ready.classes), Counter()
    made_by = {"model": identity(ready.bundle), "set of options": {**more, "kinds": list(more["kinds"])}}
    begun(answers, {"format": 1, **made_by, "list of pictures": list(words)})
    coming = left(answers, every, counts)
    first = list(islice(coming, 1))
    if before := counts.total():
        click.echo(f"{out} has {before:,} pictures already", err=True)
    elif not first:
        raise DataError("No files were found there.", "Name pictures, or folders of them.")
    with download_bar() as show:
        digests = write(answers, ready.each(chain(first, coming), **more, digests=run is not None), counts)
        shown = (show(counts.total(), None, "pictures") or digest for digest in digests)
        notes = looked(run, shown) if run else [] * len(deque(shown, maxlen=0))
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("answered", "unknown", "unsure", "unreadable"))
    click.echo(f"{out}: {counts.total():,} pictures: {kinds}")
    click.echo("".join(f"{note}\n" for note in notes), err=True, nl=False)
    return 3 if counts["unreadable"] else 0


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
    if guess.error:
        return printable(f"{guess.path}  cannot be read: {guess.error}")
    shown = guess.top if guess.said is None else guess.said or guess.top[:1]
    named = "  ".join(f"{name} ({number}) {100 * share:.1f} %" for name, number, share in shown)
    if guess.said == ():
        named = f"none of the classes; likeliest  {named}"
    seen = f"  size {guess.size}, input {shape}" if shape else ""
    doubt = f"{guess.doubt}; likeliest  " * bool(guess.doubt)
    return printable(f"{guess.path}  {doubt}{named}{seen}")
