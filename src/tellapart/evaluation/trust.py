"""Whether a heat map means anything: its hottest fields are taken away, and it is compared with those of networks whose
weights are random.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tellapart.evaluation.intervals import of_mean
from tellapart.evaluation.metrics import Figure, log_odds, softmax
from tellapart.evaluation.saliency import Map, logits_without

SHARES = (0.1, 0.3, 0.6)
"""Shares of the fields that are taken away: the first decides; with none and all, they make the curves."""
MOVED, REDRAWN = 19, 3
"""How often a map is moved elsewhere, so that by chance it is the best of all once in 20 times; how many networks with
random weights there are of each kind.
"""
LEAST, SAME = 1.0, 0.7
"""The margin in log-odds below which nothing depends on what is taken away; the rank correlation from which on a map
is that of a network with random weights.
"""
UNUSED = 2**31 - 100
"""The first seed of random networks: no training is likely to have begun with the same weights."""
NOT_COMPARED = "not compared with random networks, for no layer with weights ends this one"
HEAD, ALL = "the last layer", "all layers"
"""What is random in a network."""


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What is known of a heat map for one class of one picture.

    probability: of the class. without_hottest: the same without the hottest 10 % of the fields. elsewhere: without as
    many others, namely the same map moved to another place, each of so many times. margin: how much further the
    log-odds of the class fall without the hottest than without these; beaten: how many of them it falls further than.
    deletion, insertion: the area under the probability when the hottest fields go, or come back, first (Petsiuk et al.,
    BMVC 2018); area: by how much both are better than those of the moved maps, halved. like_random: mean rank
    correlation with the maps of networks in which the last layer, or all, is random (Adebayo et al., NeurIPS 2018).
    """

    probability: float
    without_hottest: float
    elsewhere: tuple[float, ...]
    margin: Figure
    beaten: int
    deletion: float
    insertion: float
    area: Figure
    like_random: Mapping[str, float]
    flat: bool

    @property
    def fault(self) -> str:
        """What is wrong with the map: "flat", "random", "elsewhere" or "little"; "" for one that is informative."""
        if self.flat:
            return "flat"
        if max(self.like_random.values(), default=0.0) >= SAME:
            return "random"
        if self.beaten < len(self.elsewhere):
            return "elsewhere"
        return "little" if self.margin.value < LEAST else ""

    @property
    def why_nothing(self) -> str:
        """Why the map means nothing; "" for one that is informative."""
        alike, value = max(self.like_random.items(), key=lambda pair: pair[1], default=("", 0.0))
        return {
            "": "",
            "flat": "it is the same everywhere",
            "random": f"networks with random numbers in {alike} give the same (correlation {value:.2f})",
            "elsewhere": f"{len(self.elsewhere) - self.beaten} of {len(self.elsewhere)} other places matter as much",
            "little": "little more depends on its hottest fields than on others",
        }[self.fault]

    def verdict(self, name: str) -> str:
        """One sentence: whether the map of the class of this name is informative, and the numbers that say so."""
        away = np.array(self.elsewhere)
        before, after, mean, low, high = (
            f"{100 * share:.1f} %"
            for share in (self.probability, self.without_hottest, away.mean(), away.min(), away.max())
        )
        fall = (
            f"without its hottest {100 * SHARES[0]:.0f} % '{name}' goes from {before} to {after}, without as much "
            f"elsewhere to {mean} ({low} to {high} at {len(away)} places)"
        )
        return (
            f"The map means nothing: {why}; {fall}."
            if (why := self.why_nothing)
            else f"The map is informative: {fall}."
        )

    @property
    def numbers(self) -> str:
        """The areas, the margin with its interval, and the correlations with random networks, on one line."""
        margin, area = (f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in (self.margin, self.area))
        curves = f"deletion {self.deletion:.2f}, insertion {self.insertion:.2f}, better by {area}"
        alike = ", ".join(f"{value:.2f} ({kind})" for kind, value in self.like_random.items())
        random = f"rank correlation with {REDRAWN} random networks each: {alike}" if alike else NOT_COMPARED
        return f"margin {margin} in log-odds over {self.margin.n} moved maps; {curves}; {random}"


