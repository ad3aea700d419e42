"""Heat maps that are kept with a run: where its model looked in some of its mistakes, so that a report can show it."""

import time
from collections.abc import Sequence

import numpy as np
import torch

from tellapart.data.pictures import Pictures
from tellapart.data.seal import SealBroken
from tellapart.errors import StorageError, TellapartError
from tellapart.evaluation.looks import SLOW, Look, Looks, digest
from tellapart.evaluation.metrics import softmax
from tellapart.evaluation.predict import THUMBNAIL
from tellapart.evaluation.predictions import Predictions
from tellapart.models.bundle import Bundle
from tellapart.models.look import still
from tellapart.recipe import printable
from tellapart.run import Run
from tellapart.training.fit import Asked
from tellapart.workflow.looking import Eye, Heat, Seen, Subject, explain
from tellapart.workflow.stoppable import heeding

SUREST, DOUBTFUL = 8, 4
"""Mistakes whose heat maps are kept: the surest, and of the others the most doubtful."""
SHARE, LEAST, LONGEST = 0.1, 0.1, 10.0
"""How long that may take: this share of the seconds that the epochs took, no less and no more seconds than these."""
PASSES, TRIED = 2 * 140, 8
"""Pictures that have to pass a network for the maps of one mistake, at least; how many are timed together."""


def keep_heat(
    run: Run,
    bundle: Bundle,
    pictures: Pictures,
    said: Predictions,
    device: torch.device,
    *,
    asked: Asked = lambda: None,
) -> None:
    """Store heat maps, each with its test, of the surest and the most doubtful mistakes among some predictions.

    Where that would take too long, or the network refuses, the file holds the reason. Nothing is stored where a picture
    may have several classes. Raises the ending that `asked` returns.
    """
    if said.marks is not None:
        return
    rows = shown(said)

    try:
        eye = Eye.of(bundle, device, heeding(asked))
        seen, method = _within(eye, _subjects(pictures, said, rows), _seconds(run)) if rows else ([], "")
        found = stored(said, rows, seen, method)
    except (TellapartError, SealBroken):
        raise
    except Exception as error:  # a network of someone's own may refuse in any way; its training is not lost by that
        found = Looks(of=digest(said), why=printable(f"{type(error).__name__}: {error}")[:300])
    found.save(run.heat(said.part))


def kept_more(run: Run, said: Predictions, rows: Sequence[int], seen: Sequence[Seen], method: str) -> str:
    """Store what was seen of the first of these rows, where less is stored; what to say of it, or nothing."""
    try:
        old, new = Looks.load(run.heat(said.part), said), stored(said, rows, seen[: SUREST + DOUBTFUL], method)
        if not new.looks or (old is not None and len(old.looks) >= len(new.looks)):
            return ""
        new.save(run.heat(said.part))
    except StorageError as error:
        return f"the maps could not be kept for the report: {error.message}"
    return f"the maps are kept: `tellapart report {run.called}` shows them"


def stored(said: Predictions, rows: Sequence[int], seen: Sequence[Seen], method: str) -> Looks:
    """What is stored of the rows that were seen, the first of `rows`; that it takes too long where none was."""
    looks = [_look(row, heat) for row, one in zip(rows, seen, strict=False) for heat in one.heats]
    why = SLOW if rows and not looks else ""
    return Looks(of=digest(said), method=method, why=why, looks=tuple(looks))


def shown(said: Predictions) -> list[int]:
    """The rows of the mistakes that are looked into: the surest first, then the most doubtful of the others."""
    sure = softmax(said.logits).max(axis=1)
    wrong = np.flatnonzero(said.logits.argmax(axis=1) != said.labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")].tolist()
    return wrong[:SUREST] + wrong[SUREST:][: -DOUBTFUL - 1 : -1]


def _subjects(pictures: Pictures, said: Predictions, rows: Sequence[int]) -> list[Subject]:
    """The mistakes as the squares that are kept of them, so that no file is read again."""
    every = pictures.index.rows(said.part)
    squares = pictures.pixels.gather(every[np.array(rows, np.int64)])
    return [
        Subject(name=said.keys[row], pixels=square, true=said.classes[said.labels[row]])
        for row, square in zip(rows, squares, strict=True)
    ]


def _seconds(run: Run) -> float:
    """How long the maps of a run may take."""
    epochs = (record.get("seconds", 0.0) for _, record in run.records() if record["kind"] == "epoch")
    return min(LONGEST, max(LEAST, SHARE * sum(epochs)))


def _within(eye: Eye, subjects: list[Subject], seconds: float) -> tuple[list[Seen], str]:
    """As many as can be explained in some seconds, from the first on, and by which method. None where one alone would
    take longer by what a few passes take.
    """
    seen: list[Seen] = []
    began, each, method = time.monotonic(), 0.0, ""
    if not subjects or PASSES * _pass(eye, subjects[0]) > seconds:
        return seen, method
    while more := subjects[len(seen) : 2 * len(seen) + 1]:
        start = time.monotonic()
        more = more[: max(0, int((seconds - (start - began)) / each))] if each else more
        if not more:
            break
        found, way = explain(eye, more)
        seen, method, each = [*seen, *found], way.method, (time.monotonic() - start) / len(more)
    return seen, method


def _pass(eye: Eye, subject: Subject) -> float:
    """The seconds that one picture takes to pass the network, when several do together."""
    pixels = eye.input(subject).expand(TRIED, -1, -1, -1)
    with still(eye.model), torch.inference_mode():
        eye.model(pixels).cpu()  # the first call of a network makes ready
        began = time.monotonic()
        eye.model(pixels).cpu()
    return (time.monotonic() - began) / TRIED


def _look(row: int, heat: Heat) -> Look:
    """A map as it is stored: at the size of the small copies of the pictures."""
    warm, hottest = heat.drawn()
    step = -(-len(warm) // THUMBNAIL)
    small = (255 * warm[::step, ::step]).round().astype(np.uint8)
    return Look(row=row, name=heat.name, known=heat.to_json(), heat=small, hottest=hottest[::step, ::step])
