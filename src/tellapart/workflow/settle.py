"""Settle: what a recipe leaves open is found out from the data, and where each value comes from is written down."""

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tellapart.data.steps import for_training
from tellapart.errors import UsageError, unknown
from tellapart.models.allowed import digest_of
from tellapart.models.elsewhere import refuse_absent
from tellapart.models.surgery import refuse_odd
from tellapart.names import BODY, LINES, OWN_MODELS, SMOOTHED, TORCHVISION_MODELS, is_model
from tellapart.recipe import Recipe
from tellapart.recipe_values import AUTO, seconds_of
from tellapart.training.own import rates_of

Origins = Mapping[str, str]

DEFAULT_RATES = {
    **{"sgd": 0.1, "adam": 3e-3, "adamw": 3e-3, "muon": 1e-2, "adagrad": 1e-2, "adadelta": 1.0},
    **{"adamax": 3e-3, "nadam": 3e-3, "radam": 3e-3, "rmsprop": 1e-3},
}
"""The learning rate of each optimiser when none is asked for; a network without normalisation gets a tenth of it."""

GENTLER = {"sgd": 100}
"""By what the rate is divided where a pretrained network is trained as a whole; 15 for the others (docs/log.md)."""
ONE_THREAD = 1e9
"""Operations of one step below which a second thread costs more than it gives (measured, docs/log.md)."""

PATIENCE_OF_ENDLESS = 10


@dataclass(frozen=True)
class Settled:
    """A recipe without open values, and the origin of each value: default, a flag, a file, or a reason."""

    recipe: Recipe
    origins: Origins


ADAMS = ("adam", "adamw", "adamax", "nadam", "radam", "muon")
"""Optimisers with two running means; muon takes Adam for what is no matrix."""

MEANT_FOR = {
    "optim.momentum": ("optim.name", ("sgd", "muon", "rmsprop")),
    "optim.beta1": ("optim.name", ADAMS),
    "optim.beta2": ("optim.name", ADAMS),
    "optim.dampening": ("optim.name", ("sgd",)),
    "optim.nesterov": ("optim.name", ("sgd",)),
    "optim.step_every": ("optim.schedule", ("step",)),
    "optim.step_factor": ("optim.schedule", ("step", "plateau")),
    "optim.plateau_after": ("optim.schedule", ("plateau",)),
    "loss.label_smoothing": ("loss.name", SMOOTHED),
    "loss.gamma": ("loss.name", ("focal",)),
    "loss.delta": ("loss.name", ("huber",)),
    "model.width": ("model.name", ("small",)),
}
"""Settings that mean something for some choices only. Beside another choice they are an error, not ignored."""


def refuse_impossible(settled: Settled) -> None:
    """Refuse what cannot be honoured before any picture is read. Raises UsageError."""
    recipe, values = settled.recipe, dict(settled.recipe.values())
    values["optim.name"] = recipe.optimiser
    if not is_model(recipe.model.name):
        raise unknown("model", recipe.model.name, [*OWN_MODELS, LINES, "mlp:256", *TORCHVISION_MODELS])
    refuse_odd(recipe.model.name, recipe.model.layers, recipe.model.changes)
    refuse_absent(recipe.model.name, recipe.model.sha256)
    if recipe.model.weights and recipe.model.name not in TORCHVISION_MODELS:
        raise UsageError(
            f"Pretrained weights are for torchvision's classifiers; {recipe.model.name} is none of them.",
            "Name theirs with --model, or leave --model out.",
        )
    if recipe.train.epochs == 0 and not recipe.model.weights:
        raise UsageError("0 epochs train nothing.", "They are for --weights, where the head is fitted at once.")
    if recipe.train.ema and recipe.train.swa:
        raise UsageError("Asked for train.ema and for train.swa together.", "Give one of them.")
    if recipe.train.board != "curves" and importlib.util.find_spec("tensorboard") is None:
        raise UsageError(f"--board {recipe.train.board} needs tensorboard.", "python3 -m pip install tensorboard")
    rates_of(recipe.optim.rates)
    if recipe.train.budget:
        seconds_of(recipe.train.budget)
    for path, (choice, meant) in MEANT_FOR.items():
        if settled.origins.get(path, "").startswith("--") and values[choice] not in meant:
            raise UsageError(
                f"{path} means nothing with {choice} = {values[choice]}.", f"It is for {' and '.join(meant)}."
            )
    if recipe.augment.steps:
        for_training(recipe.augment.steps)
        refuse_two_ways(recipe, "steps")
    if recipe.optim.nesterov and (recipe.optim.momentum == 0 or recipe.optim.dampening):
        raise UsageError(
            "Nesterov momentum needs a momentum above 0 and a dampening of 0.", "Leave optim.nesterov to auto."
        )


