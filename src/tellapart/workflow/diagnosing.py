"""Diagnosing: what `reporting/diagnosis.py` must know of a training, and when its findings are said."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from tellapart.data.split import leaking
from tellapart.evaluation.predict import logits_of_rows
from tellapart.evaluation.predictions import Predictions
from tellapart.models.start import staying
from tellapart.reporting.diagnosis import About, Epochs, Finding, concluded, tuned, watched
from tellapart.run import Run, cores
from tellapart.workflow.events import Said
from tellapart.workflow.prepare import Prepared
from tellapart.workflow.settle import DEFAULT_RATES
from tellapart.workflow.trivial import streamed

MOST, LEAST = 2000, 256
"""Training pictures that are judged in the end: as many as validation has, within these bounds."""


def about_of(prepared: Prepared, model: nn.Module, device: torch.device) -> About:
    """What the findings rest on beside the records."""
    index, contract = prepared.pictures.index, prepared.pictures.preprocess
    labels = index.labels[index.rows("train")]
    stay = staying(model, prepared.recipe.model.freeze)  # asked of the recipe: a model that was loaded trains nothing
    return About(
        recipe=prepared.recipe,
        num_train=len(labels),
        classes=len(index.classes),
        commonest=float(np.bincount(labels).max() / len(labels)),
        parameters=sum(weight.numel() for name, weight in model.named_parameters() if name not in stay),
        usual_lr=DEFAULT_RATES[prepared.recipe.optimiser],
        device=device.type,
        cores=cores(),
        leaked=len(leaking(index)) if prepared.recipe.data.leaks == "keep" else 0,
        decoded_gb=len(index) * contract.side**2 * contract.channels / 1e9 * streamed(prepared.pictures.pixels),
    )


class Watching:
    """Says a finding when it first becomes sure, and never again. `earlier`: the epochs before a resume."""

    def __init__(self, about: About, earlier: Epochs) -> None:
        self.about, self.epochs, self.said = about, [], set[str]()
        for epoch in earlier:
            list(self.after(epoch))

    def after(self, epoch: Mapping[str, Any]) -> Iterator[Said]:
        """What is sure since this epoch."""
        self.epochs.append(epoch)
        for finding in watched(self.epochs, self.about):
            if finding.label not in self.said:
                self.said.add(finding.label)
                yield Said(stage=-1, text=finding.line())


def diagnosed(
    run: Run,
    prepared: Prepared,
    model: nn.Module,
    *,
    validation: Predictions,
    test: Predictions | None,
    device: torch.device,
) -> list[Finding]:
    """The findings of a training that came to its end. Some of its training pictures are judged for them, unchanged."""
    epochs = [record for _, record in run.records() if record["kind"] == "epoch"]
    about = about_of(prepared, model, device)
    if validation.marks is not None:  # the others are of right and wrong answers
        return [*(watched(epochs, about) if epochs else ()), *([tuned(validation, test)] if test else ())]
    pictures, rows = prepared.pictures, prepared.pictures.index.rows("train")
    most = min(MOST, max(LEAST, len(validation)), len(rows))
    rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    logits, labels = logits_of_rows(model, pictures, rows, device=device), pictures.index.labels[rows]
    train = Predictions(part="train", classes=validation.classes, keys=(), logits=logits, labels=labels)
    return concluded(epochs, about, train=train, validation=validation, test=test)
