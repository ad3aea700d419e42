"""How robust a run's model is: its validation pictures spoilt in six ways."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from tellapart.data.index import Index
from tellapart.data.loader import Batch
from tellapart.data.pictures import Pictures
from tellapart.errors import UsageError, refuse_marks
from tellapart.evaluation.metrics import Figure, difference, share, top_k_hits
from tellapart.evaluation.predict import logits_of_rows
from tellapart.evaluation.robustness import REMEDY, STRENGTHS, spoilt
from tellapart.files import write_atomically
from tellapart.models.bundle import Bundle, load_bundle
from tellapart.recipe_augment import Augment
from tellapart.run import Run
from tellapart.workflow.begin import recipe_of, same_pictures

MOST, FALLS = 1000, 0.1
"""Pictures that are spoilt at most, evenly spaced; how much accuracy has to fall, surely, for a word about it."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Accuracy on n validation pictures: untouched, and for each way of spoiling them at strengths 1 to 5.

    The figures are `about` "blur 1" and so on; the first, of the untouched ones, is about nothing. `augment`: what the
    run was trained with.
    """

    figures: list[Figure]
    augment: Augment

    def to_json(self) -> dict:
        """Everything as plain data."""
        return {"format": 1, "part": "validation", "figures": [figure.to_json() for figure in self.figures]}

    def of(self, way: str) -> list[Figure]:
        """The five figures of one way."""
        return [figure for figure in self.figures if figure.about.rpartition(" ")[0] == way]

    def findings(self) -> Iterator[str]:
        """What it falls for, in words, each with what trains against it."""
        clean = self.figures[0]
        for way in STRENGTHS:
            weak = next((n for n, one in enumerate(self.of(way)) if difference(clean, one)[0] > FALLS), None)
            if weak is not None:
                one = self.of(way)[weak]
                fall = f"from {100 * clean.value:.1f} to {100 * one.value:.1f} % at strength {weak + 1} of 5"
                yield f"{way}: falls {fall}; {self._remedy(*REMEDY[way])}"

    def _remedy(self, name: str, value: float) -> str:
        had = getattr(self.augment, name)
        if had >= value:
            return f"it was trained against that already, with augment.{name} = {had:g}"
        return f"try --set augment.{name}={value:g}" + f" (it had {had:g})" * bool(had)


def robustness(run: Run, *, device: torch.device, index: Index | None = None, progress: Progress) -> Robustness:
    """Judge the run's model on spoilt validation pictures, and keep it as robustness.json.

    The test part stays out of it, opened or not: whoever trains against what is found here has chosen by it. Raises
    MismatchError when the pictures are others, StorageError, UsageError for a run without a model.
    """
    bundle, pictures = judged_with(run, index)
    model, rows = bundle.module(device), pictures.index.rows("validation")
    rows = rows[:: -(-len(rows) // MOST)]
    groups = None if pictures.index.groups is None else pictures.index.groups[rows]
    labels, figures = pictures.index.labels[rows], []
    kinds = ["", *(f"{way} {strength}" for way in STRENGTHS for strength in range(1, 6))]
    for n, about in enumerate(kinds):
        logits = logits_of_rows(model, pictures, rows, device=device, read=lambda batches, at=about: _read(batches, at))
        figures.append(share("accuracy", top_k_hits(logits, labels, 1), "validation", about, groups=groups))
        progress(n + 1, len(kinds))
    found = Robustness(figures=figures, augment=recipe_of(run).augment)
    write_atomically(run.folder / "robustness.json", json.dumps(found.to_json(), indent=1) + "\n")
    return found


def judged_with(run: Run, index: Index | None) -> tuple[Bundle, Pictures]:
    """The model of a run that is finished, and its pictures, sealed, as that takes them. Raises UsageError for any
    other run, MismatchError when the pictures are others.
    """
    if (state := run.status().get("state")) != "finished":
        raise UsageError(f"The run {run.name} is {state} and has no model that was judged.", "Choose another run.")
    bundle = load_bundle(run.bundle)
    refuse_marks(bundle.thresholds, "This")
    prepared = same_pictures(run, recipe_of(run), index=index)
    return bundle, replace(prepared.pictures, preprocess=bundle.preprocess)


def _read(batches: Iterable[Batch], about: str) -> Iterator[Batch]:
    way, _, strength = about.rpartition(" ")
    for batch in batches:
        yield batch if not about else replace(batch, images=spoilt(batch.images, way, int(strength), batch.rows))
