"""Settle pictures with several classes each (multi-label): the loss they need, and what is refused beside them."""

from tellapart.errors import UsageError, refuse_marks
from tellapart.names import BODY
from tellapart.recipe import Recipe
from tellapart.workflow.settle import Settled

OWN = {"loss.name": "bce", "loss.label_smoothing": 0.0}
"""What such pictures are trained with unless something else is asked for; the rest is refused."""


def for_marks(settled: Settled) -> Settled:
    """The recipe with a yes or no for each class as its loss, where pictures may have several classes; else as it is.

    Raises UsageError for settings that need one class for each picture.
    """
    recipe, defaults, origins = settled.recipe, Recipe().values(), dict(settled.origins)
    if not recipe.data.several:
        return settled
    values = recipe.values()
    found = {path: value for path, value in OWN.items() if path not in origins and values[path] == defaults[path]}
    recipe = recipe.replaced(found)
    refuse_unfit(recipe)
    why = "auto: pictures may have several classes"
    return Settled(recipe, {**origins, **{path: why for path in found if found[path] != defaults[path]}})


def refuse_unfit(recipe: Recipe) -> None:
    """Raises UsageError for what cannot be trained where pictures may have several classes."""
    if recipe.loss.name != "bce":
        needs = f"--several: a picture may have several classes, and the loss {recipe.loss.name} knows one."
        raise UsageError(needs, "Use --loss bce, a yes or no for each class, or leave --loss out.")
    one_each = {
        "loss.label_smoothing": recipe.loss.label_smoothing,
        "loss.weights": recipe.loss.weights != "none",
        "loss.ignore": recipe.loss.ignore,
        "train.target": recipe.train.target,
        "data.overlay": recipe.data.overlay,
        "data.limit_per_class": recipe.data.limit_per_class,
    }
    for path, asked in one_each.items():
        refuse_marks(asked, path, "Leave it out.")
    if recipe.train.epochs == 0 or (recipe.model.freeze == BODY and recipe.train.epochs is None):
        refuse_marks(True, "Fitting the head at once", "Train it by steps: --epochs 10.")


def refuse_marked(recipe: Recipe, what: str, hint: str = "") -> None:
    """Raises UsageError where a recipe is of pictures that may have several classes, for what needs one for each."""
    refuse_marks(recipe.data.several, what, hint)


def score_of(recipe: Recipe) -> str:
    """What an epoch is judged by on validation, the loss apart."""
    return "mean average precision" if recipe.data.several else "accuracy"


def key_of(score: str) -> str:
    """How that is called in metrics.jsonl and status.json: `val_accuracy`, `val_mean_average_precision`."""
    return f"val_{score.replace(' ', '_')}"
