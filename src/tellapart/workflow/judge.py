"""Judge: open the sealed part of a finished run, once; or judge a model on other labelled pictures."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tellapart.data import identity
from tellapart.data.cache import default_room
from tellapart.data.index import Index, with_marks
from tellapart.data.pictures import first_pass, memory_budget
from tellapart.data.select import refuse_empty, relabelled
from tellapart.data.split import grouped
from tellapart.errors import DataError, StorageError, UsageError, did_you_mean
from tellapart.evaluation.judgement import Judgement, judged
from tellapart.evaluation.marks import (
    Marked,
    Threshold,
    judged_marks,
    thresholds,
)
from tellapart.evaluation.metrics import judge, judge_classes
from tellapart.evaluation.predict import predict_part
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.promises import Answering
from tellapart.models.bundle import Bundle, load_bundle
from tellapart.names import PARTS
from tellapart.recipe import Machine, Recipe
from tellapart.reporting.diagnosis import Finding, tuned
from tellapart.run import Run, cores
from tellapart.workflow.begin import recipe_of, same_pictures
from tellapart.workflow.choose import open_for
from tellapart.workflow.events import Verdict
from tellapart.workflow.final import baselines_of, finish, judged_on_test
from tellapart.workflow.openings import known, opened_before
from tellapart.workflow.panels import NO_MORE, opened_later


@dataclass(frozen=True)
class Judged:
    """A verdict, the predictions it rests on, all that can be said of these, and what could not be written of it."""

    verdict: Verdict
    predictions: Predictions
    judgement: Judgement | Marked
    notes: tuple[str, ...] = ()


def judge_run(run: Run, *, device: torch.device, index: Index | None = None) -> Judged:
    """Judge a run on its own sealed part. Opened already: the stored predictions are judged again, nothing is opened.

    `index` is for a run whose pictures were given in Python. Raises MismatchError when the pictures are no longer those
    it was trained with.
    """
    began = time.monotonic()
    state = run.status().get("state")
    if state != "finished":
        begun = (run.folder / "recipe.toml").is_file()
        hint = f"`tellapart resume {run.called}` goes on with it." if begun else "Choose another run."
        raise UsageError(f"The run {run.name} is {state} and was not judged.", hint)
    validation = Predictions.load(run.predictions("validation"))
    if run.predictions("test").is_file():
        before = opened_before(run, run.status()["test_part"])
        return _judged(run, validation, Predictions.load(run.predictions("test")), before, began)
    if not run.status().get("test_part"):
        return _judged(run, validation, None, None, began)
    before, test = _open_now(run, device, index)
    found = [*_found(run), tuned(validation, test)]
    figures = [*judge(validation), *judge(test), *judge_classes(test)]
    finish(run, load_bundle(run.bundle), validation, figures, found, test=test)
    now = _judged(run, validation, test, before, began)
    return replace(now, notes=tuple(_on_board(run, now.verdict)))


def _on_board(run: Run, verdict: Verdict) -> Iterator[str]:
    """Put what the test says into the run's event file; a note where that cannot be written any more."""
    try:
        opened_later(run, verdict)
    except StorageError as error:
        yield NO_MORE.format(error.message)


def _open_now(run: Run, device: torch.device, index: Index | None) -> tuple[tuple[list[str], int], Predictions]:
    prepared = same_pictures(run, recipe_of(run), index=index)
    bundle = load_bundle(run.bundle)
    pictures = replace(prepared.pictures, preprocess=bundle.preprocess)
    return judged_on_test(run, bundle, bundle.module(device), pictures, device)


def _found(run: Run) -> list[Finding]:
    """The findings that the run ended with."""
    return [Finding(**{**one, "remedies": tuple(one["remedies"])}) for one in run.status().get("diagnosis", [])]


def _judged(
    run: Run, validation: Predictions, test: Predictions | None, before: tuple[list[str], int] | None, began: float
) -> Judged:
    figures = judge(validation) + (judge(test) if test else [])
    shown = test or validation
    return Judged(
        Verdict(
            run=run.name,
            called=run.called,
            folder=str(run.folder),
            model=str(run.bundle),
            classes=shown.classes,
            figures=figures,
            by_class=judge_classes(shown),
            opened_before=None if before is None else before[0],
            seen_before=0 if before is None else before[1],
            test="opened" if test else "none",
            seconds=time.monotonic() - began,
            diagnosis=_found(run),
            baselines=baselines_of(run),
        ),
        shown,
        judgement_of(shown, validation),
    )


