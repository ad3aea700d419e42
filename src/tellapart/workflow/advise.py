"""Advice: which network, weights, freezing and settings suit these pictures and this machine, each with its reason.

The rules, and where they are from, are in docs/advise.md.
"""

import shlex
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tellapart.data.given import from_arrays
from tellapart.data.index import NO_PART, Index
from tellapart.data.pictures import sizes
from tellapart.errors import UsageError, refuse_marks
from tellapart.evaluation.intervals import wilson
from tellapart.models.catalogue import Entry, default_file, published
from tellapart.models.look import look
from tellapart.models.pretrained import at_hand
from tellapart.models.start import named_by
from tellapart.names import BODY, PARTS
from tellapart.recipe import Recipe, rule_of
from tellapart.run import cores
from tellapart.workflow import devices
from tellapart.workflow.choose import opened_or_fetched, selected
from tellapart.workflow.events import Event, Said
from tellapart.workflow.fitting import Pieces
from tellapart.workflow.pace import Pace, measured
from tellapart.workflow.published import DEFAULT, NONE
from tellapart.workflow.rehearse import ready, words_of_time
from tellapart.workflow.search_space import spelled
from tellapart.workflow.settle import Settled, settle_network, settle_training
from tellapart.workflow.settle_input import settle_input
from tellapart.workflow.train import Asking

LITTLE, FEW, MANY = 64, 2_000, 50_000
"""Pictures of at most so many pixels are small; with fewer than FEW to train on the body stays; with MANY, weights from
scratch come as far as pretrained ones.
"""
SETTINGS = {
    **{"input size": "input.size", "batch": "train.batch_size"},
    **{"epochs": "train.epochs", "learning rate": "optim.lr"},
}
"""What `train` settles by itself, and is said with the advice."""
QUICK, STRONG = "mobilenet_v2", "resnet50"
TRIED = 8
"""Pictures in a timed step of a large network on a CPU, where a whole batch would take long."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the advice rests on. side: the median of the shorter sides; validation: pictures there will be to judge by.

    least: pictures of the rarest class, those of the test left out; file: of pretrained weights here; network: its own.
    """

    source: str
    pictures: int
    training: int
    validation: int
    classes: int
    least: int
    side: int
    grey: bool
    cpu: bool
    file: str = ""
    network: str = ""


