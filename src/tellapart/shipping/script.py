"""The plain PyTorch script of a run: its settings filled into `script.py.txt`, its network written out beside them.

Every value goes in as its `repr`, and the template is filled once, so that no name in a model file becomes code.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from tellapart.data.square import FILTERS
from tellapart.errors import StorageError, UsageError
from tellapart.models.build import Architecture, build
from tellapart.models.resnet import KINDS, BasicBlock, Bottleneck, ResNet, conv1x1, conv3x3
from tellapart.models.small import SmallNet, Stage, pooling_stages
from tellapart.models.zoo import MORE as MORE_ARGUMENTS
from tellapart.names import TORCHVISION_MODELS, is_elsewhere
from tellapart.preprocess import Preprocess
from tellapart.recipe import Data, Loss, Optim, Recipe, printable
from tellapart.shipping.script_text import columns, listed, quoted, template

SETTLED = ("augment.shift", "augment.flip", "optim.lr", "optim.nesterov", "train.epochs", "train.patience")
"""What a recipe may leave open and a script cannot."""

PLACING = ("source", "root", "validation", "test", "split", "split_seed", "fold", "leaks", "on_bad")
TABLE = ("labels", "columns", "several")
"""What of [data] a script leaves to its FOLDER or TABLE, or does in its own way, and what it says of a TABLE, which it
takes where pictures may have several classes; it has no words for other choices.
"""

OPTIMISERS = {
    "sgd": "torch.optim.SGD(groups, lr=RATE, momentum={momentum!r}, dampening={dampening!r}, nesterov={nesterov!r})",
    "adagrad": "torch.optim.Adagrad(groups, lr=RATE)",
    "adadelta": "torch.optim.Adadelta(groups, lr=RATE)",
    "rmsprop": "torch.optim.RMSprop(groups, lr=RATE, momentum={momentum!r})",
    **{
        kind.lower(): f"torch.optim.{kind}(groups, lr=RATE, betas=({{beta1!r}}, {{beta2!r}}))"
        for kind in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam")
    },
}
SCHEDULES = {
    "one-cycle": (
        "RATE * min(0.1 + 0.9 * progress / {warmup!r}, (1 - progress) / (1 - {warmup!r}))",
        "from a tenth up to RATE, then down to 0",
    ),
    "linear": ("RATE * (1 - {now})", "straight down to 0"),
    "cosine": ("RATE * 0.5 * (1 + math.cos(math.pi * {now}))", "down to 0 along half a cosine"),
    "step": (
        "RATE * {step_factor!r} ** (epoch // {step_every!r})",
        "times {step_factor!r} every {step_every!r} epochs",
    ),
    "constant": ("RATE", "always the same"),
}
"""Each schedule of `training/schedule.py` as an expression, and in words; a test holds the two to the same numbers."""

UNSPOKEN = {
    "model.weights": "",
    "model.freeze": "",
    "model.keep_norms": False,
    "optim.clip": 0.0,
    "optim.rates": "",
    "optim.layer_decay": 1.0,
    "optim.unfreeze_every": 0,
    "train.ema": 0.0,
    "train.swa": 0.0,
    "train.target": 0.0,
    "train.target_loss": 0.0,
    "machine.precision": "fp32",
}
"""Settings that a plain script has no words for, with the value at which it needs none."""

SQUARES = {
    "crop": """side = min(image.shape[1:])
    top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
    return resized(image[:, top : top + side, left : left + side], {side}, {side}){cut}""",
    "pad": """scale = SIZE / max(image.shape[1:])
    inner = resized(image, *[max(1, round(length * scale)) for length in image.shape[1:]])
    top, left = (SIZE - inner.shape[1]) // 2, (SIZE - inner.shape[2]) // 2
    right, bottom = SIZE - inner.shape[2] - left, SIZE - inner.shape[1] - top
    return nn.functional.pad(inner, (left, right, top, bottom))""",
    "squash": "return resized(image, SIZE, SIZE)",
}
SQUARE_WORDS = {"crop": "the middle of the picture", "pad": "all of it, with black bars", "squash": "out of proportion"}
UNSAID = (", stride=(1, 1)", ", bias=True", ", padding=0, dilation=1, ceil_mode=False", "start_dim=1, end_dim=-1")
"""Arguments in the repr of a layer that are the defaults."""


def script_of(
    recipe: Recipe, architecture: Architecture, preprocess: Preprocess, classes: tuple[str, ...], *, run: str
) -> str:
    """The text of a Python script that trains this network with these settings, and needs no tellapart.

    `run` names the origin in its first lines. Raises UsageError for a recipe with open values or an unknown network,
    StorageError for arguments that the network does not take.
    """
    own = {"optim.name": recipe.optimiser, "model.keep_norms": bool(recipe.model.keep_norms)}
    values = recipe.values() | own
    if still_open := [path for path in SETTLED if values[path] is None]:
        raise UsageError(f"The recipe leaves {', '.join(still_open)} open.", "Export from the run that training wrote.")
    unspoken = [path for path, usual in UNSPOKEN.items() if values[path] != usual]
    known = {"schedule": SCHEDULES, "name": OPTIMISERS}
    unspoken += [f"optim.{key} = {values[f'optim.{key}']}" for key in known if values[f"optim.{key}"] not in known[key]]
    if unspoken:
        raise UsageError(f"A plain script has no words for {unspoken[0]}.", "Export from a run without it.")
    _refuse_choice(recipe)
    several = bool(recipe.data.several)
    pieces = {
        # Never in the first two lines, where Python would take "coding: …" for the encoding of the file.
        "run": repr(run)[:60],
        "classes": listed(classes),
        **_data(recipe, preprocess),
        **network_pieces(architecture),
        **_training(recipe),
        **(columns(recipe.data) if several else {}),
    }
    return template("several" if several else "one").substitute(pieces)


def _refuse_choice(recipe: Recipe) -> None:
    """Raises UsageError for a choice among the pictures that a script would not make."""
    data, several = recipe.data, bool(recipe.data.several)
    what, that = ("a table as it is", "that") if several else ("class folders as they are", "those")
    known = (*PLACING, *TABLE) if several else PLACING
    chosen = [key for key, value in asdict(data).items() if value not in (getattr(Data(), key), "folders")]
    if beyond := [f"data.{key} = {getattr(data, key)}" for key in chosen if key not in known]:
        raise UsageError(
            f"A plain script takes {what}, and has no words for {beyond[0]}.",
            f"Put the pictures that are meant into {what.partition(' as ')[0]}, and export from a run of {that}.",
        )


def _data(recipe: Recipe, to: Preprocess) -> dict[str, str]:
    """Steps 1 and 2: pictures and batches."""
    train, share = recipe.train, recipe.data.validation or 0.15
    order = "in a new order in every epoch" if train.shuffle else "in the order of the files"
    return {
        "size": repr(to.size),
        "channels": repr(to.channels),
        "mean": repr(to.mean),
        "std": repr(to.std),
        **_square(to),
        "augmentation": _augmentation(recipe, to),
        "every": repr(max(2, round(1 / share))),
        "loader_words": f"batches of pictures, {order}. Batch norm cannot learn from one picture alone.",
        "batch_size": repr(train.batch_size),
        "shuffle": repr(train.shuffle),
        "drop_last": "True" if train.drop_last else "len(train_set) % BATCH_SIZE == 1",
    }


def _square(to: Preprocess) -> dict[str, str]:
    """How a picture becomes the square, as the body of a function; the same bits as `data/square.py` makes."""
    cut = (to.side - to.size) // 2
    kept = f"[:, {cut} : {cut} + SIZE, {cut} : {cut} + SIZE]" if cut else ""
    antialias = "" if to.filter == "nearest" else ", antialias=True"
    return {
        "square": SQUARES[to.fit].format(side=to.side if cut else "SIZE", cut=kept),
        "square_words": SQUARE_WORDS[to.fit],
        "resize": f"mode={FILTERS[to.filter]!r}{antialias}".replace("'", '"'),
        "look": "transforms.Grayscale(),\n    " if to.channels == 1 else "",
    }


def _augmentation(recipe: Recipe, to: Preprocess) -> str:
    """The list of transforms for training pictures alone."""
    asked = recipe.augment
    beyond = [key for key in asked.changes() if key not in ("shift", "flip")] + ["steps"] * bool(asked.steps)
    if beyond or asked.padding != "reflect":
        raise UsageError(
            f"A plain script can shift and mirror pictures, but has no words for augment.{(beyond or ['padding'])[0]}.",
            "Export from a run with --augment light or none.",
        )
    most, moves = round((asked.shift or 0.0) * to.size), []
    if most:
        moves.append(f'transforms.RandomCrop(SIZE, padding={most!r}, padding_mode="reflect")')
    if asked.flip:
        moves.append("transforms.RandomHorizontalFlip()")
    why = "a picture moved or mirrored keeps its class" if moves else "this run neither moved nor mirrored its pictures"
    return f"# For training only: {why}.\naugmentation = [{', '.join(moves)}]"


def network_pieces(a: Architecture) -> dict[str, str]:
    """Step 3: the network, and what it needs to be imported or defined first.

    Raises UsageError for one that only other libraries, or files of its owner, know how to make.
    """
    pieces = {"from_torch": "nn", "from_torchvision": "datasets, transforms", "network_source": ""}
    if a.changes:
        raise UsageError(
            f"A plain script has no words for a changed {a.name}.", "Export from a run without model.changes."
        )
    if is_elsewhere(a.name):
        raise UsageError(f"A plain script has no words for {printable(a.name)}.", "Its own source is what to keep.")
    if a.name in KINDS and (a.channels != 3 or a.args):
        own = _sources(conv3x3, conv1x1, BasicBlock, Bottleneck, ResNet)
        return {**pieces, "from_torch": "Tensor, nn", "network_source": own, "network": _residual(a)}
    if a.name in TORCHVISION_MODELS:
        if a.channels != 3:
            raise UsageError(
                f"A plain script has no words for {a.name} with {a.channels} channels instead of 3.",
                "Export from a run of a ResNet or of one of our own networks.",
            )
        call = f"models.get_model({quoted(a.name)}, weights=None, num_classes=len(CLASSES)"
        more = "".join(f", {key}={value!r}" for key, value in MORE_ARGUMENTS.get(a.name, {}).items())
        return {**pieces, "from_torchvision": "datasets, models, transforms", "network": f"{call}{more})"}
    if a.name == "small":
        own = _sources(pooling_stages, Stage, SmallNet)
        return {**pieces, "from_torch": "Tensor, nn", "network_source": own, "network": _small(a.args)}
    return {**pieces, "network": _layers(a)}


def _sources(*things: Callable[..., Any]) -> str:
    """The source of functions and classes of ours, without the examples in their docstrings."""
    texts = (inspect.getsource(thing).rstrip() for thing in things)
    return "".join("\n\n" + re.sub(r'\n\s+>>> .*?(?=""")', "", text, flags=re.DOTALL) + "\n" for text in texts) + "\n\n"