def judgement_of(shown: Predictions, validation: Predictions) -> Judgement | Marked:
    """All that can be said of some predictions, by what was found on validation."""
    if validation.marks is not None:
        return judged_marks(shown, thresholds(validation), fitted_here=shown is validation)
    return judged(shown, Answering.of(validation))


@dataclass(frozen=True)
class Elsewhere:
    """The judgement on other pictures: what the model said, of which of them, and what has to be known about that."""

    predictions: Predictions
    judgement: Judgement | Marked
    notes: list[str]


def judge_elsewhere(bundle: Bundle, asked: Recipe, *, run: Run | None, device: torch.device) -> Elsewhere:
    """What a model says of the labelled pictures that `asked.data` names: their test part if they have one, else all.

    Classes are matched by name. Raises DataError for a class that the model does not know, UsageError when the pictures
    are the sealed test part of the model's own run.
    """
    source, skip_bad = asked.data.source, asked.data.on_bad == "skip"
    found = grouped(relabelled(open_for(asked, source, least=1), asked.data.label_map), asked.data.group_by)
    refuse_empty(found)
    if (found.marks is None) == bool(bundle.thresholds):
        ways = "one class each", "several classes each, or none"
        said = f"The model was trained on pictures of {ways[bool(bundle.thresholds)]}; {source} has "
        hint = "Name a table whose cells name several, with --several." if bundle.thresholds else ""
        raise UsageError(f"{said}{ways[not bundle.thresholds]}.", hint or "Leave --several out.")
    index = by_name(found, bundle.classes)
    part = next((part for part in ("test", "validation") if len(index.rows(part))), "")
    index = index.take(index.rows(part) if part else np.arange(len(index)))
    index = replace(index, parts=np.full(len(index), PARTS.index("test"), np.uint8), name=source)
    pictures = first_pass(
        index,
        bundle.preprocess,
        skip_bad=skip_bad,
        memory=memory_budget(),
        room=default_room(Machine().cache),
        threads=cores(),
    )
    notes = [f"judged: {f'the {part} part' if part else 'all pictures'} of {source}"]
    notes += _known(run, pictures.index, bundle.origin)
    notes += pictures.index.said[len(index.said) :]
    notes += [f"left out: {one.key}: {one.reason}" for one in pictures.index.ignored]
    predictions = replace(predict_part(bundle.module(device), pictures, "test", device=device), part=part or "whole")
    by = Answering(temperature=bundle.temperature, promises=bundle.promises, known=bundle.known)
    if bundle.thresholds:
        least = [Threshold(value=one, n=0, fitted=True) for one in bundle.thresholds]
        return Elsewhere(predictions, judged_marks(predictions, least, fitted_here=False), notes)
    return Elsewhere(predictions, judged(predictions, by), notes)


def _known(run: Run | None, index: Index, origin: Mapping[str, Any]) -> list[str]:
    """What the run, or the one of that origin, has seen of these pictures. Raises UsageError for sealed ones of it."""
    if run is None:
        if identity.test_part(index) == origin.get("test_part"):
            return [f"these are the pictures of the test part of {origin.get('run')}, which made this model"]
        return ["which of these pictures the model was trained on is not known: its run is not here"]
    found = known(run, index.hexes())
    if found["test"] and not run.predictions("test").is_file():
        raise UsageError(
            f"{found['test']} of these pictures are the sealed test part of {run.name}.",
            f"`tellapart test {run.called}` opens it, and writes down that it did.",
        )
    return [f"{found[part]:,} of these pictures were in the {part} part of {run.name}" for part in PARTS if found[part]]


def by_name(index: Index, classes: tuple[str, ...]) -> Index:
    """The index with its labels in the order of `classes`."""
    number = {name: k for k, name in enumerate(classes)}
    extra = [name for name in index.classes if name not in number]
    if extra:
        raise DataError(
            f"The pictures have {len(index.classes)} classes; the model does not know '{extra[0]}' "
            f"and {len(extra) - 1} more. It knows {len(classes)}."
            if len(extra) > 1
            else f"The model does not know the class '{extra[0]}'.",
            did_you_mean(extra[0], classes),
        )
    table = np.array([number[name] for name in index.classes], np.int64)
    if index.marks is not None:
        marks = np.zeros((len(index), len(classes)), np.int8)
        marks[:, table] = index.marks
        return with_marks(index, classes, marks)
    return replace(index, classes=classes, labels=table[index.labels])
