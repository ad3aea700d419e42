"""What several views of each picture would gain: measured on validation, on the same pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tellapart.data.index import Index
from tellapart.data.loader import Loader
from tellapart.errors import refuse_marks
from tellapart.evaluation.metrics import Figure, cross_entropies, share, top_k_hits
from tellapart.evaluation.paired import Paired, paired
from tellapart.evaluation.predict import AT_ONCE
from tellapart.evaluation.views import seen_logits, views
from tellapart.models.look import still
from tellapart.run import Run
from tellapart.workflow.robust import Progress, judged_with


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The accuracy of one look and of several, and the one less the other; `each`: looks at a picture."""

    kinds: tuple[str, ...]
    each: int
    one: Figure
    several: Figure
    gained: Paired

    @property
    def verdict(self) -> str:
        """What may be said of the gain."""
        if not self.gained.told_apart:
            least = f"{self.gained.n:,} pictures show one of {100 * self.gained.resolves:.1f} points"
            return f"no gain that can be told; {least}"
        return "they answer better" if self.gained.difference > 0 else "they answer worse"


def gain(
    run: Run, kinds: Sequence[str], *, device: torch.device, progress: Progress, index: Index | None = None
) -> Gain:
    """Judge validation by one look at each picture and by several. Raises as `robustness` does."""
    bundle, pictures = judged_with(run, index)
    refuse_marks(bundle.thresholds, "Judging several views")
    model = bundle.module(device)
    rows, once = pictures.index.rows("validation"), max(1, AT_ONCE // bundle.preprocess.size**2)
    found: dict[int, list[np.ndarray]] = {0: [], 1: []}
    with still(model), torch.inference_mode():
        for batch in Loader(pictures=pictures, rows=rows, batch_size=once, device=device, shuffle=False).epoch(0):
            for which, some in enumerate(((), kinds)):
                said = seen_logits(model, batch.images, bundle.preprocess, some, temperature=bundle.temperature)
                found[which].append(said.numpy() / bundle.temperature)
            progress(sum(map(len, found[0])), len(rows))
    labels, groups = pictures.index.labels[rows], pictures.index.groups
    groups = None if groups is None else groups[rows]
    one, several = (np.concatenate(found[which]) for which in (0, 1))
    hits = [top_k_hits(logits, labels, 1) for logits in (one, several)]
    judged = [
        (right.astype(np.float64), cross_entropies(logits, labels))
        for right, logits in zip(hits, (one, several), strict=True)
    ]
    return Gain(
        kinds=tuple(kinds),
        each=len(views(torch.zeros(1, 4, 4, 1, dtype=torch.uint8), kinds)),
        one=share("accuracy", hits[0], "validation", groups=groups),
        several=share("accuracy", hits[1], "validation", groups=groups),
        gained=paired(judged[0], judged[1], groups),
    )
