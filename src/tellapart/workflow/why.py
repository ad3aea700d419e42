"""Why did it say that? Of files, or of the mistakes of a run: where the model looks, and what is like them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tellapart.data.decode import decode
from tellapart.data.identity import digest
from tellapart.data.pictures import Pictures
from tellapart.data.square import covered
from tellapart.errors import DataError, MismatchError, TellapartError, UsageError
from tellapart.evaluation.marks import called, wrong_classes, wrong_pictures
from tellapart.evaluation.predictions import Predictions
from tellapart.figures.heat import Row, heat_sheet, over, sized
from tellapart.figures.inert import in_line
from tellapart.models.bundle import Bundle
from tellapart.preprocess import Preprocess
from tellapart.recipe import printable
from tellapart.run import Run
from tellapart.workflow.begin import recipe_of, same_pictures
from tellapart.workflow.final import opened
from tellapart.workflow.heat import kept_more
from tellapart.workflow.looking import Eye, Heat, Progress, Seen, Subject, Way, explain
from tellapart.workflow.mistakes import worst_first
from tellapart.workflow.nearest import Near, nearest_of
from tellapart.workflow.openings import has_opened, looked

NONE = "No nearest training pictures: "
CHOOSE_NOTHING = "choose nothing by what is seen of test pictures: they would be no test any more"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is said of pictures: of each whole one what was seen in it and what is near it, by which way; notes; and the
    files that are no pictures, each with the reason.
    """

    way: Way
    seen: list[Seen]
    near: list[list[Near]]
    notes: list[str]
    broken: list[tuple[str, str]]


def why_pictures(
    eye: Eye, paths: Sequence[Path], *, run: Run | None, wanted: str = "", method: str = "auto", nearest: int = 5
) -> Answer:
    """Why the model says what it says of files. Without its run, or where the run's pictures are gone, no training
    picture is named, and a note says so.
    """
    subjects, broken = _of_files(paths)
    seen, way = explain(eye, subjects, wanted=wanted, method=method)
    notes, near = looked(run, [digest(one.pixels).hex() for one in subjects]) if run else [], [[] for _ in seen]
    if nearest and seen and run is None:
        notes.append(f"{NONE}this is a model file without its run.")
    elif nearest and seen and run is not None:
        try:
            near, about = nearest_of(eye, subjects, pictures_of(run, eye.bundle.preprocess, eye.progress), nearest)
        except TellapartError as error:
            about = f"{NONE}{error.message}"
        notes.append(about)
    return Answer(way=way, seen=seen, near=near, notes=notes, broken=broken)


def why_mistakes(
    eye: Eye,
    run: Run | None,
    most: int,
    *,
    part: str = "validation",
    wanted: str = "",
    method: str = "auto",
    nearest: int = 5,
) -> Answer:
    """Why a run made its surest mistakes in validation, or in a test `part` that it has opened: nothing is opened here.
    Where a picture may have several classes, why it is wrong about those that it is, the largest loss first.

    Raises UsageError for a model without its run, or a test part that is sealed, MismatchError when the pictures are no
    longer those of the run.
    """
    if run is None:
        raise UsageError("Only a run has mistakes of its own; this is a model file.", "Name the run, or pictures.")
    if part == "test":
        _refuse_sealed(run)
    own = pictures_of(run, eye.bundle.preprocess, eye.progress)
    said = Predictions.load(run.predictions(part))
    rows, about = _mistakes(said, most, eye.bundle)
    subjects = _subjects(run, opened(run, own)[1] if part == "test" else own, said, rows, eye.bundle)
    seen, way = explain(eye, subjects, wanted=wanted, method=method)
    near, notes = [[] for _ in seen], [about, *[CHOOSE_NOTHING] * (part == "test")]
    if (
        method == "auto"
        and not wanted
        and said.marks is None
        and (kept := kept_more(run, said, rows, seen, way.method))
    ):
        notes.append(kept)
    if nearest and seen:
        near, how = nearest_of(eye, subjects, own, nearest)
        notes.append(how)
    return Answer(way=way, seen=seen, near=near, notes=notes, broken=[])


def _refuse_sealed(run: Run) -> None:
    """Raises UsageError unless the run has a test part, opened it, and the ledger says so."""
    called, part = run.called, run.status().get("test_part")
    if not part:
        raise UsageError(f"The run {run.name} has no test part.", "Leave --part out: its mistakes are of validation.")
    if not run.predictions("test").is_file():
        hint = f"`tellapart test {called}` opens it, and writes down that it did."
        raise UsageError(f"The test part of {run.name} is sealed, and to explain its mistakes opens nothing.", hint)
    if not has_opened(run, part):
        ledger = printable(str(run.home / "openings.jsonl"))
        said = f"The ledger {ledger} does not say that {run.name} opened its test part."
        raise UsageError(said, "Bring the ledger along with the run; mistakes in validation need none.")


def pictures_of(run: Run, preprocess: Preprocess, progress: Progress) -> Pictures:
    """The pictures of the run, sealed, as its model takes them."""
    prepared = same_pictures(run, recipe_of(run), progress=lambda done, total: progress(done, total, "pictures"))
    return replace(prepared.pictures, preprocess=preprocess)


def _of_files(paths: Sequence[Path]) -> tuple[list[Subject], list[tuple[str, str]]]:
    found, broken = [], []
    for path in paths:
        try:
            if not path.is_file():
                raise DataError("It is not a regular file.")
            found.append(Subject(name=str(path), pixels=decode(path.read_bytes())))
        except (DataError, OSError) as error:
            broken.append((str(path), getattr(error, "message", str(error))))
    return found, broken


