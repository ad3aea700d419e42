"""Looking: where a network looks in a picture for a class, and whether that means anything."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tellapart.data.augment import network_input
from tellapart.data.decode import Pixels
from tellapart.data.square import fitted
from tellapart.errors import UsageError, did_you_mean
from tellapart.evaluation.fields import fields_of, in_fields
from tellapart.evaluation.neighbours import last_layer
from tellapart.evaluation.predict import calibrated
from tellapart.evaluation.saliency import ENOUGH, Map, Place, cam, occlusion, place_of, places_of
from tellapart.evaluation.trust import REDRAWN, SHARES, Trust, ordered, randomised, taken, trust
from tellapart.memory import reuse_memory
from tellapart.models.build import build
from tellapart.models.bundle import Bundle
from tellapart.models.look import still
from tellapart.recipe import printable

AUTO = "hirescam"
"""What `auto` means where the last places of a network are enough; docs/why.md says what was measured."""
SHOWN = 3
"""Classes that are explained at most where a picture is said to have several."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A picture that is asked about: its name, its pixels (H W C), and its class where that is known. `has`: all its
    classes, where it may have several and they are known; `wrong`: those that the answer is wrong about. `square`: what
    the network is shown of it (S S C), where the pixels are no longer all there.
    """

    name: str
    pixels: Pixels
    true: str = ""
    has: tuple[str, ...] | None = None
    wrong: tuple[str, ...] = ()
    square: Pixels | None = None

    @property
    def missed(self) -> list[str]:
        """The classes that it has and is not said to have."""
        return [name for name in self.wrong if name in (self.has or ())]

    @property
    def wrongly_said(self) -> list[str]:
        """The classes that it is said to have and has not."""
        return [name for name in self.wrong if name not in (self.has or ())]


class Alone(nn.Module):
    """One logit of a network beside 0 (B 2): the softmax of both is its sigmoid, their log-odds the logit itself."""

    def __init__(self, network: nn.Module, number: int) -> None:
        super().__init__()
        self.network, self.number = network, number

    def forward(self, pixels: Tensor) -> Tensor:
        logit = self.network(pixels)[:, self.number]
        return torch.stack([logit, torch.zeros_like(logit)], dim=1)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How heat is found: by which method, and at which layer; None for occlusion, which needs none. `alone`: a picture
    may have several classes, and each is judged by its own logit.
    """

    method: str
    place: Place | None = None
    alone: bool = False

    def asked(self, model: nn.Module, number: int) -> tuple[nn.Module, int]:
        """The network, and the class of its answer, whose log-odds are looked at."""
        return (Alone(model, number), 0) if self.alone else (model, number)

    def heat(self, model: nn.Module, pixels: Tensor, number: int) -> Map:
        """The heat (S S) for one class of a picture (1 C S S)."""
        if self.place is None:
            network, at = self.asked(model, number)
            return occlusion(network, pixels, at)
        return cam(model, pixels, number, self.place, self.method)


