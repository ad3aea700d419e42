"""Compare models where a picture may have several classes: each by its own thresholds, all classes of a picture
together. No torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import MismatchError
from tellapart.evaluation.marks import Marks, Threshold, called, judged_marks, thresholds
from tellapart.evaluation.metrics import Figure, binary_entropies
from tellapart.evaluation.paired_marks import Gain, gains
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.resample import Floats
from tellapart.workflow.contender import Contender, names_of

FITTED = "the thresholds of each were fitted to validation pictures, which flatters its F1 and exact match"


@dataclass(frozen=True)
class Answers:
    """What one model said of the common pictures, and its thresholds."""

    said: Predictions
    by: Sequence[Threshold]

    @property
    def called(self) -> Marks:
        """The classes that each picture is said to have (N K)."""
        return called(self.said.logits, [one.value for one in self.by])

    @property
    def marks(self) -> Marks:
        """The classes that each has (N K)."""
        assert self.said.marks is not None  # noqa: S101 - `answers_of` is for such predictions
        return self.said.marks

    def judged(self) -> tuple[Floats, Floats]:
        """Whether all classes of each picture are right (N), and its loss (N)."""
        right = (self.called == self.marks).all(axis=1).astype(np.float64)
        return right, binary_entropies(self.said.logits, self.marks)

    def figures(self, part: str, groups: NDArray[np.int64] | None) -> list[Figure]:
        """Every score of all classes."""
        own = replace(self.said, part=part, groups=groups)
        return judged_marks(own, self.by, fitted_here=False).figures

    def words(self) -> list[str]:
        """What each picture is said to have, in words."""
        return names_of(replace(self.said, marks=self.called), np.arange(len(self.said)))


def answers_of(one: Contender, rows: NDArray[np.int64]) -> Answers:
    """What a contender of one training said of some rows."""
    (said,) = one.said
    by = thresholds(Predictions.load(one.trainings[0].predictions("validation")))
    marks = None if said.marks is None else said.marks[rows]
    keys = tuple(said.keys[row] for row in rows.tolist())
    small = replace(said, keys=keys, logits=said.logits[rows], labels=said.labels[rows], marks=marks, thumbnails=None)
    return Answers(small, by)


def gained(first: Answers, second: Answers, groups: NDArray[np.int64] | None) -> list[Gain]:
    """What the second has more of the scores that no picture has by itself."""
    order = [second.said.classes.index(name) for name in first.said.classes]
    logits = first.said.logits.astype(np.float64), second.said.logits[:, order].astype(np.float64)
    return gains(logits, (first.called, second.called[:, order]), first.marks, groups)


def refuse_mixed(every: Sequence[Contender]) -> None:
    """Raises MismatchError where the pictures of some may have several classes and those of others have one."""
    kinds = {one.said[0].marks is not None: one.name for one in every}
    if len(kinds) > 1:
        said = f"The pictures of {kinds[True]} may have several classes each, those of {kinds[False]} have one."
        raise MismatchError(said, "Compare models of one kind.")
