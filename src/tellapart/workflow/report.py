"""Report: report.html from a run folder alone: no pictures, no weights, no torch, and no seal is opened."""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.errors import StorageError, UsageError
from tellapart.evaluation.alikes import Alikes
from tellapart.evaluation.judgement import judged
from tellapart.evaluation.looks import Looks
from tellapart.evaluation.marks import judged_marks, thresholds
from tellapart.evaluation.metrics import Figure
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.promises import Answering
from tellapart.evaluation.several import Spread
from tellapart.files import read_text, write_result
from tellapart.names import PARTS
from tellapart.recipe import Recipe
from tellapart.recipe_values import origins_of
from tellapart.reporting.evidence import Evidence, Marked, Training
from tellapart.reporting.marked import chapters as marked_chapters
from tellapart.reporting.marked import unknown as marked_unknown
from tellapart.reporting.report import report, report_marked, report_of_several
from tellapart.reporting.story import Sentence, story, unknown
from tellapart.run import Run, json_object
from tellapart.workflow.openings import opened_before
from tellapart.workflow.recipes import recipe_text

FILE = "report.html"
MANY = 20_000
"""Lines of log.txt that are looked through for what was left out."""


@dataclass(frozen=True)
class Reported:
    """Where the page is, how many bytes it has, and what it says in words: the story, and what is not known."""

    file: Path
    size: int
    story: tuple[str, ...]
    unknown: tuple[str, ...]


def write_report(run: Run, out: Path | None = None) -> Reported:
    """Write the report of a training, or of several, beside what it is made of, or to `out`.

    Raises UsageError for a run that is not finished, StorageError for what is damaged or cannot be written.
    """
    file = (out or run.folder / FILE).absolute()
    if run.several:
        text, said, left = _several(run), (), ()
    elif isinstance(of := evidence_of(run), Marked):
        chapters, limits = marked_chapters(of), marked_unknown(of)
        text, said, left = report_marked(of), _told(one for each in chapters for one in each), _told(limits)
    else:
        text, said, left = report(of), _told(story(of)), _told(unknown(of))
    raw = text.encode("utf-8")
    write_result(file, raw)
    return Reported(file, len(raw), said, left)


def _told(sentences: Iterable[Sentence]) -> tuple[str, ...]:
    """The sentences in English."""
    return tuple(one.text[0] for one in sentences)


def evidence_of(run: Run) -> Training:
    """What stands in the folder of a finished run. The test is judged where it was opened, else validation.

    Raises UsageError for a run that is not finished.
    """
    validation = _validation(run)
    return _evidence_of(run, validation) if validation.marks is None else _marked_of(run, validation)


def _validation(run: Run) -> Predictions:
    """What a finished run said of validation. Raises UsageError for any other run."""
    if (state := run.status().get("state")) != "finished":
        hint = f"`tellapart resume {run.called}` goes on with it." if (run.folder / "recipe.toml").is_file() else ""
        if found := run.status().get("diagnosis"):
            hint = f"Its training ended badly; train anew with {' '.join(found[0]['remedies']) or 'another recipe'}."
        raise UsageError(f"The run {run.name} is {state}, so there is nothing to report yet.", hint)
    return Predictions.load(run.predictions("validation"))


def _evidence_of(run: Run, validation: Predictions) -> Evidence:
    shown = _shown(run, validation)
    return Evidence(
        **_facts(run, shown),
        judgement=judged(shown, Answering.of(validation)),
        looks=Looks.load(run.heat(shown.part), shown),
        alikes=Alikes.load(run.nearest(shown.part), shown),
    )


def _marked_of(run: Run, validation: Predictions) -> Marked:
    shown = _shown(run, validation)
    return Marked(
        **_facts(run, shown),
        judgement=judged_marks(shown, thresholds(validation), fitted_here=shown is validation),
    )


def _shown(run: Run, validation: Predictions) -> Predictions:
    """The predictions that are judged."""
    opened = run.predictions("test").is_file()
    return Predictions.load(run.predictions("test")) if opened else validation


def _facts(run: Run, shown: Predictions) -> dict[str, Any]:
    """What both kinds of evidence share."""
    status = run.status()
    opened = shown.part == "test" and _in_ledger(run)
    before, seen = opened_before(run, status.get("test_part", "")) if opened else (None, 0)
    text, counts = recipe_text(run), _split(run, () if shown.marks is None else shown.classes)
    log = read_text(run.folder / "log.txt", errors="surrogateescape").splitlines()[:MANY]
    return {
        "name": run.name,
        "status": status,
        "recipe": Recipe.from_toml(text, where=str(run.folder / "recipe.toml")),
        "recipe_text": text,
        "origins": origins_of(text),
        "command": _text(run, "command.txt"),
        "environment": json_object(_text(run, "environment.json")) or {},
        "counts": counts[0],
        "groups": counts[1],
        "left_out": tuple(_left_out(log)),
        "remarks": tuple(_remarks(log)),
        "epochs": [record for _, record in run.records() if record["kind"] == "epoch"],
        "shown": shown,
        "opened_before": before,
        "seen_before": seen,
        "siblings": _siblings(run),
        "robustness": _robustness(run, shown.part),
        "network": json_object(_text(run, "network.json")) or {},
    }