def with_digest(settled: Settled) -> Settled:
    """The recipe with the digest of the file that the class of its network is in. Raises UsageError for another one."""
    model = settled.recipe.model
    if (digest := digest_of(model.name, model.sha256)) == model.sha256:
        return settled
    of = {"model.sha256": f"of {model.name}"}
    return Settled(settled.recipe.replaced({"model.sha256": digest}), {**settled.origins, **of})


def refuse_two_ways(recipe: Recipe, way: str) -> None:
    """Refuse an augmentation of our own beside steps or a transform: which comes first would be a guess."""
    asked = recipe.augment
    named = [f"preset {asked.preset}"] if asked.preset not in (None, "none") else []
    named += [f"augment.{key}" for key in asked.changes()]
    if asked.steps and way != "steps":
        named.append("augment.steps")
    if named:
        raise UsageError(f"Asked for {way} and for {named[0]} together.", "Give one of them.")


def settle_training(settled: Settled, *, num_train: int) -> Settled:
    """Fill in epochs, batch size and patience from the number of training pictures."""
    epochs = (default_epochs(num_train), f"for {num_train:,} training pictures")
    if settled.recipe.model.weights and settled.recipe.model.freeze == BODY:
        epochs = (0, "the head is fitted at once")
    found = {"train.epochs": epochs, "optim.name": (settled.recipe.optimiser, "for such a network")}
    settled = _whole_batch(_smaller_batch(filled(settled, found), num_train), num_train)
    endless = settled.recipe.optim.schedule in ("constant", "plateau")
    why = "a constant rate has no end of its own" if endless else "the schedule comes to rest by itself"
    patience = PATIENCE_OF_ENDLESS if endless else settled.recipe.train.epochs
    cycle = settled.recipe.optim.schedule == "one-cycle"
    warmup = (0.2, "of one cycle") if cycle else (0.0, f"{settled.recipe.optim.schedule} needs none")
    return filled(settled, {"train.patience": (max(1, patience), why), "optim.warmup": warmup})


