"""What TensorBoard is given of a whole run: how it was asked for, at the beginning; how it was judged, at the end."""

import html
import re
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import StorageError
from tellapart.evaluation.metrics import Figure, confusion, judge, proportion
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.promises import Answering
from tellapart.evaluation.thresholds import curves
from tellapart.figures.confusion import confusion_picture
from tellapart.figures.grid import grid
from tellapart.files import read_text
from tellapart.names import SCORES
from tellapart.recipe import Recipe, printable
from tellapart.recipe_values import origins_of
from tellapart.reporting.tensorboard import Board, open_board
from tellapart.run import Run
from tellapart.workflow.events import Event, Said, Verdict
from tellapart.workflow.mistakes import worst_first
from tellapart.workflow.recipes import recipe_text
from tellapart.workflow.same import conditions_of, in_words

MISTAKES, CURVES, DRAWN = 40, 100, 1000
"""Mistakes on the sheet, classes with a curve, and classes in a confusion matrix, at most."""
UNCOMPARED = ("data.root", "model.sha256", "train.log_every", "train.board", "train.save_every")
"""Settings that change no result; nor do those of [machine], but for their last bits."""
MARKS = re.compile(r"([\\`*_{}\[\]|#])")
NO_MORE = "the last panels of TensorBoard could not be written: {}"


def settings_of(text: str) -> dict[str, bool | float | str]:
    """The settings of a run's recipe.toml by which trainings are compared, as a table has them. What is open is left
    out, and what is as `augment.preset` says.
    """
    preset = {path for path, origin in origins_of(text).items() if origin.startswith("auto: preset")}
    found = {path: value for path, value in Recipe.from_toml(text).values().items() if value is not None}
    compared = [path for path in found if not path.startswith("machine.") and path not in {*UNCOMPARED, *preset}]
    return {path: _cell(found[path]) for path in compared}


def _cell(value: bool | float | str | tuple[str, ...]) -> bool | float | str:
    value = ", ".join(value) if isinstance(value, tuple) else value
    return printable(value) if isinstance(value, str) else value


def asked_for(board: Board, run: Run) -> None:
    """The recipe, how to repeat the run, and its settings for HParams."""
    text = recipe_text(run)
    board.text("recipe", _verbatim(text))
    board.text("how_to_repeat", repeat_page(run))
    board.began(settings_of(text))


def repeat_page(run: Run) -> str:
    """The commands that made a run and that make it again, where it ran, and on what: a page of markdown."""
    status, where = run.status(), conditions_of(run)
    packages = ", ".join(f"{name} {version}" for name, version in where.get("packages", {}).items())
    counts = ", ".join(f"{n:,} {part}" for part, n in status.get("counts", {}).items())
    said = [f"It ran on {in_words(where)}.", f"Packages: {packages}.", f"Pictures: {counts}."]
    identities = [f"{name} {status[name]}" for name in ("content", "split", "recipe") if status.get(name)]
    return "\n\n".join(
        [
            "This command made the run, in the folder " + _escaped(status.get("at", "")) + ":",
            _verbatim(read_text(run.folder / "command.txt").strip() or "(from Python)"),
            "The same again, compared with it bit by bit:",
            _verbatim(f"tellapart reproduce {run.called}"),
            *map(_escaped, [*said, f"Identities: {', '.join(identities)}."]),
        ]
    )


def with_panels(run: Run, events: Iterator[Event]) -> Iterator[Event]:
    """Pass the events on; before the verdict, put what it rests on into the run's event file, where it has one.

    A run is finished by then: what cannot be written any more is said, and ends nothing.
    """
    for event in events:
        if isinstance(event, Verdict):
            try:
                judged(run, event)
            except StorageError as error:
                yield Said(stage=-1, text=NO_MORE.format(error.message))
        yield event


def judged(run: Run, verdict: Verdict) -> None:
    """Confusion matrix, mistakes and curves of the validation part, those pictures of the test part where it is opened,
    the story, and the results beside the settings.
    """
    if (board := _board(run)) is None:
        return
    validation, step = Predictions.load(run.predictions("validation")), run.status().get("epoch", 0)
    with board:
        board.scalars(step, results(verdict.figures))
        shown = []
        if validation.marks is None:
            at = Answering.of(validation).temperature
            shown += draw(board, validation, step, at)
            if verdict.test == "opened":
                shown += _pictures(board, Predictions.load(run.predictions("test")), step, at, "test_")
        board.text("story", story_page(verdict, shown))
        board.ended()


def opened_later(run: Run, verdict: Verdict) -> None:
    """What a test part adds that is opened after the training: its figures, confusion matrix and mistakes, at the step
    of those of validation, and the story as it is now.
    """
    if (board := _board(run)) is None:
        return
    step = run.status().get("epoch", 0)
    with board:
        board.scalars(step, results([one for one in verdict.figures if one.part == "test"]))
        test = Predictions.load(run.predictions("test"))
        shown = []
        if test.marks is None:
            at = Answering.of(Predictions.load(run.predictions("validation"))).temperature
            shown += _pictures(board, test, step, at, "test_")
        board.text("story", story_page(verdict, shown), step=max(1, step))