def _siblings(run: Run) -> int:
    """The trainings beside a run, of the same recipe, with other seeds."""
    path = run.folder.parent / "summary.json"
    found = json_object(read_text(path)) if path.is_file() else None
    members = (found or {}).get("members", ())
    own = {one["seed"] for one in members if one["run"] == run.folder.name}
    return sum(one["seed"] not in own for one in members) if own else 0


def _text(run: Run, file: str) -> str:
    """A text of the run, or nothing where it has none."""
    path = run.folder / file
    return read_text(path, errors="surrogateescape") if path.is_file() else ""


def _in_ledger(run: Run) -> bool:
    """Whether the ledger beside the run knows of it: a folder that was copied elsewhere leaves it behind."""
    ledger, own = run.home / "openings.jsonl", run.status().get("id")
    return bool(own) and ledger.is_file() and str(own) in read_text(ledger)


def _split(run: Run, several: Sequence[str]) -> tuple[Mapping[str, Mapping[str, int]], int | None]:
    """The pictures of each class in each part, and the number of groups, None where no picture names one. `several`:
    the classes, where a picture may have more than one and counts for each.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    groups, alone = set[str](), 0
    for row in csv.DictReader(io.StringIO(_text(run, "split.csv"))):
        if row.get("part") in PARTS:
            counts[row["part"]].update(_classes_of(row["class"], several))
            alone += not row["group"]
            groups.add(row["group"])
    groups.discard("")
    return counts, len(groups) + alone if groups else None


def _classes_of(text: str, several: Sequence[str]) -> list[str]:
    """The classes of a row of split.csv: 'cat + dog' names two where a picture may have several."""
    return [text] if not several or text in several else text.split(" + ")


def _left_out(log: list[str]) -> Iterator[tuple[str, str]]:
    """The files that were left out, with the reason, each once."""
    for line in dict.fromkeys(line.removeprefix("note: ") for line in log):
        key, colon, reason = line.removeprefix("left out: ").partition(": ")
        if line.startswith("left out: ") and colon:
            yield key, reason


def _remarks(log: list[str]) -> Iterator[str]:
    """What was said of the pictures before the second stage."""
    for line in log:
        if line.startswith("2/9"):
            return
        kind = next((kind for kind in ("    ", "note: ") if line.startswith(kind)), "")
        if kind and not line.startswith("note: left out"):
            yield line.removeprefix(kind)


def _robustness(run: Run, part: str) -> list[Figure]:
    """The accuracies on spoiled pictures that stand in robustness.json; none where it is not there.

    Raises StorageError for one that is damaged.
    """
    path = run.folder / "robustness.json"
    if not path.is_file():
        return []
    found: Mapping[str, Any] = json_object(read_text(path)) or {}
    try:
        return [Figure(**one) for one in found["figures"]]
    except (KeyError, TypeError) as error:
        raise StorageError(f"{path} is damaged: {error}.", "Measure again, or remove it.") from error


def _several(run: Run) -> str:
    """The page of a folder of several trainings, from summary.json."""
    path = run.folder / "summary.json"
    if not path.is_file():
        raise UsageError(f"The trainings in {run.name} are not finished.", f"`tellapart resume {run.called}` goes on.")
    try:
        found = json.loads(read_text(path))
        members = [member(one) for one in found["members"]]
        whole = [one for one in found["out_of_fold"] if one["name"] == "accuracy"]
        pooled = [member({"run": f"out of fold {one['about']}", "seed": "", "figures": [one]}) for one in whole]
        return report_of_several(run.name, members, pooled, [Spread(**one) for one in found["spreads"]])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is damaged: {error}.") from error


def member(one: Mapping[str, Any]) -> list[str]:
    """(name, seed, accuracy, n) of one training, as text."""
    if not one["figures"]:
        return [one["run"], f"{one['seed']}", "–", "–"]
    first = Figure(**one["figures"][0])
    span = f"{100 * first.value:.1f} % [{100 * first.low:.1f}, {100 * first.high:.1f}]"
    return [one["run"], f"{one['seed']}", span, f"{first.n:,}"]
