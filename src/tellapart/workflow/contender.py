"""A contender: a trained run, or several trainings of one recipe, by what is stored of it. No torch, no seal opened."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import NONE
from tellapart.errors import MismatchError, StorageError, UsageError, refuse_marks
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.several import OUT_OF_FOLD
from tellapart.files import read_text
from tellapart.recipe import Recipe, printable
from tellapart.recipe_values import origins_of, to_toml_value
from tellapart.run import MEMBERS, Run, every_run, json_object

OWN = {"time", "pid"}
"""What of environment.json differs between any two trainings."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What takes part in a comparison: a run, or a folder of several trainings, those that diverged left out.

    `rows`: of each picture by its key, what split.csv says of it. `recipe` and `origins` hold what all trainings share.
    """

    run: Run
    trainings: Sequence[Run]
    folds: bool
    rows: Mapping[str, Mapping[str, str]]
    recipe: Mapping[str, str]
    origins: Mapping[str, str]
    environment: Mapping[str, str]
    notes: Sequence[str] = ()
    said: Sequence[Predictions] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """What it is called."""
        return printable(self.run.name)

    @property
    def opened(self) -> bool:
        """Whether each of its trainings has opened the test part."""
        return not self.folds and all(one.predictions("test").is_file() for one in self.trainings)

    @property
    def test(self) -> str:
        """How its test part stands: opened, sealed, or none."""
        has = bool(self.trainings[0].status().get("test_part"))
        return "none" if not has else "opened" if self.opened else "sealed"

    @property
    def fits(self) -> list[tuple[str, str]]:
        """How each of its trainings fits, by name, with the gap between training and validation; none with folds."""
        every = [(printable(one.name), one.status().get("diagnosis") or []) for one in self.trainings if not self.folds]
        found = [(name, one) for name, findings in every for one in findings if isinstance(one, dict)]
        return [(name, f"{one.get('label')}: {one['text']}") for name, one in found if ", gap " in str(one.get("text"))]

    def heard(self, part: str) -> "Contender":
        """With what its trainings said of a part, in one order of the pictures; folds are heard out of fold, by seed.

        Raises StorageError where that is not stored, or a training is not at its end.
        """
        if self.folds:
            home = self.run.predictions(OUT_OF_FOLD)
            every = sorted(home.parent.glob(f"{OUT_OF_FOLD}*.safetensors")) or [home]
            stored, ends, what = [(self.run, path) for path in every], ("finished", "diverged"), "of all pictures"
        else:
            stored = [(one, one.predictions(part)) for one in self.trainings]
            ends, what = ("finished",), f"of its {part} part"
        for run, path in stored:
            state = run.status().get("state")
            if state not in ends or not path.is_file():
                hint = "A training has them when it came to its end; `tellapart runs` lists how each stands."
                raise StorageError(f"{printable(run.name)} is {state}, and has no final predictions {what}.", hint)
        found = [Predictions.load(path) for _, path in stored]
        refuse_marks(found[0].marks is not None and len(found) > 1, "A comparison of several trainings", "Name two.")
        return replace(self, said=_in_one_order(self.name, found))

    @property
    def has_digests(self) -> bool:
        """Whether the pixels of all pictures that it judged are known by their digests."""
        return all(self.rows.get(key, {}).get("digest") for key in self.said[0].keys)

    def by_key(self) -> "Contender":
        """Without digests: its pictures are known by their keys."""
        return replace(self, rows={key: {**row, "digest": ""} for key, row in self.rows.items()})

    def named(self, keys: Iterable[str]) -> list[str]:
        """What each picture is known by: the digest of its pixels, else its key."""
        return [self.rows.get(key, {}).get("digest") or key for key in keys]

    @property
    def trained(self) -> list[str]:
        """The keys of its training pictures; none with folds, where each picture is judged by a model without it."""
        return [key for key, row in self.rows.items() if row["part"] == "train"]

    def groups(self) -> dict[str, str]:
        """The group of each picture, where pictures come in groups."""
        found = {key: row.get("group") or f"\0{key}" for key, row in self.rows.items()}
        return found if len(set(found.values())) < len(found) else {}


def contender(runs: Path, name: str) -> Contender:
    """The run of that name, at that path or with that model file; or a folder of several trainings.

    Raises UsageError for a name that is none, StorageError for what cannot be read.
    """
    path = Path(name)
    if path.is_file() and not (path.parent / "status.json").is_file():
        raise UsageError(f"{printable(name)} lies in no run folder: no predictions are stored with it.", "Name a run.")
    run = Run.find(runs, str(path.resolve().parent) if path.is_file() else name)
    members = (json_object(read_text(run.folder / MEMBERS)) or {}) if run.several else {}
    trainings = every_run(run.folder) if run.several else [run]
    if "search" in members:
        some = " ".join(one.called for one in trainings[:2])
        raise UsageError(f"{run.name} is a search, whose trials differ.", f"Compare trials: tellapart compare {some}.")
    done = [one for one in trainings if one.status().get("state") != "diverged"] or trainings
    left = [f"{printable(one.name)} diverged and is left out" for one in trainings if one not in done]
    folds = bool(members.get("folds"))
    shared = [_recipe(one) for one in done]
    recipe = {
        path: value for path, value in shared[0][0].items() if all(path in o and o[path] == value for o, _ in shared)
    }
    return Contender(
        run=run,
        trainings=done,
        folds=folds,
        rows=_rows(done[0], folds),
        recipe=recipe,
        origins=shared[0][1],
        environment=_environment(done[0]),
        notes=[*left, *_edited(done)],
    )


def _in_one_order(name: str, said: list[Predictions]) -> list[Predictions]:
    """The predictions of several trainings with the same picture in the same row."""
    first, found = said[0], [said[0]]
    for one in said[1:]:
        row = {key: n for n, key in enumerate(one.keys)}
        if row.keys() != set(first.keys) or one.classes != first.classes:
            raise MismatchError(f"The trainings in {name} were judged by different pictures.", "Name two of them.")
        order = np.array([row[key] for key in first.keys], np.int64)
        found.append(replace(one, keys=first.keys, logits=one.logits[order], labels=one.labels[order]))
    return found


def _rows(run: Run, folds: bool) -> dict[str, dict[str, str]]:
    """The rows of split.csv by key. With folds, what trains is judged as well, by a model that never saw it."""
    path = run.folder / "split.csv"
    text = read_text(path, errors="surrogateescape") if path.is_file() else ""
    found = {row["key"]: row for row in csv.DictReader(io.StringIO(text)) if "key" in row and "part" in row}
    if folds:
        found = {key: {**row, "part": row["part"].replace("train", "validation")} for key, row in found.items()}
    return found


def _text(run: Run) -> str:
    path = run.folder / "recipe.toml"
    return read_text(path) if path.is_file() else ""


def _recipe(run: Run) -> tuple[dict[str, str], dict[str, str]]:
    """The settings of a run as they are spelled in TOML, and where each is from; nothing where none are written yet."""
    text = _text(run)
    values = Recipe.from_toml(text, where=str(run.folder / "recipe.toml")).values() if text else {}
    return {path: to_toml_value(value) for path, value in values.items()}, origins_of(text)


def _edited(trainings: Sequence[Run]) -> list[str]:
    names = [
        printable(run.name)
        for run in trainings
        if (text := _text(run)) and hashlib.sha256(text.encode()).hexdigest()[:32] != run.status().get("recipe")
    ]
    return [f"recipe.toml of {name} is not as the run wrote it" for name in names]


def _environment(run: Run) -> dict[str, str]:
    """Where it was trained, as flat words."""
    path = run.folder / "environment.json"
    found: dict[str, Any] = (json_object(read_text(path)) if path.is_file() else None) or {}
    packages = found.pop("packages", {})
    flat = {**found, **(packages if isinstance(packages, dict) else {})}
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in flat.items() if key not in OWN
    }


def in_a_row(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + [*names[-1:]])


def names_of(said: Predictions, rows: NDArray[np.int64]) -> list[str]:
    """The class of some pictures, in words; of several all: 'cat + dog'."""
    if said.marks is not None:
        each = (sorted(said.classes[k] for k in np.flatnonzero(row)) for row in said.marks[rows])
        return [" + ".join(names) or NONE for names in each]
    return [said.classes[label] for label in said.labels[rows].tolist()]