def _board(run: Run) -> Board | None:
    """The newest event file of a run, to go on with; None where it has none."""
    files = sorted((run.folder / "tensorboard").glob("events.out.tfevents.*"))
    return open_board(run.folder / "tensorboard", files[-1]) if files else None


def results(figures: list[Figure]) -> dict[str, float]:
    """The figures by which runs are compared, an accuracy with the ends of its interval, by their tags."""
    found = {}
    for figure in figures:
        name = f"best_model/{figure.part}_{figure.name}"
        if figure.name in SCORES:
            found |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
        elif figure.name == "loss":
            found[name] = figure.value
    return found


def draw(board: Board, judged: Predictions, step: int, at: float) -> list[str]:
    """The pictures, at a temperature, and the curves of some predictions; what is shown of how many, in sentences."""
    names, said = [printable(name) for name in judged.classes], judged.logits.argmax(axis=1)
    told, found = _pictures(board, judged, step, at), curves(judged, most=CURVES)
    for k, table in found.items():
        tag = f"classes/{names[k]}{f' ({k})' * (names.count(names[k]) > 1)}"
        board.pr_curve(step, tag, table, about=_about(judged, said, k))
    if left := len(np.unique(judged.labels)) - len(found):
        told.append(f"{len(found)} classes have a curve, those with the lowest F1; {left:,} others have none.")
    return told


def _pictures(board: Board, judged: Predictions, step: int, at: float, lead: str = "") -> list[str]:
    """The confusion matrix and the mistakes; what is shown of how many, in sentences."""
    names, said = [printable(name) for name in judged.classes], judged.logits.argmax(axis=1)
    mistakes, told = worst_first(judged, at), []
    told.append(f"{len(mistakes):,} of {len(judged):,} {judged.part} pictures are answered wrongly")
    told[0] += f"; the {MISTAKES} surest are shown." if len(mistakes) > MISTAKES else "."
    if len(names) <= DRAWN:
        title = f"{judged.part}: accuracy {_with_interval(judge(judged)[0])}"
        picture = confusion_picture(confusion(said, judged.labels, len(names)), names, title=title)
        board.image(f"best_model/{lead}confusion_matrix", np.asarray(picture), step)
    else:
        told.append(f"{len(names):,} classes are too many for a confusion matrix: it is drawn for up to {DRAWN:,}.")
    if mistakes and judged.thumbnails is not None:
        tiles = [judged.thumbnails[row] for row, _ in mistakes[:MISTAKES]]
        captions = ["\n(".join(printable(text).rsplit(" (", 1)) for _, text in mistakes[:MISTAKES]]
        board.image(f"best_model/{lead}mistakes", np.asarray(grid(tiles, captions, tile=112)), step)
    return told


def _about(judged: Predictions, said: NDArray[np.int64], k: int) -> str:
    """What is said beside the curve of a class: its figures where the likeliest class is the answer."""
    own, called = judged.labels == k, said == k
    pair = (
        proportion(name, int((own & called).sum()), int(of.sum()), judged.part)
        for name, of in (("recall", own), ("precision", called))
    )
    return ", ".join(f"{one.name} {_with_interval(one)}" for one in pair if one.n)


def _with_interval(figure: Figure) -> str:
    if figure.name == "loss":
        return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}] (n = {figure.n:,})"
    return f"{100 * figure.value:.1f} % [{100 * figure.low:.1f}, {100 * figure.high:.1f}] (n = {figure.n:,})"


def story_page(verdict: Verdict, shown: list[str]) -> str:
    """What may be said of a run, as a page of markdown: figures with their intervals, findings, what was not tested."""
    table = ["| | value [95 % interval] |", "|---|---|"]
    table += [f"| {one.part} {one.name} | {_escaped(_with_interval(one))} |" for one in verdict.figures]
    found = [f"- {_escaped(one.line())}" for one in verdict.diagnosis]
    return "\n\n".join(["\n".join(table), "\n".join(found), *shown, _of_test(verdict)])


def _of_test(verdict: Verdict) -> str:
    """How it stands with the test part, in a sentence."""
    said: Mapping[str, str] = {
        "none": "There is no sealed test part: every number here is of pictures by which the model was chosen.",
        "sealed": "The test part is still sealed: these numbers are of pictures by which the model was chosen.",
        "opened": "The curves here are of the validation part; of the test part there are figures and, under the tags "
        "test_…, its confusion matrix and its mistakes.",
    }
    times = len(verdict.opened_before or [])
    again = f" It was opened {times} times before: the more often, the less it is a test."
    return said[verdict.test] + again.replace("1 times", "once") * (times > 0)


def _escaped(text: str) -> str:
    """Text that markdown shows as it is."""
    return MARKS.sub(r"\\\1", html.escape(printable(text), quote=False))


def _verbatim(text: str) -> str:
    """Lines that markdown shows as they are, as a block of code."""
    return "\n".join(f"    {printable(line)}" for line in text.splitlines())