def _mistakes(said: Predictions, most: int, bundle: Bundle) -> tuple[list[int], str]:
    """The rows of the surest mistakes, and among how many."""
    if said.marks is None:
        wrong, order = [row for row, _ in worst_first(said, bundle.temperature)], "the surest"
        count = f"{len(wrong):,} mistake{'s' * (len(wrong) != 1)}"
    else:
        wrong, order = wrong_pictures(said, called(said.logits, bundle.thresholds)), "the largest loss"
        count = f"{len(wrong):,} picture{'s' * (len(wrong) != 1)} with a wrong class"
    shown = wrong[:most]
    return shown, f"{count} among {len(said):,} {said.part} pictures; shown: {len(shown)}, {order} first"


def _subjects(run: Run, pictures: Pictures, said: Predictions, rows: Sequence[int], bundle: Bundle) -> list[Subject]:
    """The pictures of some predictions, from their files. Raises MismatchError for one that is not there any more."""
    at = {key: row for row, key in enumerate(pictures.index.keys)}
    if lost := next((key for key in said.keys if key not in at), ""):
        raise MismatchError(f"{printable(lost)} was judged, and is not among the pictures of {run.name} any more.")
    read, keys = pictures.index.store.read, [said.keys[row] for row in rows]
    known = [_known(said, row, bundle) for row in rows]
    return [Subject(name=key, pixels=decode(read(at[key])), **own) for key, own in zip(keys, known, strict=True)]


def _known(said: Predictions, row: int, bundle: Bundle) -> dict[str, Any]:
    """Which class a picture has; where it may have several, which, and which of the answers are wrong."""
    if said.marks is None:
        return {"true": said.classes[said.labels[row]]}
    has = np.flatnonzero(said.marks[row]).tolist()
    wrong = wrong_classes(said, called(said.logits[row], bundle.thresholds), row)
    return {"has": tuple(said.classes[k] for k in has), "wrong": tuple(said.classes[k] for k in wrong)}


def title(one: Seen) -> str:
    """What was said of a picture: 'ants/1.jpg: bee 93.1 %; it is ant'; of several: '1.jpg: cat 93.1 %, dog 80.0 %',
    and of a mistake '; missed: fox; wrongly said: cat'.
    """
    true = f"; it is {in_line(one.subject.true)}" if one.subject.true else ""
    for what, names in (("missed", one.subject.missed), ("wrongly said", one.subject.wrongly_said)):
        true += f"; {what}: {', '.join(map(in_line, names))}" if names else ""
    said = ", ".join(f"{in_line(name)} {100 * share:.1f} %" for name, share in one.every or [(one.said, one.share)])
    return printable(f"{one.subject.name}: {'none of the classes; likeliest ' * (one.every == ())}{said}{true}")


def verdict(heat: Heat) -> str:
    """For which class the heat is, and whether it means anything."""
    name = in_line(heat.name)
    return printable(f"{name}: {heat.trust.verdict(name)}")


def sheet(answer: Answer, eye: Eye) -> Image.Image:
    """A row for each picture: as it is, with the heat for each class, and its nearest training pictures."""
    return heat_sheet([_row(one, near, eye) for one, near in zip(answer.seen, answer.near, strict=True)])


def _row(one: Seen, near: Sequence[Near], eye: Eye) -> Row:
    pixels = one.subject.pixels
    box = covered(pixels.shape[1], pixels.shape[0], eye.bundle.preprocess)
    tiles = [(sized(pixels), "the picture")]
    for heat in one.heats:
        means = "means nothing" if heat.trust.why_nothing else "informative"
        caption = printable(f"heat for {heat.name}") + f"\n{100 * heat.trust.probability:.1f} %, {means}"
        tiles.append((over(pixels, *heat.drawn(), box), caption))
    tiles += [(sized(n.square), f"{printable(n.name)}, {n.distance:.2f}\n{printable(n.key)}") for n in near]
    return Row(
        title=title(one), tiles=tiles, said=[line for heat in one.heats for line in (verdict(heat), heat.trust.numbers)]
    )


def document(answer: Answer, model: str) -> dict[str, Any]:
    """What `--json` prints: of each heat map its fields too, from the top row on."""
    place = answer.way.place
    at = {"layer": place.path, "kind": place.kind, "places": [place.side, place.side]} if place else {}
    return {
        "format": 1,
        "model": model,
        "method": answer.way.method,
        **at,
        "pictures": [_entry(one, near) for one, near in zip(answer.seen, answer.near, strict=True)],
        "unreadable": [{"path": path, "error": error} for path, error in answer.broken],
        "notes": answer.notes,
    }


def _of_several(one: Subject) -> dict[str, Any]:
    return {"classes": list(one.has or ()), "missed": one.missed, "wrongly_said": one.wrongly_said}


def _entry(one: Seen, near: Sequence[Near]) -> dict[str, Any]:
    return {
        "path": one.subject.name,
        "said": one.said,
        "probability": one.share,
        **({} if one.every is None else {"every": [{"class": name, "probability": p} for name, p in one.every]}),
        **({"class": one.subject.true} if one.subject.true else {}),
        **({} if one.subject.has is None else _of_several(one.subject)),
        "heat": [{**heat.to_json(), "fields": heat.fields.tolist()} for heat in one.heats],
        "nearest": [{"key": n.key, "class": n.name, "distance": n.distance} for n in near],
    }
