"""The recipes that stand in a run folder, with where each value is from. No torch here."""

import hashlib
from pathlib import Path

from tellapart.errors import MismatchError, UsageError
from tellapart.files import read_text
from tellapart.run import Run


def identity_of(recipe: str) -> str:
    """The identity of a recipe's text: a run whose recipe.toml was changed cannot be continued or judged as it was."""
    return hashlib.sha256(recipe.encode()).hexdigest()[:32]


def recipe_text(run: Run) -> str:
    """The text of recipe.toml as the run wrote it, with the origin of each value."""
    path, status = run.folder / "recipe.toml", run.status()
    if not path.is_file():
        raise UsageError(f"The run {run.name} was stopped before it began to train.", "Start anew: `tellapart train`.")
    before = path.with_name(f"recipe-{len(status.get('extended', [])) + 1}.toml")
    if before.is_file() and identity_of(read_text(before)) == status.get("recipe"):
        return read_text(before)  # it was about to be extended when it was stopped
    return _unchanged(path, status.get("recipe", ""))


def recipe_texts(run: Run) -> list[str]:
    """The recipes that a run had, in order: the one it began with, and one for each time it was extended."""
    before = enumerate(run.status().get("extended", []), start=1)
    return [*(_unchanged(run.folder / f"recipe-{n}.toml", entry["recipe"]) for n, entry in before), recipe_text(run)]


def _unchanged(path: Path, identity: str) -> str:
    text = read_text(path)
    if identity_of(text) != identity:
        raise MismatchError(f"{path} is not as the run wrote it.", "Put the old text back, or train a new run with it.")
    return text
