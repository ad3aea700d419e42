"""`tellapart predict`."""

import json
from pathlib import Path

import click

from tellapart.cli.options import device_option, json_option, runs_option
from tellapart.recipe import printable


@click.command("predict", epilog="Example: tellapart predict RUN dog.png FOLDER")
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True)
@click.option("--top-k", default=3, show_default=True, type=click.IntRange(1), help="How many classes to name.")
@click.option("--precision", type=float, help="Answer only where answers are right so often: 0.9, 0.95 or 0.99.")
@click.option("--views", default="", metavar="KINDS", help="Answer by several views of each: mirror, shift, or both.")
@click.option("-v", "--verbose", is_flag=True, help="Also print the size of the file and the shape of the input.")
@device_option
@runs_option
@json_option
def command(
    model: str,
    pictures: tuple[str, ...],
    top_k: int,
    precision: float | None,
    views: str,
    verbose: bool,
    device: str,
    runs: Path,
    as_json: bool,
) -> int:
    """Say what is on PICTURES (files or folders), by MODEL: a run, or a model.safetensors.

    A picture that is like none of the classes is called unknown, with the reason. Where a picture may have several
    classes, all are named of which the probability reaches the threshold of the class. A file that cannot be read is
    named in the answer, and the exit code is then 3. Pictures that the run has seen, or keeps sealed, are counted
    beneath it.
    """
    from tellapart.evaluation.views import kinds_of
    from tellapart.workflow import devices
    from tellapart.workflow.models import find_model, run_of
    from tellapart.workflow.openings import looked
    from tellapart.workflow.predict import Classifier, files_of

    bundle, name = find_model(runs, model)
    more = {"top_k": top_k, "precision": precision, "kinds": kinds_of(views)}
    guesses = list(Classifier(bundle, device=devices.choose(device)).each(files_of(pictures), **more))
    run = run_of(runs, model)
    notes = looked(run, [guess.digest for guess in guesses]) if run else []
    if as_json:
        answer = {"format": 1, "model": name, "predictions": [as_data(guess) for guess in guesses], "notes": notes}
        click.echo(json.dumps(answer, indent=1))
    else:
        shape = (1, bundle.preprocess.channels, bundle.preprocess.size, bundle.preprocess.size)
        for guess in guesses:
            click.echo(line(guess, shape if verbose else None))
        click.echo("".join(f"{note}\n" for note in notes), err=True, nl=False)
    return 3 if any(guess.error for guess in guesses) else 0


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
