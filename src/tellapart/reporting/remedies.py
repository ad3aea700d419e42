"""Remedies: what may help against a finding, as flags, of what the recipe does not use yet."""

from tellapart.names import AUGMENTATIONS
from tellapart.recipe import Recipe


def against_overfitting(recipe: Recipe, *, large: bool) -> tuple[str, ...]:
    """More pictures in effect, smaller weights, a simpler network where it is large: what is not in use yet."""
    found = []
    level = AUGMENTATIONS.index(recipe.augment.preset or "none") + 1
    if level < len(AUGMENTATIONS) and not recipe.augment.steps:
        found.append(f"--augment {AUGMENTATIONS[level]}")
    if large and recipe.model.name != "small":
        found.append("--model small")
    if recipe.loss.name == "cross-entropy" and not recipe.loss.label_smoothing:
        found.append("--set loss.label_smoothing=0.1")
    return (*found, f"--set optim.weight_decay={max(10 * recipe.optim.weight_decay, 5e-4):g}", "more pictures")


def against_underfitting(recipe: Recipe, *, usual_lr: float) -> tuple[str, ...]:
    """A rate that was far too low; else longer, with a larger network, or with less augmentation."""
    if recipe.optim.lr < usual_lr / 50:
        return (f"--lr {usual_lr / 10:g}",)
    level = AUGMENTATIONS.index(recipe.augment.preset or "none")
    wider = {"linear": ("--model small",), "small": (f"--set model.width={min(512, 2 * recipe.model.width)}",)}
    less = (f"--augment {AUGMENTATIONS[level - 1]}",) if level > 1 else ()
    return (f"--epochs {2 * recipe.train.epochs}", *wider.get(recipe.model.name, ()), *less)
