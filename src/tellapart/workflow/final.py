"""The final judgement: the saved file is read back, validation is judged, then the seal is opened, once."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from tellapart.data.pictures import Pictures
from tellapart.data.seal import open_test
from tellapart.errors import DataError, DivergedError, StorageError
from tellapart.evaluation.marks import judged_marks, thresholds
from tellapart.evaluation.metrics import Figure, judge, judge_classes
from tellapart.evaluation.predict import predict_part
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.promises import Answering
from tellapart.models.bundle import Bundle, load_bundle, save_bundle
from tellapart.models.golden import Golden
from tellapart.reporting.diagnosis import Finding
from tellapart.run import Run
from tellapart.shipping.goldens import chosen
from tellapart.training.fit import Asked
from tellapart.workflow.alike import keep_alike
from tellapart.workflow.diagnosing import diagnosed
from tellapart.workflow.events import Event, Said, Verdict
from tellapart.workflow.heat import keep_heat
from tellapart.workflow.network import keep_network
from tellapart.workflow.openings import noted
from tellapart.workflow.prepare import Prepared
from tellapart.workflow.settle_marks import key_of
from tellapart.workflow.stoppable import to_judge
from tellapart.workflow.trivial import BY_FEATURES, trivial

BESIDE_HEAD = BY_FEATURES, "validation"
"""What is known since the head was fitted."""
NO_SAMPLES = "no golden samples travel with the model, so `verify` proves nothing of it"


def verdict(
    run: Run, prepared: Prepared, device: torch.device, *, open_test: bool, began: float, asked: Asked = lambda: None
) -> Iterator[Event]:
    """Stages 8 and 9: judge the model that was saved, not the one in memory, and say what may be said of it.

    Raises StorageError when the file is not what was trained, and the ending that `asked` returns.
    """
    bundle = load_bundle(run.bundle)
    model = bundle.module(device)
    validation = _validated(run, model, to_judge(prepared.pictures, asked), device)
    validation.save(run.predictions("validation"))
    told = [one for one in run.status().get("baselines", []) if (one["about"], one["part"]) == BESIDE_HEAD]
    run.set_status(baselines=[*_trivial(prepared.pictures, "validation", device, asked), *told])
    yield from keep_network(run, model, bundle.preprocess)
    figures, by_class, test, before, seen = judge(validation), judge_classes(validation), None, None, 0
    known = _answering(bundle, validation)
    if open_test and prepared.test_part:
        yield Said(stage=8, text=f"test: the seal on {prepared.counts['test']:,} pictures is opened")
        (before, seen), test = judged_on_test(run, known, model, prepared.pictures, device, asked=asked)
        figures, by_class = [*figures, *judge(test)], judge_classes(test)
    else:
        _explained(run, known, model, prepared.pictures, validation, device, asked)
    found = diagnosed(run, prepared, model, validation=validation, test=test, device=device)
    goldens, why = _goldens(prepared, known, model, validation, device)
    if why:
        yield Said(stage=-1, text=why)
    finish(run, replace(bundle, goldens=goldens), validation, [*figures, *by_class], found, test=test)
    yield Said(stage=9, text=f"saved: {run.folder}")
    run.append("log.txt", "\n".join(finding.line() for finding in found))
    yield Verdict(
        run=run.name,
        called=run.called,
        folder=str(run.folder),
        model=str(run.bundle),
        classes=validation.classes,
        figures=figures,
        by_class=by_class,
        opened_before=before,
        seen_before=seen,
        test="opened" if before is not None else "sealed" if prepared.test_part else "none",
        seconds=time.monotonic() - began,
        diagnosis=found,
        baselines=baselines_of(run),
    )


def _explained(
    run: Run,
    bundle: Bundle,
    model: nn.Module,
    pictures: Pictures,
    said: Predictions,
    device: torch.device,
    asked: Asked,
) -> None:
    """Keep where the model looked in mistakes of validation, what is nearest to them, and the vote of the nearest where
    it is not known from when the head was fitted.
    """
    keep_heat(run, bundle, pictures, said, device, asked=asked)
    before = run.status()["baselines"]
    told = {one["about"] for one in before}
    near = keep_alike(run, bundle, model, pictures, said, device, told=told, asked=asked)
    run.set_status(baselines=[*before, *(one.to_json() for one in near)])


def _goldens(
    prepared: Prepared, bundle: Bundle, model: nn.Module, validation: Predictions, device: torch.device
) -> tuple[tuple[Golden, ...], str]:
    """Validation pictures that travel with the model; none where the recipe wants none, or where the files are gone,
    with what to say of that.
    """
    index, count = prepared.pictures.index, prepared.recipe.train.goldens
    try:
        rows = index.rows("validation")
        return chosen(bundle, model, index, rows, validation, device=device, count=count), ""
    except (OSError, DataError, StorageError) as error:
        reason = getattr(error, "message", "") or getattr(error, "strerror", "") or str(error)
        return (), f"{NO_SAMPLES}: {reason.rstrip('.')}"


def baselines_of(run: Run) -> list[Figure]:
    """What simple classifiers reach on the parts that the run was judged by."""
    return [Figure(**one) for one in run.status().get("baselines", [])]


def opened(run: Run, pictures: Pictures) -> tuple[tuple[list[str], int], Pictures]:
    """Open the seal, and note it first, unless it is noted that this run has done so.

    Gives the runs that opened any of the pictures before, with how many of the pictures they saw, and the pictures.
    """
    unsealed = open_test(pictures)
    return noted(run, unsealed.index), unsealed


def judged_on_test(
    run: Run, bundle: Bundle, model: nn.Module, pictures: Pictures, device: torch.device, *, asked: Asked = lambda: None
) -> tuple[tuple[list[str], int], Predictions]:
    """Open the seal, predict once, store the predictions and heat maps of the mistakes; `model` is that of the bundle.

    Gives the runs that opened any of the pictures before, and how many of the pictures they saw.
    """
    before, unsealed = opened(run, pictures)
    predictions = predict_part(model, to_judge(unsealed, asked), "test", device=device)
    predictions.save(run.predictions("test"))
    keep_heat(run, bundle, unsealed, predictions, device, asked=asked)
    near = keep_alike(run, bundle, model, unsealed, predictions, device, asked=asked)
    kept = [one for one in run.status().get("baselines", []) if one["part"] != "test"]
    trivial = _trivial(unsealed, "test", device, asked)
    run.set_status(baselines=[*kept, *trivial, *(one.to_json() for one in near)])
    return before, predictions


def _trivial(pictures: Pictures, part: str, device: torch.device, asked: Asked) -> list[dict[str, Any]]:
    if pictures.index.marks is not None:  # they are judged by right answers
        return []
    return [figure.to_json() for figure in trivial(to_judge(pictures, asked), part, device)]


def _answering(bundle: Bundle, validation: Predictions) -> Bundle:
    """The bundle with what its answers rest on: temperature, promises and what it takes for known, from validation."""
    if validation.marks is not None:
        return replace(bundle, thresholds=tuple(one.value for one in thresholds(validation)))
    found = Answering.of(validation)
    return replace(bundle, temperature=found.temperature, known=found.known, promises=found.promises)


def _validated(run: Run, model: nn.Module, pictures: Pictures, device: torch.device) -> Predictions:
    """What the saved model says of validation. Raises StorageError where that is not what training saw."""
    try:
        found = predict_part(model, pictures, "validation", device=device)
    except DivergedError as error:  # the best of a training has answered with numbers
        said = f"The saved model has the weights of another than was trained. {error.message}"
        raise StorageError(said, "Please report this; the checkpoints are untouched.") from error
    _refuse_other_score(run, found)
    return found


def _refuse_other_score(run: Run, validation: Predictions) -> None:
    """The file must score what training saw: otherwise something was lost on the way to the disk."""
    best = run.status().get("best") or {}
    score, *_, loss = judge(validation)
    figures = {score.name: score.value, "loss": loss.value}
    jumps = 1.5 / len(validation) if validation.marks is None else 0.02  # what the last bits may change
    for name, most in ((score.name, jumps), ("loss", 1e-3 * (1 + abs(loss.value)))):
        trained = best.get(key_of(name), figures[name])
        if not abs(figures[name] - trained) <= most:
            raise StorageError(
                f"The saved model has the {name} {figures[name]:.4f} on validation, in training it was {trained:.4f}.",
                "Please report this; the checkpoints are untouched.",
            )


def _scores_of_marks(validation: Predictions, test: Predictions | None) -> list[Figure]:
    """What a model file keeps of scores where a picture may have several classes: all that `tellapart test` has."""
    if validation.marks is None:
        return []
    by = thresholds(validation)
    parts = [judged_marks(one, by, fitted_here=one is validation) for one in (validation, test) if one is not None]
    return [*(figure for one in parts for figure in one.figures), *parts[-1].by_class]


def finish(
    run: Run,
    bundle: Bundle,
    validation: Predictions,
    figures: list[Figure],
    found: list[Finding],
    *,
    test: Predictions | None,
) -> None:
    """Put the figures, and what validation says of its answers, into the model file, read it back, and only then say in
    status.json that the run is finished, with the findings. `test`: what it said of the test part, where that is open.
    """
    scores = tuple(figure.to_json() for figure in (_scores_of_marks(validation, test) or figures))
    save_bundle(replace(_answering(bundle, validation), scores=scores), run.bundle)
    saved, wrong = load_bundle(run.bundle).state, f"{run.bundle} does not hold the weights that were judged."
    if saved.keys() != bundle.state.keys() or not all(torch.equal(saved[k], v) for k, v in bundle.state.items()):
        raise StorageError(wrong, "The checkpoints are untouched.")
    headline = [figure.to_json() for figure in figures if not figure.about]
    diagnosis = [asdict(finding) for finding in found]
    run.set_status(state="finished", figures=headline, diagnosis=diagnosis, error=None)
