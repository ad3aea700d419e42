"""network.json: what a thesis says of a network, as plain numbers, so that it is written without weights or torch."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from tellapart.errors import UsageError
from tellapart.figures.boxes import boxes_of
from tellapart.models.table import Row, rows
from tellapart.models.trace import Uncounted, trace
from tellapart.preprocess import Preprocess
from tellapart.run import Run
from tellapart.workflow.events import Said

FILE, BOXES = "network.json", 36
"""Where it is kept in a run folder, and how many boxes of a drawing fit on a page of two columns."""
ODD = (UsageError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What a network that nobody foresaw may raise when it is watched: no reason to end a training that is done."""


def keep_network(run: Run, model: nn.Module, preprocess: Preprocess) -> Iterator[Said]:
    """Write network.json: the pass of one blank picture, layer by layer. What cannot be watched is said."""
    found: dict[str, Any] = {"format": 1, "preprocess": preprocess.to_json()}
    device = next(model.parameters()).device
    try:
        blank = torch.zeros(1, preprocess.channels, preprocess.size, preprocess.size, device=device)
        seen = trace(model, blank, counter=Uncounted())
        found |= {
            "parameters": seen.trained + seen.frozen,
            "boxes": [asdict(box) for box in boxes_of(seen, most=BOXES)],
            "layers": [_layer(row) for row in rows(seen)],
        }
    except ODD as error:
        yield Said(stage=-1, text=f"the network cannot be drawn, nor its sizes be told in a thesis: {error}")
    run.write(FILE, json.dumps(found) + "\n")


def _layer(row: Row) -> dict[str, Any]:
    """One row of `model show`, with the numbers its formula is made of."""
    window = asdict(row.step.window) if row.formula and row.step.window else None
    more = {"name": row.step.name, "window": window, "groups": getattr(row.step.module, "groups", 1)}
    kept = ("path", "layer", "inputs", "output", "parameters")
    return {**{key: value for key, value in row.to_json().items() if key in kept}, **more}
