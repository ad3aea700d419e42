"""Compare: two models or more by what is stored of each, on the pictures that all of them judged. No torch.

comparison = compare(Path("runs"), ["first", "second"])
print(comparison.pairs[0].verdict)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import MismatchError, UsageError, did_you_mean
from tellapart.evaluation.metrics import Figure, cross_entropies, headline, top_k_hits
from tellapart.evaluation.paired import Paired, holm, majorities, over_trainings, paired
from tellapart.evaluation.paired_marks import Gain
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.several import Spread, spreads
from tellapart.recipe import printable
from tellapart.workflow.common import Rows, common_rows, groups_of, one_part
from tellapart.workflow.compare_marks import FITTED, Answers, answers_of, gained, refuse_mixed
from tellapart.workflow.contender import Contender, contender, in_a_row, names_of
from tellapart.workflow.differences import Data, Difference, data_of, differences

SEED_ALONE = " Their recipes differ in the seed alone: this is the luck of a training."
THESE = " This is of these trainings; --seeds 3 tells how far seeds alone differ."
OTHERS = " This is of these trainings; others, by --seed 1, tell how far seeds alone differ."
CHOOSING = "these are test pictures: a model that is chosen by them has to be judged by others"
CHOSEN = "the epoch of each was chosen by validation pictures, which flatters it; only a test part is free of that"


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model: figures of each of its trainings on the common pictures (with folds, of each seed out of fold), and
    their spread where there are several; `runs` is how many trainings it has, `fits` how each of them fits.
    """

    name: str
    folder: str
    test: str
    runs: int
    trainings: dict[str, list[Figure]]
    spread: list[Spread]
    fits: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that one of two models got right: its key, its class, and what each said of it."""

    key: str
    label: str
    first: str
    second: str
    row: int


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A model against the first one. `seeds`: the difference over trainings with its interval, if both have several.
    Where a picture may have several classes, `found` is of exact matches, and `gains` of the other scores.
    """

    name: str
    found: Paired
    seeds: tuple[float, float, float] | None
    verdict: str
    won: list[Picture]
    lost: list[Picture]
    gains: list[Gain]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What can be said of some models on n common pictures of one part; `pairs` are the others against the first."""

    part: str
    n: int
    models: list[Model]
    pairs: list[Pair]
    notes: list[str]
    recipe: list[Difference]
    environment: list[Difference]
    data: Data
    thumbnails: NDArray[np.uint8] | None

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        plain = asdict(replace(self, thumbnails=None))
        del plain["thumbnails"]
        for model, own in zip(plain["models"], self.models, strict=True):
            model["trainings"] = {name: [one.to_json() for one in every] for name, every in own.trainings.items()}
        for pair, own in zip(plain["pairs"], self.pairs, strict=True):
            pair["found"]["told_apart"] = told_apart(own.found, own.seeds)
        return {"format": 1, **plain}


def compare(runs: Path, names: Sequence[str]) -> Comparison:
    """Compare models by stored predictions: of the test part where all have opened it, else of validation.

    Opens no seal. Raises MismatchError for models of other classes, or without a common picture; UsageError for a name
    that is no run; StorageError where predictions are not stored.
    """
    every = [contender(runs, name) for name in names]
    for one in every:
        if sum(one.run.folder.resolve() == other.run.folder.resolve() for other in every) > 1:
            raise UsageError(f"{one.name} is named twice.", "Name another run to compare it with.")
    part = "test" if all(one.opened for one in every) else "validation"
    every = [one.heard(part) for one in every]
    refuse_mixed(every)
    _refuse_other_classes(every)
    common, said = common_rows(every, part)
    groups, told = groups_of(every, common)
    notes = [*(note for one in every for note in one.notes), *_about_part(every, part), *said, *_about_input(every)]
    notes += [FITTED] * (_marked(every) and part == "validation")
    answers = [answers_of(one, rows) for one, rows in zip(every, common, strict=True)] if _marked(every) else []
    small = every[0].said[0].thumbnails
    return Comparison(
        part="out of fold" if all(one.folds for one in every) else part,
        n=len(common[0]),
        models=[_model(one, common[n], part, groups, answers[n : n + 1]) for n, one in enumerate(every)],
        pairs=_pairs(every, common, groups, answers),
        notes=[*notes, *told],
        recipe=differences([one.recipe for one in every], [one.origins for one in every]),
        environment=differences([one.environment for one in every], [{} for _ in every]),
        data=data_of(every),
        thumbnails=None if small is None else small[common[0]],
    )


def _refuse_other_classes(every: Sequence[Contender]) -> None:
    first = every[0].said[0].classes
    for one in every[1:]:
        own = one.said[0].classes
        if alone := sorted(set(first) ^ set(own)):
            only = f"only {every[0].name if alone[0] in first else one.name} knows '{printable(alone[0])}'"
            raise MismatchError(
                f"{every[0].name} knows {len(first)} classes, {one.name} {len(own)}; {only}.",
                did_you_mean(alone[0], own if alone[0] in first else first)
                if len(alone) == 2
                else "Compare models of the same classes: --include, --exclude and --label-map choose them.",
            )


def _about_part(every: Sequence[Contender], part: str) -> list[str]:
    if part == "test" or len(every) == 1:
        return [CHOOSING] * (len(every) > 1)
    sealed = [one.name for one in every if one.test == "sealed"]
    notes = [f"the test part of {in_a_row(sealed)} is sealed: validation pictures are compared"] * bool(sealed)
    return [*notes, CHOSEN]


def _about_input(every: Sequence[Contender]) -> list[str]:
    """How pictures become input is part of a model: another way of it is said first."""
    paths = [path for path in every[0].recipe if path.startswith("input.")]
    found = [path for path in paths if len({one.recipe.get(path) for one in every if one.recipe}) > 1]
    return [f"they see the pictures differently: {', '.join(found)}"] * bool(found)


def _marked(every: Sequence[Contender]) -> bool:
    """Whether a picture may have several classes."""
    return every[0].said[0].marks is not None


def _model(
    one: Contender, rows: Rows, part: str, groups: NDArray[np.int64] | None, answers: Sequence[Answers]
) -> Model:
    names = [run.name for run in one.trainings] if len(one.said) == len(one.trainings) else _seeds(one)
    every = [(said.logits[rows], said.labels[rows]) for said in one.said]
    figures = [own.figures(part, groups) for own in answers] or [
        headline(*both, one_part(one, part), groups=groups) for both in every
    ]
    return Model(
        name=one.name,
        folder=str(one.run.folder),
        test=one.test,
        runs=len(one.trainings),
        trainings=dict(zip(names, figures, strict=True)),
        spread=spreads(figures, f"{len(figures)} trainings") if len(figures) > 1 else [],
        fits=one.fits,
    )


def _seeds(one: Contender) -> list[str]:
    return [f"out of fold {n + 1}" if len(one.said) > 1 else "out of fold" for n in range(len(one.said))]


def _pairs(
    every: Sequence[Contender], common: Sequence[Rows], groups: Rows | None, answers: Sequence[Answers]
) -> list[Pair]:
    """Every model against the first; with `answers` where a picture may have several classes."""
    judged = [[one.judged()] for one in answers] or [
        [_judged(said, rows) for said in one.said] for one, rows in zip(every, common, strict=True)
    ]
    means = [(np.mean([hit for hit, _ in of], axis=0), np.mean([loss for _, loss in of], axis=0)) for of in judged]
    found = [paired(means[0], mean, groups) for mean in means[1:]]
    found = [replace(one, adjusted=p) for one, p in zip(found, holm([one.p for one in found]), strict=True)]
    shares = [[float(hit.mean()) for hit, _ in of] for of in judged]
    pairs = []
    for n, one in enumerate(found, start=1):
        several = len(shares[0]) > 1 and len(shares[n]) > 1
        seeds = over_trainings(shares[0], shares[n]) if several else None
        two = [_said(every[k], common[k], answers[k : k + 1]) for k in (0, n)]
        won, lost = (_pictures(every[0], common[0], two, rows) for rows in majorities(means[0][0], means[n][0]).T)
        score = "exact match" if answers else "accuracy"
        verdict = in_words(every[0].name, every[n].name, one, seeds, comparisons=len(found), score=score)
        verdict += _of_luck(every[0], every[n]) * told_apart(one, seeds)
        more = gained(answers[0], answers[n], groups) if answers else []
        pairs.append(Pair(name=every[n].name, found=one, seeds=seeds, verdict=verdict, won=won, lost=lost, gains=more))
    return pairs


def _of_luck(first: Contender, second: Contender) -> str:
    """What to add where models of which one has a single training are called different: other seeds are not known."""
    if len(first.said) > 1 and len(second.said) > 1:
        return ""
    unlike = [one.name for one in differences([first.recipe, second.recipe], [{}, {}])]
    return SEED_ALONE if unlike == ["train.seed"] else OTHERS if _marked([first]) else THESE


def _judged(said: Predictions, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    logits, labels = said.logits[rows], said.labels[rows]
    return top_k_hits(logits, labels, 1).astype(np.float64), cross_entropies(logits, labels)


def _said(one: Contender, rows: Rows, answers: Sequence[Answers]) -> list[str]:
    """What most trainings said of the common pictures, by name."""
    if answers:
        return answers[0].words()
    votes = sum(np.eye(len(said.classes))[said.logits[rows].argmax(axis=1)] for said in one.said)
    return [one.said[0].classes[guess] for guess in np.asarray(votes).argmax(axis=1)]


def _pictures(one: Contender, rows: Rows, two: Sequence[Sequence[str]], chosen: NDArray[np.bool_]) -> list[Picture]:
    """The chosen pictures with what both models said, by name."""
    first, places = one.said[0], np.flatnonzero(chosen).tolist()
    about = zip(places, rows[chosen].tolist(), names_of(first, rows[chosen]), strict=True)
    found = [
        Picture(key=first.keys[row], label=label, first=two[0][at], second=two[1][at], row=at)
        for at, row, label in about
    ]
    return sorted(found, key=lambda one: one.key)


def told_apart(found: Paired, seeds: tuple[float, float, float] | None) -> bool:
    """Whether a difference is shown: over the pictures and, where both models have several trainings, over those."""
    return found.told_apart and (seeds is None or not seeds[1] <= 0 <= seeds[2])


def in_words(
    first: str,
    second: str,
    found: Paired,
    seeds: tuple[float, float, float] | None,
    *,
    comparisons: int = 1,
    score: str = "accuracy",
) -> str:
    """The verdict as a sentence: better, worse, or not told apart, and from what difference on it could have been."""
    holm = f", after Holm's correction for {comparisons} comparisons {_p(found.adjusted)}" if comparisons > 1 else ""
    about = f"(n = {found.n:,}, {found.test} {_p(found.p)}{holm})"
    over = f" Over their trainings it is {points(seeds)}." if seeds else ""
    if told_apart(found, seeds):
        word, ends = (
            ("better", (found.low, found.high)) if found.difference > 0 else ("worse", (-found.high, -found.low))
        )
        by = f"{100 * abs(found.difference):.1f} points [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"
        by += f" of {score}" * (score != "accuracy")
        return f"{second} is {word} than {first} by {by} {about}.{over}"
    could = f"these {found.n:,} pictures resolve differences from about {100 * found.resolves:.1f} points"
    value = points((found.difference, found.low, found.high))
    return f"No difference in {score} between {first} and {second} can be told apart: {value} {about}; {could}.{over}"


def points(found: tuple[float, float, float]) -> str:
    """'+1.8 points [0.4, 3.2]'."""
    value, low, high = (round(100 * number, 1) + 0.0 for number in found)  # no -0.0
    return f"{value:+.1f} points [{low:.1f}, {high:.1f}]"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"
