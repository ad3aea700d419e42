"""What `tellapart test` tells beside the judgement, where it is asked for: slices, several views, spoilt pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tellapart.evaluation.predictions import Predictions


def asked_for(
    model: str,
    runs: Path,
    device: str,
    predictions: "Predictions | None",
    *,
    slices: Sequence[str],
    views: str | None,
    robustness: bool,
) -> tuple[dict[str, Any], list[str]]:
    """All that was asked for, as a document and as lines."""
    answer, lines = {}, []
    if predictions is not None:
        for by in slices:
            found, table = in_slices(model, runs, predictions, by)
            answer.setdefault("slices", {})[by] = found
            lines += ["", *table]
    if views:
        answer["views"], table = with_views(model, runs, device, views)
        lines += ["", *table]
    if robustness:
        answer["robustness"], table = spoilt(model, runs, device)
        lines += ["", *table]
    return answer, lines


def in_slices(model: str, runs: Path, predictions: "Predictions", by: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The accuracy of each slice of the judged pictures: as a document, and as a table."""
    from tellapart.cli.judged import slice_lines
    from tellapart.run import Run
    from tellapart.workflow.slicing import sliced

    found = sliced(Run.open(runs, model), predictions, by)
    return [{**asdict(one), "figure": one.figure.to_json()} for one in found], list(slice_lines(by, found))


def with_views(model: str, runs: Path, device: str, text: str) -> tuple[Mapping[str, Any], list[str]]:
    """What several views of each validation picture gain: as a document, and in words."""
    from tellapart.cli.judged import view_lines
    from tellapart.cli.show import Screen
    from tellapart.evaluation.views import kinds_of
    from tellapart.run import Run
    from tellapart.workflow import devices
    from tellapart.workflow.views import gain

    kinds, screen = kinds_of(text), Screen()
    with screen.bar_shown():
        told = screen.counting("pictures")
        found = gain(Run.open(runs, model), kinds, device=devices.choose(device), progress=told)
    return {**asdict(found), "verdict": found.verdict}, list(view_lines(found))


def spoilt(model: str, runs: Path, device: str) -> tuple[Mapping[str, Any], list[str]]:
    """How robust the model is: as a document, and as a table."""
    from tellapart.cli.judged import robustness_lines
    from tellapart.cli.show import Screen
    from tellapart.run import Run
    from tellapart.workflow import devices
    from tellapart.workflow.robust import robustness

    screen = Screen()
    with screen.bar_shown():
        device_ = devices.choose(device)
        found = robustness(Run.open(runs, model), device=device_, progress=screen.counting("ways of spoiling"))
    return found.to_json(), list(robustness_lines(found))
