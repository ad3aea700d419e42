"""The formulas that a training really used, with their numbers, as LaTeX; from formulas.toml beside this file."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from tellapart.models.sizes import Formula, Window, convolution, pooling
from tellapart.names import SMOOTHED
from tellapart.recipe import Recipe
from tellapart.reporting.evidence import Facts, Marked, Training
from tellapart.reporting.written import tex

NO_DECAY = ("adamw", "muon")
"""Optimisers whose weight decay is apart from the gradient."""
Titled = tuple[str, str]
"""What a formula says, in LaTeX, and the formula itself."""


@cache
def _table() -> Mapping[str, Mapping[str, Sequence[str]]]:
    text = resources.files("tellapart.reporting").joinpath("formulas.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _said(section: str, key: str, **values: str) -> Titled:
    title, formula = (re.sub(r"<(\w+)>", lambda found: values[found[1]], one) for one in _table()[section][key])
    return title, formula


def formulas(of: Training) -> str:
    """All formulas of a training, each below what it is; for `\\input`, without packages."""
    lines = [f"\\noindent {title}:\n\\[ {formula} \\]" for title, formula in titled(of)]
    return "% The formulas of the run, as the code computes them.\n" + "\n\n".join(lines) + "\n"


def titled(of: Training) -> Iterator[Titled]:
    """What each formula says, and the formula, in the order of the computation."""
    yield from _input(of)
    yield from _layers(of.network.get("layers", ()))
    yield from _output(of)
    if of.recipe.train.epochs:
        yield from _loss(of.recipe)
        yield from _optimiser(of.recipe)
        yield from _schedule(of.recipe, " of its last part, since it was extended" * bool(of.status.get("extended")))
    several, one = ("marks", "average", "means", "sets"), ("class", "balanced", "kappa", "brier", "ece")
    for key in several if isinstance(of, Marked) else one:
        yield _said("score", key)
    yield _said("score", "wilson" if of.judgement.groups is None else "grouped")


def _output(of: Training) -> Iterator[Titled]:
    """From what the network gives to probabilities, and where a picture may have several classes to those it has."""
    if isinstance(of, Marked):
        yield _said("output", "sigmoid")
        yield _said("output", "threshold")
        return
    yield _said("output", "softmax")
    if (at := of.judgement.answering.temperature) != 1:
        yield _said("output", "calibrated", temperature=f"{at:.3f}")


def number(value: float) -> str:
    """A number in LaTeX: 0.0005 is 5 \\cdot 10^{-4}."""
    text = f"{value:.6g}"
    mantissa, e, power = text.partition("e")
    return f"{mantissa} \\cdot 10^{{{int(power)}}}" if e else text


def _input(of: Facts) -> Iterator[Titled]:
    found = of.network.get("preprocess")
    if found:
        mean, std = (", ".join(f"{one:.4f}" for one in found[key]) for key in ("mean", "std"))
        many = len(found["mean"]) > 1
        yield _said("input", "normalise", mean=f"({mean})" if many else mean, std=f"({std})" if many else std)


def _layers(layers: Sequence[Mapping[str, Any]]) -> Iterator[Titled]:
    """The formula of each kind of layer, and one line with numbers for each window that differs from the others."""
    worked: dict[str, dict[str, tuple[str, Sequence[Formula]]]] = {}
    for layer in layers:
        if (found := _sized(layer)) is not None:
            kind, key, lines = found
            worked.setdefault(kind, {}).setdefault(key, (layer["path"], lines))
    for kind, examples in worked.items():
        yield _said("layer", kind)
        for path, lines in examples.values():
            for line in lines:
                yield f"In the layer \\texttt{{{tex(path)}}}", line.latex
    names = {layer["name"] for layer in layers}
    for key, known in (("linear", {"Linear", "linear"}), ("norm", {"BatchNorm2d"}), ("relu", {"ReLU", "relu"})):
        if names & known:
            yield _said("layer", key)


def _sized(layer: Mapping[str, Any]) -> tuple[str, str, Sequence[Formula]] | None:
    """The kind of a layer with a window, what tells its window from others, and its arithmetic without the general
    formula; None where it has no window, or one that is computed in another way.
    """
    name, window = layer["name"].lower().replace("_", ""), layer["window"]
    if not window or not name.startswith(("conv2d", "maxpool2d", "avgpool2d")):
        return None
    sides = Window(*(tuple(window[key]) for key in ("kernel", "stride", "padding", "dilation")))
    shape, out, ceil = tuple(layer["inputs"][0]), tuple(layer["output"]), window["ceil_mode"]
    if name.startswith("conv"):
        made, kind = convolution(shape, sides, filters=out[1], groups=layer["groups"]), "convolution"
    else:
        made = pooling(shape, sides, "Max" if name.startswith("max") else "Avg", ceil_mode=ceil)
        kind = "ceiling" if ceil else "pooling"
    return (kind, f"{sides}", made.formulas[1:]) if made.output == out else None


def _loss(recipe: Recipe) -> Iterator[Titled]:
    loss = recipe.loss
    weighted = loss.weights != "none" or bool(loss.ignore)
    if loss.name != "hinge":
        smooth = loss.label_smoothing if loss.name in SMOOTHED else 0.0
        key = "several" if recipe.data.several else "smoothed" if smooth else "hard"
        yield _said("target", key, smoothing=number(smooth))
    if recipe.augment.mixup or recipe.augment.cutmix:
        yield _said("target", "mixed")
    own = weighted and loss.name == "cross-entropy"
    values = {"gamma": number(loss.gamma), "delta": number(loss.delta)}
    yield _said("loss", "weighted-cross-entropy" if own else loss.name, **values)
    left = "; pictures of a class that is ignored count in neither sum" * bool(loss.ignore)
    yield _said("loss", "already-weighted" if own else "weighted" if weighted else "mean", ignored=left)
    if loss.l1:
        yield _said("loss", "lasso", l1=number(loss.l1))


def _optimiser(recipe: Recipe) -> Iterator[Titled]:
    optim, name = recipe.optim, recipe.optimiser
    if optim.clip:
        yield _said("optimiser", "clip", clip=number(optim.clip))
    if optim.weight_decay and name != "muon":
        yield _said("optimiser", "decoupled" if name in NO_DECAY else "decay", decay=number(optim.weight_decay))
    fresh = number(1 - optim.dampening)
    values = {
        **{"momentum": number(optim.momentum), "beta1": number(optim.beta1), "beta2": number(optim.beta2)},
        **{"fresh": "" if fresh == "1" else fresh, "decay": number(optim.weight_decay)},
        "name": {"adam": "Adam", "adamw": "AdamW"}.get(name, ""),
    }
    key = {"adamw": "adam", "sgd": _kind_of_sgd(recipe)}.get(name, name)
    yield _said("optimiser", key, **values)
    if name == "muon":
        yield _said("optimiser", "adam", **{**values, "name": "AdamW, for norms and biases,"})
    if optim.layer_decay != 1:
        yield _said("optimiser", "blocks", decay=number(optim.layer_decay))
    if recipe.train.ema:
        yield _said("optimiser", "ema", ema=number(recipe.train.ema))
    if recipe.train.swa:
        yield _said("optimiser", "swa", share=f"{100 * recipe.train.swa:g}\\,\\%")


def _kind_of_sgd(recipe: Recipe) -> str:
    optim = recipe.optim
    nesterov = optim.plain_momentum() if optim.nesterov is None else optim.nesterov
    return "sgd-plain" if not optim.momentum else "sgd-nesterov" if nesterov else "sgd-momentum"


def _schedule(recipe: Recipe, part: str) -> Iterator[Titled]:
    """The rate; `part` says of which part of the training, where it has several."""
    optim = recipe.optim
    warm, name = optim.warmup or 0.0, optim.schedule
    if warm:
        yield _said("schedule", "warmup", warmup=number(warm), lr=number(optim.lr), part=part)
    risen = r"\frac{u - \omega}{1 - \omega}" if warm else "u"
    values = {
        **{"lr": number(optim.lr), "risen": risen, "falling": r"\frac{1 - u}{1 - \omega}" if warm else "(1 - u)"},
        **{"factor": number(optim.step_factor), "every": f"{optim.step_every}", "wait": f"{optim.plateau_after}"},
        "after": " after that" if warm else f" at the share $u$ of the steps{part}",
    }
    if name in ("constant", "plateau", "step") and not warm:
        values["after"] = part
    yield _said("schedule", "linear" if name == "one-cycle" else name, **values)