def trust(
    model: nn.Module,
    pixels: Tensor,
    number: int,
    fields: Map,
    *,
    random: Mapping[str, Sequence[Map]],
    temperature: float = 1.0,
) -> Trust:
    """Put the heat of each field (G G) for one class of a picture (1 C S S) to the test; `random`: the same of networks
    with random weights, by what is random in them.
    """
    every = np.stack([ranks := ordered(fields), *moved(ranks)])
    first = [taken(every, share) for share in SHARES]
    last = [~one for one in first]
    gone = np.concatenate([taken(every[:1], 0), taken(every[:1], 1), *first, *last])
    logits = logits_without(model, pixels, gone) / temperature
    found, odds = softmax(logits)[:, number], log_odds(logits)[2 : len(every) + 2, number]
    whole, none, rest = found[0], found[1], found[2:].reshape(2, len(SHARES), len(every))
    deletion, insertion = areas(whole, rest[0], none), areas(none, rest[1], whole)
    score, ahead = (insertion - deletion) / 2, odds[1:] - odds[0]
    return Trust(
        probability=float(whole),
        without_hottest=float(rest[0, 0, 0]),
        elsewhere=tuple(rest[0, 0, 1:].tolist()),
        margin=_mean("margin in log-odds", ahead),
        beaten=int((ahead > 0).sum()),
        deletion=float(deletion[0]),
        insertion=float(insertion[0]),
        area=_mean("margin of the areas", score[0] - score[1:]),
        like_random={kind: float(np.mean([spearman(fields, one) for one in maps])) for kind, maps in random.items()},
        flat=is_flat(fields),
    )


def _mean(name: str, values: NDArray[np.float64]) -> Figure:
    low, high = of_mean(values)
    return Figure(name=name, value=float(values.mean()), n=len(values), low=low, high=high, part="heat map")


def areas(first: float, between: NDArray[np.float64], last: float) -> NDArray[np.float64]:
    """(N): the areas under N curves from `first` through the values at SHARES (3 N) to `last`, by trapezoids."""
    ends = [np.full(between.shape[1], value) for value in (first, last)]
    heights, widths = np.stack([ends[0], *between, ends[1]]), np.diff((0, *SHARES, 1))
    return widths @ (heights[1:] + heights[:-1]) / 2


def ordered(fields: Map) -> NDArray[np.int64]:
    """(G G): the place of each field in the order from the hottest, 0, to the coldest; equal ones in a random order."""
    chance = np.random.default_rng(0).permutation(fields.size)
    order = np.lexsort((chance, -fields.ravel()))
    ranks = np.empty(fields.size, np.int64)
    ranks[order] = np.arange(fields.size)
    return ranks.reshape(fields.shape)


def taken(ranks: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Which fields are the hottest so many: at least one, unless the share is 0."""
    count = ranks.shape[-1] ** 2
    return ranks < (max(1, round(share * count)) if share else 0)


def moved(ranks: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The map at 19 other places, shifted by a quarter of the picture or more; what leaves comes in opposite."""
    side = len(ranks)
    far = [min(n, side - n) * 4 >= side for n in range(side)]
    shifts = [(y, x) for y in range(side) for x in range(side) if far[y] or far[x]] or [(0, 0)]
    chosen = np.random.default_rng(0).choice(len(shifts), MOVED, replace=len(shifts) < MOVED)
    return [np.roll(ranks, shifts[n], (0, 1)) for n in chosen]


def is_flat(fields: Map) -> bool:
    """Whether the map is the same everywhere, or holds what is no number."""
    return not np.ptp(fields) > 1e-9 * np.abs(fields).max()


def spearman(a: Map, b: Map) -> float:
    """The rank correlation of two maps, equal values with their mean rank; 0 where one of them is the same everywhere.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
    1.0
    """
    if is_flat(a) or is_flat(b):
        return 0.0
    first, second = (_mean_ranks(one.ravel()) for one in (a, b))
    return round(float(np.corrcoef(first, second)[0, 1]), 12)


def _mean_ranks(values: Map) -> Map:
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[at]


def randomised(model: nn.Module, head: str, anew: Callable[[int], nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Networks like `model` with random weights, and what is random in them: the numbers of the layer at `head` in
    another order; or those, and all else as `anew` makes it from a seed. What is not random is shared with `model`.
    """
    own = {id(one) for one in model.get_submodule(head).state_dict(keep_vars=True).values()}
    rest = {id(one): one for one in model.state_dict(keep_vars=True).values() if id(one) not in own}
    for seed in range(UNUSED, UNUSED + REDRAWN):
        other = deepcopy(model, {**rest})
        shuffle(other.get_submodule(head), seed)
        yield HEAD, other
        fresh = anew(seed).to(next(model.parameters()).device)
        fresh.get_submodule(head).load_state_dict(other.get_submodule(head).state_dict())
        yield ALL, fresh
        del fresh  # before the next one is made


def shuffle(layer: nn.Module, seed: int) -> None:
    """Put the numbers of each tensor of weights in another order: their spread stays, what they knew goes."""
    chance = torch.Generator().manual_seed(seed)
    for weight in layer.parameters():
        order = torch.randperm(weight.numel(), generator=chance)
        weight.data = weight.data.flatten()[order.to(weight.device)].view_as(weight).clone()