@dataclass(frozen=True)
class Advice:
    """One setting, its value, and one sentence of why."""

    what: str
    value: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Advised:
    """The advice, the seconds of an epoch and of all on this machine, and what to type."""

    seen: Seen
    advice: list[Advice]
    epoch_seconds: float
    seconds: float
    expect: list[str]
    commands: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain numbers and words."""
        return {"format": 1, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """Everything for a person."""
        seen, wide = self.seen, max(len(one.what) for one in self.advice)
        value = max(len(one.value) for one in self.advice)
        yield (
            f"{seen.source}: {seen.pictures:,} {'grey' if seen.grey else 'colour'} pictures of {seen.classes} classes, "
            f"{seen.least:,} of the rarest; about {seen.training:,} to train on; the shorter side is {seen.side}"
        )
        yield from (f"{one.what:<{wide}}  {one.value:<{value}}  {one.why}" for one in self.advice)
        yield "what to expect:"
        yield from (f"  {line}" for line in self.expect)
        yield "what to type:"
        yield from (f"  {command}\n      {why}" for why, command in self.commands.items())


def advise(recipe: Recipe, asking: Asking) -> Iterator[Event | Advised]:
    """Read what pictures there are, time a step, and say what suits; the last event is Advised. Nothing is trained.

    No pixel of the pictures is read, only headers of some. Raises TellapartError for a source that cannot be used.
    """
    if recipe.model.weights == NONE:
        raise UsageError("Whether to begin with weights is what the advice says.", "Leave --weights none out.")
    refuse_marks(recipe.data.several, "Advice")
    index = asking.index or selected(recipe, lambda source: opened_or_fetched(source, recipe, asking.fetching))
    yield from (Said(text=line) for line in index.said)
    found = sizes(index)
    seen, said = _seen(recipe, index, found, asking)
    data = [path for path in asking.origins if path.startswith("data.") and path != "data.source"]
    given = "".join(_flag(path, recipe) for path in data)
    yield from (Said(stage=-1, text=line) for line in said)
    (model, weights, freeze), chosen = choice(seen)
    values = {"model.name": model, "model.weights": weights, "model.freeze": freeze, "data.source": seen.source}
    settled = settle_training(
        settle_input(Settled(recipe.replaced(values), {}), found, index.classes), num_train=seen.training
    )
    pace, batch, settled = _timed(settled, seen)
    yield _advised(seen, settled, chosen, pace, batch, given)


def _flag(path: str, recipe: Recipe) -> str:
    """A setting as it is typed, after a space."""
    value = shlex.quote(spelled(recipe.values()[path]))
    return f" {rule_of(path).flag} {value}" if rule_of(path).flag else f" --set {path}={value}"


def _seen(recipe: Recipe, index: Index, found: np.ndarray, asking: Asking) -> tuple[Seen, tuple[str, ...]]:
    """What there is, and what is to be said of pretrained weights that are here and not used."""
    parts, data = {part: len(index.rows(part)) for part in PARTS}, recipe.data
    unplaced, train = int((index.parts == NO_PART).sum()), parts["train"]
    free = unplaced if not train else train * (not parts["validation"])
    judged = parts["validation"] + round(free * data.validation)
    device, (by, said) = devices.choose(recipe.machine.device), at_hand(len(index))
    file, name = (str(by.path), by.name) if by else ("", "")
    if recipe.model.weights not in ("", DEFAULT):
        file, name, said = recipe.model.weights, named_by(recipe.model.weights), ()
    seen = Seen(
        source=index.name if asking.index else data.source,
        pictures=len(index),
        training=max(1, train + unplaced - (judged - parts["validation"]) - (not train) * round(unplaced * data.test)),
        validation=judged,
        classes=len(index.classes),
        least=int(np.bincount(np.delete(index.labels, index.rows("test")), minlength=len(index.classes)).min()),
        side=int(np.median(found[:, :2].min(axis=1))),
        grey=bool((found[:, 2] == 1).all()),
        cpu=device.type == "cpu",
        file=file,
        network=name,
    )
    return seen, said


def choice(seen: Seen) -> tuple[tuple[str, str, str], list[Advice]]:
    """Network, weights and what of it stays, with the reason for each."""
    n, little = f"{seen.training:,} pictures", seen.side <= LITTLE
    if little and (seen.grey or seen.training >= FEW):
        made = "weights made for photographs of 224 px have little to give them, and cost many times the work"
        kind = f"{'grey ' * seen.grey}pictures of {seen.side} px"
        return ("small", "", ""), [
            Advice("model", "small", f"our own network for small pictures, at their own size of {seen.side} px"),
            Advice("weights", NONE, f"{kind}, {n}: {made}"),
            Advice("freeze", NONE, "all is new, so all is trained"),
        ]
    model = seen.network or (QUICK if seen.cpu else STRONG)
    weights, entry = seen.file or DEFAULT, stated(model)
    numbers = f"{entry.parameters / 1e6:.3g} M parameters, {entry.multiply_adds / 1e9:.2g} G multiply-adds a picture"
    if seen.network:
        why = f"its weights are here; {numbers}"
    elif model == QUICK:
        why = f"quick on a CPU: {numbers}; more layers can do more, and overfit more"
    else:
        why = f"quick enough on a GPU: {numbers}"
    return (model, weights, _depth(seen).value.replace(NONE, "")), [
        Advice("model", model, why),
        Advice("weights", weights, _start(seen)),
        _depth(seen),
    ]


def stated(model: str) -> Entry:
    """What torchvision states of the weights that it gives first for a network."""
    return next(one for one in published()[0] if one.file == default_file(model))


def _start(seen: Seen) -> str:
    unlike = "; grey pictures are unlike its photographs, so compare with --weights none" if seen.grey else ""
    if seen.training >= MANY:
        return f"a quicker start; with {seen.training:,} pictures, weights from scratch come as far in the end{unlike}"
    return f"what was learned from 1.3 million photographs, {seen.training:,} pictures cannot teach again{unlike}"


def _depth(seen: Seen) -> Advice:
    """How much of a pretrained network stays as it is."""
    n = f"{seen.training:,} pictures"
    if seen.training < FEW:
        return Advice("freeze", BODY, f"{n} fit a head; millions of weights would learn them by heart")
    rest = "all layers: so many pictures pay for it" if seen.training >= MANY else "all layers, from the fitted head on"
    return Advice("freeze", NONE, f"{n} can train {rest}")


def _timed(settled: Settled, seen: Seen) -> tuple[Pace, int, Settled]:
    """What a step costs here, of how many made-up pictures; and the recipe with the learning rate."""
    recipe = settled.recipe
    size, channels, batch = recipe.input.size, recipe.input.channels, recipe.train.batch_size or 1
    tried = min(batch, TRIED) if seen.cpu and size >= 128 else batch
    kept = ("machine.", "model.", "augment.")
    same = {path: value for path, value in recipe.values().items() if path.startswith(kept)}
    own = {"model.weights": "", "input.size": size, "input.channels": channels, "train.batch_size": tried}
    timed = Recipe.from_values(same | own)
    pieces = _last(ready(timed, Asking(index=_made_up(size, channels, tried))))
    shown = look(pieces.model, pieces.architecture)
    found = settle_network(settled, multiply_adds=shown.multiply_adds, normalised=shown.normalised, cores=cores())
    return measured(pieces), tried, found


def _last(events: Generator[Event, None, Pieces]) -> Pieces:
    """The result of some events that are of no interest."""
    while True:
        try:
            next(events)
        except StopIteration as done:
            return done.value


def _made_up(size: int, channels: int, batch: int) -> Index:
    """Pictures of noise: four batches to train on and some to judge."""
    n = 4 * batch + 32
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size, channels), np.uint8)
    index = from_arrays(pixels, np.arange(n) % 2, classes=("one", "other"), name="noise")
    parts = np.where(np.arange(n) < 4 * batch, PARTS.index("train"), PARTS.index("validation"))
    return replace(index, parts=parts.astype(np.uint8))


def _advised(seen: Seen, settled: Settled, chosen: list[Advice], pace: Pace, tried: int, given: str) -> Advised:
    recipe, origins = settled.recipe, settled.origins
    usual = "the usual one; larger ones want another rate"
    found = [
        Advice(what, spelled(recipe.values()[path]), origins.get(path, usual).removeprefix("auto: "))
        for what, path in SETTINGS.items()
        if path != "optim.lr" or recipe.train.epochs
    ]
    epoch = seen.training * pace.step / tried + seen.validation * pace.judging
    ways = 2 if recipe.augment.flip else 1
    fitting = (ways * seen.training + seen.validation) * pace.judging if recipe.model.weights else 0.0
    total = recipe.train.epochs * epoch + fitting
    return Advised(
        seen=seen,
        advice=[*chosen, *found],
        epoch_seconds=epoch,
        seconds=total,
        expect=_expected(seen, recipe, pace, tried, epoch, total),
        commands=_commands(seen, recipe, given),
    )


def _expected(seen: Seen, recipe: Recipe, pace: Pace, tried: int, epoch: float, total: float) -> list[str]:
    low, high = wilson(round(0.9 * seen.validation), seen.validation)
    step = f"{tried} made-up pictures in {1000 * pace.step:.3g} ms a step, by {pace.steps} of them here"
    head = "the head is fitted on features that are computed once" if recipe.model.weights else ""
    by = "; ".join(filter(None, [head, f"an epoch of steps takes about {words_of_time(epoch)} ({step})"]))
    return [
        f"time: about {words_of_time(total)} in all, beside reading the pictures: {by}",
        f"certainty: with {seen.validation:,} validation pictures, 90 % means {100 * low:.0f} to {100 * high:.0f} %",
    ]


def _commands(seen: Seen, recipe: Recipe, given: str) -> dict[str, str]:
    """What to type, by what it is for."""
    source, model = shlex.quote(seen.source), recipe.model
    weights = f" --weights {shlex.quote(model.weights)}" if model.weights else ""
    words = f" --model {model.name}" * (model.name != Recipe().model.name) + weights
    freeze = f" --freeze {model.freeze}" if model.freeze else ""
    few = f" --limit {max(1_000, 20 * seen.classes)}" if seen.pictures > 5_000 and "--limit" not in given else ""
    names = ",".join(dict.fromkeys((model.name, "resnet18", "efficientnet_b0")))
    first = f"tellapart search {source}{given} --try model.name={names} --weights default --freeze body{few}"
    other = f"tellapart search {source}{given} --try model.name=small,quick{few}"
    return {
        "says what is wrong with the pictures": f"tellapart check {source}",
        "what training has to beat, in seconds": f"tellapart baseline {source}{given}{words if weights else ''}",
        "the training that is advised": f"tellapart train {source}{given}{words}{freeze}",
        "which network is best is found by trying, not by its figures elsewhere": first if weights else other,
    }
