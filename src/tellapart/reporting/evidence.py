"""Evidence: what a report is made of, as plain values out of a run folder. No torch, no pictures, no weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tellapart.evaluation.alikes import Alikes
from tellapart.evaluation.judgement import Judgement
from tellapart.evaluation.looks import Looks
from tellapart.evaluation.marks import Marked as Judged
from tellapart.evaluation.metrics import Figure
from tellapart.evaluation.predictions import Predictions
from tellapart.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What stands in the folder of one finished training.

    origins: where each value of the recipe is from. counts: the pictures of each class, for each part. groups: how many
    the pictures were kept together in, None where none are known. left_out: files with the reason. remarks: what was
    said of the pictures when they were read. shown: the predictions that are judged, of the test if it was opened.
    opened_before: the runs that opened the test earlier, None where that is not known, with how many pictures they saw.
    siblings: trainings of the same recipe beside it, with other seeds. robustness: accuracies on spoiled pictures.
    network: how a picture becomes its input, its layers and the boxes of its drawing, as network.json has them.
    """

    name: str
    status: Mapping[str, Any]
    recipe: Recipe
    recipe_text: str
    origins: Mapping[str, str]
    command: str
    environment: Mapping[str, Any]
    counts: Mapping[str, Mapping[str, int]]
    groups: int | None
    left_out: Sequence[tuple[str, str]]
    remarks: Sequence[str]
    epochs: Sequence[Mapping[str, Any]]
    shown: Predictions
    opened_before: Sequence[str] | None = None
    seen_before: int = 0
    siblings: int = 0
    robustness: Sequence[Figure] = ()
    network: Mapping[str, Any] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """The part that is judged."""
        return self.shown.part

    @property
    def sealed(self) -> bool:
        """Whether there is a test part that nobody opened."""
        return self.part != "test" and bool(self.status.get("test_part"))

    @property
    def diagnosis(self) -> Mapping[str, Mapping[str, Any]]:
        """What the training was found to be, by label."""
        return {one["label"]: one for one in self.status.get("diagnosis", ())}

    def total(self, part: str) -> int:
        """The pictures of one part."""
        return int(self.status.get("counts", {}).get(part, 0))


@dataclass(frozen=True, kw_only=True)
class Marked(Facts):
    """The same of pictures that may have several classes each, with the judgement of what was predicted."""

    judgement: Judged


@dataclass(frozen=True, kw_only=True)
class Evidence(Facts):
    """The same, with the judgement of what was predicted; `looks`: heat maps of some mistakes among `shown`, `alikes`:
    the training pictures nearest to them; None where none were kept.
    """

    judgement: Judgement
    looks: Looks | None = None
    alikes: Alikes | None = None

    @property
    def accuracy(self) -> Figure:
        """The accuracy on the part that is judged."""
        return self.judgement.figures[0]

    @property
    def baselines(self) -> list[Figure]:
        """What simple classifiers reach on the same part."""
        found = [Figure(**one) for one in self.status.get("baselines", ())]
        return [one for one in found if one.part == self.part]

    @property
    def validation(self) -> Figure | None:
        """The accuracy on validation, where that is not the part that is judged."""
        found = [Figure(**one) for one in self.status.get("figures", ()) if one["low"] is not None]
        mine = [one for one in found if (one.name, one.part) == ("accuracy", "validation")]
        return mine[0] if mine and self.part != "validation" else None

    def recall(self) -> list[Figure]:
        """The recall of each class, in order."""
        return [one for one in self.judgement.by_class if one.name == "recall"]


Training = Evidence | Marked
"""What is known of a finished training, whatever kind its pictures are of."""
