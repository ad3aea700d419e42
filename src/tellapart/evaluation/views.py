"""Several views of one picture, answered together: test-time augmentation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tellapart.data.augment import network_input
from tellapart.errors import UsageError
from tellapart.preprocess import Preprocess

KINDS = ("mirror", "shift")
"""Left to right; by a sixteenth of the side to each of four sides, the edge repeated."""


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds of views that a text names: 'mirror,shift'. Raises UsageError for any other."""
    kinds = tuple(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    if unknown := [one for one in kinds if one not in KINDS]:
        raise UsageError(
            f"There are no views called '{unknown[0]}'.", f"Name {' or '.join(KINDS)}, or both: mirror,shift."
        )
    return kinds


def views(images: Tensor, kinds: Sequence[str]) -> list[Tensor]:
    """The pictures (B S S C), and each of their views: 1, 2, 5 or 10 times as many in all."""
    seen = [images]
    if "shift" in kinds:
        step, side = max(1, images.shape[1] // 16), images.shape[1]
        wide = torch.nn.functional.pad(images.permute(0, 3, 1, 2).float(), [step] * 4, mode="replicate")
        wide = wide.to(images.dtype).permute(0, 2, 3, 1)
        corners = ((0, step), (2 * step, step), (step, 0), (step, 2 * step))
        seen += [wide[:, top : top + side, left : left + side] for top, left in corners]
    return seen + [one.flip(2) for one in seen if "mirror" in kinds]


def seen_logits(
    model: nn.Module, images: Tensor, preprocess: Preprocess, kinds: Sequence[str], *, temperature: float
) -> Tensor:
    """(B K): the logarithm of the mean probability over all views of each picture, times the temperature: it can stand
    where logits stand.
    """
    logits = [model(network_input(one, preprocess)).float().cpu() for one in views(images, kinds)]
    if len(logits) == 1:
        return logits[0]
    shares = torch.stack([(one.double() / temperature).log_softmax(1) for one in logits])
    return ((shares.logsumexp(0) - torch.tensor(float(len(logits))).log()) * temperature).float()