def _smaller_batch(settled: Settled, num_train: int) -> Settled:
    """The default batch, made smaller for very few pictures. A batch that was asked for stays as it is."""
    recipe = settled.recipe
    if (
        not recipe.train.batch_size
        or "train.batch_size" in settled.origins
        or recipe.train.batch_size * recipe.train.accumulate <= num_train
    ):
        return settled
    reason = {"train.batch_size": f"{AUTO}: there are {num_train} training pictures"}
    return Settled(recipe.replaced({"train.batch_size": max(1, num_train // 4)}), {**settled.origins, **reason})


def _whole_batch(settled: Settled, num_train: int) -> Settled:
    """A batch of 0 is one of all training pictures."""
    if settled.recipe.train.batch_size != 0:
        return settled
    size = -(-num_train // settled.recipe.train.accumulate)
    why = {"train.batch_size": f"{settled.origins.get('train.batch_size', 'recipe')}: all {num_train:,} pictures"}
    return Settled(settled.recipe.replaced({"train.batch_size": size}), {**settled.origins, **why})


def default_epochs(num_train: int) -> int:
    """Epochs for this many pictures: 1000 / sqrt(n), from 6 to 100; few pictures are seen often, many a few times.

    >>> default_epochs(1257), default_epochs(18_000), default_epochs(45_000)
    (28, 7, 6)
    """
    return min(100, max(6, round(1000 / math.sqrt(max(num_train, 1)))))


def settle_network(settled: Settled, *, multiply_adds: int, normalised: bool, cores: int) -> Settled:
    """Fill in the learning rate, and the CPU threads: one where a step is so little work that threads would only wait.

    A step is three passes (forward, and backward for pictures and for weights) of two operations a multiply-add. The
    choice rests on arithmetic, not on timing, because another number of threads gives other last bits.
    """
    operations = 6 * multiply_adds * settled.recipe.train.batch_size
    threads, why = (cores, "all cores") if operations > ONE_THREAD else (1, "a step is too little work to share")
    name = settled.recipe.optim.name
    rate, of = (DEFAULT_RATES[name], "") if normalised else (DEFAULT_RATES[name] / 10, " without normalisation")
    if settled.recipe.model.weights and settled.recipe.model.freeze != BODY:
        rate, of = DEFAULT_RATES[name] / GENTLER.get(name, 15), " that is pretrained"
    momentum = name == "sgd" and settled.recipe.optim.plain_momentum()
    pretrained = bool(settled.recipe.model.weights)
    found = {
        "machine.threads": (threads, why),
        "model.keep_norms": (pretrained, "they are pretrained" if pretrained else "they are not pretrained"),
        "optim.lr": (rate, f"default of {name} for a network{of}"),
        "optim.nesterov": (momentum, f"{name} with{'' if momentum else 'out'} plain momentum"),
    }
    return filled(settled, found)


def settle_batch(settled: Settled, *, largest: int, num_train: int) -> Settled:
    """Fill in a batch of `auto`: the largest that fits, but at least eight steps an epoch."""
    size = max(1, min(largest, num_train // (8 * settled.recipe.train.accumulate)))
    return filled(settled, {"train.batch_size": (size, f"up to {largest} pictures fit")})


def settle_compile(settled: Settled, pays: bool, why: str) -> Settled:
    """Fill in whether the network is compiled, found out by measuring."""
    return filled(settled, {"machine.compile": (pays, why)})


def settle_processes(settled: Settled, processes: int) -> Settled:
    """Write down how many processes train. Raises UsageError for a batch that is too small to be shared by them."""
    recipe = settled.recipe
    refuse_small_batch(recipe, processes)
    if recipe.machine.processes == processes:
        return settled
    if "machine.processes" in settled.origins:
        raise UsageError(
            f"The recipe asks for {recipe.machine.processes} processes; {processes} trained here.",
            "Start them with `tellapart train … --processes N`, or with torchrun.",
        )
    why = {"machine.processes": "as it was started"}
    return Settled(recipe.replaced({"machine.processes": processes}), {**settled.origins, **why})


def refuse_small_batch(recipe: Recipe, processes: int) -> None:
    """Raises UsageError for a batch that is too small to be shared."""
    batch = (recipe.train.batch_size or 1) * recipe.train.accumulate
    if batch < 2 * processes > 2:
        raise UsageError(
            f"A batch of {batch} cannot be shared by {processes} processes: each needs two pictures.",
            f"Use --processes {max(1, batch // 2)}, or --batch-size {2 * processes} or more where there are so many.",
        )


def refuse_sharded(recipe: Recipe, processes: int) -> None:
    """Raises UsageError for what cannot be done with weights that several processes share."""
    whole = {
        "muon turns whole matrices": recipe.optim.name == "muon",
        "a network is compiled whole": recipe.machine.compile is not False,
        "a budget is measured by one process alone": bool(recipe.train.budget),
        "a batch of auto is measured by one process alone": recipe.train.batch_size is None,
        f"--board {recipe.train.board} looks at whole ones": recipe.train.board != "curves",
    }
    sharded = recipe.machine.parallel == "fsdp" and processes > 1
    if sharded and (why := [word for word, so in whole.items() if so]):
        raise UsageError(
            f"With --parallel fsdp each process has a share of every matrix; {why[0]}.",
            "Change that, or use --parallel ddp.",
        )


def refuse_large_batch(recipe: Recipe, num_train: int) -> None:
    """A batch larger than the data is an error, not a smaller batch in silence."""
    batch = (recipe.train.batch_size or 1) * recipe.train.accumulate
    if batch - recipe.train.accumulate >= num_train:
        raise UsageError(
            f"The batch of {batch} is larger than the {num_train} training pictures.",
            f"Use --batch-size {max(1, num_train // 4)} or smaller.",
        )


def filled(settled: Settled, found: Mapping[str, tuple[Any, str]]) -> Settled:
    """Put found values where the recipe says auto; what was asked for stays."""
    open_values = {path for path, value in settled.recipe.values().items() if value is None}
    values = {path: value for path, (value, _) in found.items() if path in open_values}
    reasons = {path: f"{AUTO}: {why}" for path, (_, why) in found.items() if path in open_values}
    return Settled(settled.recipe.replaced(values), {**settled.origins, **reasons})
