"""`tellapart test`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tellapart.cli.judged_more import asked_for
from tellapart.cli.options import PATH, device_option, json_option, on_bad_option, root_option, runs_option
from tellapart.cli.recipe_flags import LABELLING, flags_of, given
from tellapart.errors import UsageError, refuse_marks
from tellapart.recipe import Recipe, printable

if TYPE_CHECKING:
    from tellapart.evaluation.predictions import Predictions


@click.command(
    "test", epilog="Examples: tellapart test RUN · tellapart test RUN --mistakes wrong.png · tellapart test RUN FOLDER"
)
@click.argument("model")
@click.argument("source", required=False)
@click.option("--mistakes", type=PATH, metavar="FILE.png", help="Draw the mistakes, the surest first.")
@click.option(
    "--losses", type=PATH, metavar="FILE.csv", help="List every picture with its own loss, the largest first."
)
@click.option("--robustness", is_flag=True, help="Judge validation pictures that are blurred, noisy, turned and more.")
@click.option("--views", metavar="KINDS", help="What several views would gain: mirror, shift or mirror,shift.")
@click.option(
    "--slice", "slices", multiple=True, metavar="BY", help="By size, aspect, brightness, group or FILE.csv:COLUMN."
)
@root_option
@flags_of(*LABELLING, "data.group_by")
@on_bad_option
@device_option
@runs_option
@json_option
def command(
    model: str,
    source: str | None,
    mistakes: Path | None,
    losses: Path | None,
    robustness: bool,
    views: str | None,
    slices: tuple[str, ...],
    root: str,
    on_bad: str,
    device: str,
    runs: Path,
    as_json: bool,
    **flags: Any,
) -> None:
    """Judge MODEL on the sealed test part of its run, which opens it; or on the labelled pictures of SOURCE.

    A test part that the run has opened already is not opened again: the stored predictions are judged. --robustness and
    --views are of validation, and open nothing by themselves.
    """
    if source is None and (root or on_bad != "stop" or any(value is not None for value in flags.values())):
        raise UsageError(
            "--root, --on-bad, --group-by and how labels are read are for other pictures; a run has its own.",
            "Name a SOURCE, or leave them.",
        )
    if source is not None and (robustness or slices or views):
        raise UsageError(
            "--robustness, --views and --slice are of a run and its own pictures.", "Leave out the SOURCE."
        )
    refuse_wrong(mistakes, losses, slices, views)
    _refuse_marks(model, runs, {"--slice": slices, "--views": views, "--robustness": robustness})
    predictions, answer, lines = None, {}, []
    if source is None and not ((robustness or views) and not (mistakes or losses or slices)):
        answer, lines, predictions = own_part(model, runs, device)
    elif source is not None:
        other = given(flags, {"data.source": source, "data.root": root, "data.on_bad": on_bad})
        answer, lines, predictions = other_pictures(model, other, runs, device)
    if mistakes is not None and predictions is not None:
        lines += mistake_lines(predictions, mistakes, answer["judgement"])
    if losses is not None and predictions is not None:
        lines += loss_lines(predictions, losses, answer["judgement"])
    more, table = asked_for(model, runs, device, predictions, slices=slices, views=views, robustness=robustness)
    answer, lines = {**answer, **more}, [*lines, *table]
    click.echo(json.dumps(answer, indent=1) if as_json else "\n".join(lines).lstrip("\n"))


def refuse_wrong(mistakes: Path | None, losses: Path | None, slices: tuple[str, ...], views: str | None) -> None:
    """Raises UsageError for what cannot be done, before a test part is opened for it."""
    from tellapart.evaluation.views import kinds_of
    from tellapart.workflow.slicing import refuse_unknown

    for path in (mistakes, losses):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"There is no folder {path.absolute().parent}.", "Make it, or name another file.")
    for by in slices:
        refuse_unknown(by)
    if views is not None and not kinds_of(views):
        raise UsageError("--views names no views.", "Name mirror or shift, or both: mirror,shift.")


def _refuse_marks(model: str, runs: Path, asked: Mapping[str, Any]) -> None:
    """Raises UsageError for what was asked for and needs one class for each picture."""
    from tellapart.workflow.models import is_marked

    for flag, value in asked.items():
        refuse_marks(value and is_marked(runs, model), flag, "Leave it out.")


def own_part(model: str, runs: Path, device: str) -> tuple[Mapping[str, Any], list[str], "Predictions"]:
    """The judgement of a run on its own test part: as a document, as lines, and what it rests on."""
    from tellapart.cli.judged import judgement_lines
    from tellapart.cli.show import as_document, class_table, verdict_lines
    from tellapart.evaluation.marks import Marked
    from tellapart.run import Run
    from tellapart.workflow import devices
    from tellapart.workflow.judge import judge_run

    judged = judge_run(Run.open(runs, model), device=devices.choose(device))
    found = judged.judgement
    table = [] if isinstance(found, Marked) else [*class_table(judged.verdict), ""]
    lines = [*verdict_lines(judged.verdict), "", *table, *judgement_lines(found)]
    for note in judged.notes:
        click.echo(f"note: {note}", err=True)
    return {**as_document(judged.verdict), "judgement": found.to_json()}, lines, judged.predictions


def other_pictures(
    model: str, asked: Recipe, runs: Path, device: str
) -> tuple[Mapping[str, Any], list[str], "Predictions"]:
    """The same for the labelled pictures of another source."""
    from tellapart.cli.judged import judgement_lines
    from tellapart.evaluation.metrics import document, judge, judge_classes
    from tellapart.workflow import devices
    from tellapart.workflow.judge import judge_elsewhere
    from tellapart.workflow.models import find_model, run_of

    bundle, name = find_model(runs, model)
    run, source = run_of(runs, model), asked.data.source
    found = judge_elsewhere(bundle, asked, run=run, device=devices.choose(device))
    figures, by_class = judge(found.predictions), judge_classes(found.predictions)
    more = {"model": name, "source": source, "notes": found.notes, "judgement": found.judgement.to_json()}
    lines = [*found.notes, *elsewhere_lines(source, bundle.classes, figures, [] if bundle.thresholds else by_class)]
    answer = document([*figures, *by_class], **more)
    return answer, [*lines, "", *judgement_lines(found.judgement)], found.predictions


def mistake_lines(predictions: "Predictions", path: Path, judgement: Mapping[str, Any], *, most: int = 10) -> list[str]:
    """Draw the mistakes, and name the surest with their files; those of the largest loss where a picture may have
    several classes.
    """
    from tellapart.workflow.mistakes import draw_mistakes, worst_first, worst_marked

    if predictions.marks is None:
        found = worst_first(predictions, judgement["answering"]["temperature"])
    else:
        found = worst_marked(predictions, [one["value"] for one in judgement["thresholds"]])
    count = draw_mistakes(predictions, path, found)
    among = f"{len(predictions):,} pictures of the {predictions.part} part"
    if not count:
        return ["", f"no mistake among {among}; nothing is drawn"]
    named = [printable(f"{', '.join(text.splitlines())}  {predictions.keys[row]}") for row, text in found[:most]]
    what = "mistake{}" if predictions.marks is None else "picture{} with a wrong class"
    return ["", *named, "", f"{count} {what.format('s' * (count > 1))} among {among}: {path.absolute()}"]


def loss_lines(predictions: "Predictions", path: Path, judgement: Mapping[str, Any]) -> list[str]:
    """Write every picture with its own loss, and say where."""
    from tellapart.files import csv_text, write_result
    from tellapart.workflow.mistakes import by_loss, by_loss_marked

    if predictions.marks is None:
        text = csv_text(("key", "class", "said", "probability of the class", "loss"), by_loss(predictions))
    else:
        rows = by_loss_marked(predictions, [one["value"] for one in judgement["thresholds"]])
        text = csv_text(("key", "classes", "said", "loss"), rows)
    write_result(path, text)
    return ["", f"{len(predictions):,} pictures of the {predictions.part} part by their own loss: {path.absolute()}"]


def elsewhere_lines(source: str, classes: tuple[str, ...], figures: list, by_class: list) -> list[str]:
    """The judgement on other pictures for a person."""
    from tellapart.cli.show import class_table, percent
    from tellapart.workflow.events import Verdict

    verdict = Verdict(run="", called="", folder="", model="", classes=classes, figures=figures, by_class=by_class)
    score = figures[0]
    said = f"{score.name} on {source}  {percent(score)}  (95 % interval, n = {score.n:,})"
    return [said, "", *class_table(verdict)] if by_class else [said]
