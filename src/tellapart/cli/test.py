"""`tellapart test`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tellapart.cli.options import device_option, json_option, on_bad_option, root_option, runs_option
from tellapart.errors import UsageError

if TYPE_CHECKING:
    from tellapart.evaluation.predictions import Predictions


@click.command(
    "test", epilog="Examples: tellapart test RUN · tellapart test RUN --mistakes wrong.png · tellapart test RUN FOLDER"
)
@click.argument("model")
@click.argument("source", required=False)
@click.option(
    "--mistakes", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the mistakes, the surest first."
)
@root_option
@on_bad_option
@device_option
@runs_option
@json_option
def command(
    model: str,
    source: str | None,
    mistakes: Path | None,
    root: str,
    on_bad: str,
    device: str,
    runs: Path,
    as_json: bool,
) -> None:
    """Judge MODEL on the sealed test part of its run, which opens it; or on the labelled pictures of SOURCE.

    A test part that the run has opened already is not opened again: the stored predictions are judged.
    """
    from tellapart.cli.show import as_document, class_table, verdict_lines
    from tellapart.evaluation.metrics import document, judge, judge_classes
    from tellapart.run import Run
    from tellapart.workflow import devices
    from tellapart.workflow.judge import draw_mistakes, judge_elsewhere, judge_run
    from tellapart.workflow.models import find_model

    where = devices.choose(device)
    if source is None:
        if root or on_bad != "stop":
            raise UsageError(
                "--root and --on-bad are for other pictures; the run has its own.", "Name a SOURCE, or leave them."
            )
        judged = judge_run(Run.open(runs, model), device=where)
        predictions, answer = judged.predictions, as_document(judged.verdict)
        lines = [*verdict_lines(judged.verdict), "", *class_table(judged.verdict)]
    else:
        bundle, name = find_model(runs, model)
        run = None if Path(model).is_file() else Run.open(runs, model)
        found = judge_elsewhere(bundle, source, run=run, root=root, device=where, skip_bad=on_bad == "skip")
        predictions = found.predictions
        figures, by_class = judge(predictions), judge_classes(predictions)
        answer = document([*figures, *by_class], model=name, source=source, notes=found.notes)
        lines = [*found.notes, *elsewhere_lines(source, predictions.classes, figures, by_class)]
    if mistakes is not None:
        count = draw_mistakes(predictions, mistakes)
        among = f"{len(predictions):,} pictures of the {predictions.part} part"
        drawn = f"{count} mistake{'s' * (count > 1)} among {among}: {mistakes.absolute()}"
        lines += ["", *mistake_lines(predictions)] if count else []
        lines += ["", drawn if count else f"no mistake among {among}; nothing is drawn"]
    click.echo(json.dumps(answer, indent=1) if as_json else "\n".join(lines))


def mistake_lines(predictions: "Predictions", *, most: int = 10) -> list[str]:
    """The surest mistakes with their files."""
    from tellapart.workflow.judge import worst_first

    return [f"{text}  {predictions.keys[row]}" for row, text in worst_first(predictions)[:most]]


def elsewhere_lines(source: str, classes: tuple[str, ...], figures: list, by_class: list) -> list[str]:
    """The judgement on other pictures for a person."""
    from tellapart.cli.show import class_table, percent
    from tellapart.workflow.events import Verdict

    verdict = Verdict(run="", called="", folder="", model="", classes=classes, figures=figures, by_class=by_class)
    accuracy = figures[0]
    return [
        f"accuracy on {source}  {percent(accuracy)}  (95 % interval, n = {accuracy.n:,})",
        "",
        *class_table(verdict),
    ]
