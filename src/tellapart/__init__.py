"""tellapart: from labelled pictures to a classifier whose number you can report and whose file you can ship."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tellapart.data.given import from_arrays as from_arrays
    from tellapart.data.given import from_dataset as from_dataset
    from tellapart.errors import TellapartError as TellapartError
    from tellapart.models.allowed import allow_code as allow_code
    from tellapart.recipe import Recipe as Recipe
    from tellapart.workflow.many import train_many as train_many
    from tellapart.workflow.predict import load as load
    from tellapart.workflow.train import Asking as Asking
    from tellapart.workflow.train import train as train

_HOMES = {
    "Recipe": "tellapart.recipe",
    "TellapartError": "tellapart.errors",
    "Asking": "tellapart.workflow.train",
    "allow_code": "tellapart.models.allowed",
    "from_arrays": "tellapart.data.given",
    "from_dataset": "tellapart.data.given",
    "load": "tellapart.workflow.predict",
    "train": "tellapart.workflow.train",
    "train_many": "tellapart.workflow.many",
}

__all__ = [
    "Asking",
    "Recipe",
    "TellapartError",
    "__version__",
    "allow_code",
    "from_arrays",
    "from_dataset",
    "load",
    "train",
    "train_many",
]


def __getattr__(name: str) -> Any:
    """Public names are looked up when they are first used, so that importing tellapart loads nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tellapart' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