def _small(args: Mapping[str, int]) -> str:
    if args.keys() - {"width"}:
        raise StorageError(f"small takes the argument width; the model file has {sorted(args)}.")
    more = f", width={args['width']!r}" if "width" in args else ""
    return f"SmallNet(CHANNELS, len(CLASSES), SIZE{more})"


def _residual(a: Architecture) -> str:
    block, depths, wide = KINDS[a.name]
    more = "".join(f", {key}={value}" for key, value in wide.items())
    more += ", small_stem=True" if a.args.get("small_stem") else ""
    return f"ResNet({block.__name__}, {depths}, num_classes=len(CLASSES), channels=CHANNELS{more})"


@torch.no_grad()
def _layers(a: Architecture) -> str:
    """A stack of layers as source, each with the shape of what it gives for one picture."""
    lines, x = [], torch.zeros(1, a.channels, a.size, a.size)
    network = build(a)
    for layer in network.children():
        x = layer(x)
        lines.append(f"    nn.{_short(layer)},  # gives {' x '.join(map(str, x.shape[1:]))}")
    lines[-1] = lines[-1].replace(f"out_features={a.num_classes}", "out_features=len(CLASSES)")
    return "\n    ".join(["nn.Sequential(", *lines, ")"])


def _short(layer: nn.Module) -> str:
    text = repr(layer)
    for unsaid in UNSAID:
        text = text.replace(unsaid, "")
    return text