@dataclass(frozen=True, kw_only=True)
class Heat:
    """Where a model looks for a class: the heat (S S) on the network's square, its mean in each field (G G), and what
    is known of it.
    """

    name: str
    map: Map
    fields: Map
    trust: Trust

    def drawn(self) -> tuple[Map, NDArray[np.bool_]]:
        """What speaks for the class, from 0 to 1 where it is hottest, and the pixels of the hottest 10 % of the fields,
        each (S S).
        """
        positive = self.map.clip(0)
        at = fields_of(len(positive))
        hottest = taken(ordered(self.fields), SHARES[0])[np.ix_(at, at)]
        return positive / (positive.max() or 1), hottest

    def to_json(self) -> dict[str, Any]:
        """What is known of it, as plain data."""
        known = self.trust
        return {
            "class": self.name,
            "informative": not known.fault,
            "fault": known.fault,
            "verdict": known.verdict(self.name),
            "probability": known.probability,
            "without_hottest": known.without_hottest,
            "without_elsewhere": known.elsewhere,
            "margin": known.margin.to_json(),
            "deletion": known.deletion,
            "insertion": known.insertion,
            "area": known.area.to_json(),
            "moved_maps_beaten": known.beaten,
            "random_networks": {"correlation": dict(known.like_random), "of_each": REDRAWN},
        }


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the model says of one picture, with its probability, and the heat for that class and for the true one. Where
    it may have several, `said` is the likeliest, and `every` has all that are said, with their probabilities.
    """

    subject: Subject
    said: str
    share: float
    heats: tuple[Heat, ...]
    every: tuple[tuple[str, float], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Eye:
    """A model at work: its bundle, its network on a device, and whom to tell how far it is."""

    bundle: Bundle
    model: nn.Module
    device: torch.device
    progress: Progress

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device, progress: Progress = lambda done, total, name: None) -> "Eye":
        """The eye of a model file."""
        reuse_memory()
        model = bundle.module(device).to(memory_format=torch.channels_last)  # half the time on a CPU
        return cls(bundle=bundle, model=model, device=device, progress=progress)

    def input(self, one: Subject) -> Tensor:
        """A picture as the network takes it (1 C S S)."""
        square = fitted(one.pixels, self.bundle.preprocess) if one.square is None else one.square
        return network_input(torch.from_numpy(np.stack([square])).to(self.device), self.bundle.preprocess)

    def shares(self, pixels: Tensor) -> NDArray[np.float64]:
        """The probabilities (K) of one picture (1 C S S)."""
        with still(self.model):
            return calibrated(self.bundle, self.model(pixels).float().cpu().numpy())[0]


def explain(eye: Eye, subjects: Sequence[Subject], *, wanted: str = "", method: str = "auto") -> tuple[list[Seen], Way]:
    """For each picture the heat for the class `wanted`, else for the one said, and for its true one, with checks. Where
    a picture may have several classes, for those that are wrong, or for those said; SHOWN at most.

    Raises UsageError for a class that the model does not know, or a method that does not apply to its network.
    """
    classes = eye.bundle.classes
    if wanted and wanted not in classes:
        raise UsageError(f"The model does not know the class '{printable(wanted)}'.", did_you_mean(wanted, classes))
    asked = [(one, eye.input(one)) for one in subjects]
    shares = [eye.shares(pixels) for _, pixels in asked]
    every = [_every(eye.bundle, own) for own in shares]
    numbers = [_numbers(classes, shares[n], wanted, one, every[n]) for n, (one, _) in enumerate(asked)]
    looks = [(pixels, k) for (_, pixels), several in zip(asked, numbers, strict=True) for k in several]
    way = _way(eye, looks, method)
    heats = iter(_heats(eye, looks, way))
    return [
        Seen(
            subject=one,
            said=classes[int(p.argmax())],
            share=float(p.max()),
            heats=tuple(islice(heats, len(several))),
            every=names,
        )
        for (one, _), p, several, names in zip(asked, shares, numbers, every, strict=True)
    ], way


def _every(bundle: Bundle, shares: NDArray[np.float64]) -> tuple[tuple[str, float], ...] | None:
    """The classes that a picture is said to have, the likeliest first, where it may have several."""
    if not bundle.thresholds:
        return None
    order = np.argsort(-shares, kind="stable").tolist()
    return tuple((bundle.classes[k], float(shares[k])) for k in order if shares[k] >= bundle.thresholds[k])


def _numbers(
    classes: tuple[str, ...],
    shares: NDArray[np.float64],
    wanted: str,
    one: Subject,
    every: tuple[tuple[str, float], ...] | None,
) -> list[int]:
    """The classes that heat is shown for, by number: the one that is wanted or said, and the true one."""
    if (several := one.wrong or [name for name, _ in every or ()]) and not wanted:
        return [classes.index(name) for name in several[:SHOWN]]
    first = classes.index(wanted) if wanted else int(shares.argmax())
    return list(dict.fromkeys([first, *([classes.index(one.true)] if one.true in classes else [])]))


def _way(eye: Eye, looks: list[tuple[Tensor, int]], method: str) -> Way:
    """The way for a network; its layer is found on the first picture."""
    alone = bool(eye.bundle.thresholds)
    if method == "occlusion" or not looks:
        return Way(method="occlusion", alone=alone)
    places = places_of(eye.model, *looks[0])
    place = place_of(places)
    if method == "auto":
        fine = place is not None and places[-1].side >= ENOUGH
        return Way(method=AUTO, place=place, alone=alone) if fine else Way(method="occlusion", alone=alone)
    if place is None:
        said = f"No layer of {printable(eye.bundle.architecture.name)} keeps the places of a picture"
        raise UsageError(f"{said}, so {method} does not apply.", "--method occlusion works with any network.")
    return Way(method=method, place=place, alone=alone)


def _heats(eye: Eye, looks: list[tuple[Tensor, int]], way: Way) -> Iterator[Heat]:
    """The heat of each look, with what is known of it."""
    maps = [way.heat(eye.model, *look) for look in looks]
    random = _random(eye, looks, way)
    for at, ((pixels, number), one) in enumerate(zip(looks, maps, strict=True)):
        fields, like = in_fields(one), {kind: [each[at] for each in several] for kind, several in random.items()}
        network, k = way.asked(eye.model, number)
        known = trust(network, pixels, k, fields, random=like, temperature=eye.bundle.temperature)
        yield Heat(name=eye.bundle.classes[number], map=one, fields=fields, trust=known)
        eye.progress(at + 1, len(looks), "taking fields away")


def _random(eye: Eye, looks: list[tuple[Tensor, int]], way: Way) -> dict[str, list[list[Map]]]:
    """The heat of each look in networks with random weights, in fields; by what is random, a list for each network."""
    found: dict[str, list[list[Map]]] = {}
    head = last_layer(eye.model, looks[0][0]) if looks else ""
    others = randomised(eye.model, head, lambda seed: build(eye.bundle.architecture, seed=seed).eval()) if head else ()
    for at, (kind, network) in enumerate(others):
        found.setdefault(kind, []).append([in_fields(way.heat(network, *look)) for look in looks])
        del network  # before the next one is made
        eye.progress(at + 1, 2 * REDRAWN, "networks with random weights")
    return found