def _training(recipe: Recipe) -> dict[str, str]:
    """Steps 4 to 8: loss, optimiser, settings, and when to stop."""
    name = "bce" if recipe.data.several else "cross-entropy"
    plain = Loss(name=name, label_smoothing=recipe.loss.label_smoothing)
    if beyond := [key for key, value in asdict(recipe.loss).items() if value != getattr(plain, key)]:
        raise UsageError(
            f"A plain script has no words for loss.{beyond[0]} = {getattr(recipe.loss, beyond[0])}.",
            f"Export from a run with {name}, without class weights and L1.",
        )
    train, optim, smoothing = recipe.train, recipe.optim, recipe.loss.label_smoothing
    rate, rate_words = _rate(optim)
    early = train.patience is not None and train.epochs is not None and train.patience < train.epochs
    return {
        "import_math": "import math\n" if "math." in rate else "",
        "max_steps": 'float("inf")' if train.max_steps is None else repr(train.max_steps),
        "seed": repr(train.seed),
        "label_smoothing": repr(smoothing),
        "smoothing_words": f" Smoothing spreads {smoothing:g} of each target over all classes." if smoothing else "",
        "weight_decay": repr(optim.weight_decay),
        "optimizer": OPTIMISERS[recipe.optimiser].format(**asdict(optim)),
        "epochs": repr(train.epochs),
        "lr": repr(optim.lr),
        "progress": f"{' ' * 12}progress = step / total_steps\n" if "progress" in rate else "",
        "rate": rate,
        "rate_words": rate_words,
        "finished": "step == total_steps"
        + (f" or epoch - best_epoch >= {train.patience!r}:  # no better for so long" if early else ":"),
    }


def _rate(optim: Optim) -> tuple[str, str]:
    """The learning rate of a step as an expression of `progress` and `epoch`, and in words."""
    name, warmup = optim.schedule, optim.warmup or 0.0
    if name in ("one-cycle", "linear"):
        name = "one-cycle" if warmup else "linear"
    rate, words = SCHEDULES[name]
    now = f"(progress - {warmup!r}) / (1 - {warmup!r})" if warmup else "progress"
    rate, words = (text.format(**asdict(optim), now=now) for text in (rate, words))
    if warmup and name != "one-cycle":
        rise = f"RATE * (0.1 + 0.9 * progress / {warmup!r})"
        return f"{rise} if progress < {warmup!r} else {rate}", f"from a tenth up to RATE, then {words}"
    return rate, words
