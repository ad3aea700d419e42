"""Many: one recipe trained on every fold, with several seeds, or both; what differs between them, as one summary.

for event in train_many(Recipe.from_values({"data.source": "digits"}), Asking(), folds=5):
    print(event)
"""

import csv
import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tellapart.errors import DataError, DivergedError, MismatchError, StorageError, TellapartError, UsageError
from tellapart.evaluation.metrics import Figure, judge, judge_classes
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.several import OUT_OF_FOLD, Spread, pooled, spreads
from tellapart.files import read_text
from tellapart.recipe import Recipe
from tellapart.run import MEMBERS, Run, json_object, refuse_several
from tellapart.workflow.begin import PATHS, from_where_it_began, recipe_of
from tellapart.workflow.events import Begun, Event, Member, Said, Summary, Verdict
from tellapart.workflow.prepare import decoded_whole, in_parts
from tellapart.workflow.resume import refuse_other_transform, resume
from tellapart.workflow.settle import Settled, refuse_impossible
from tellapart.workflow.settle_marks import refuse_marked
from tellapart.workflow.train import Asking, stoppable, told, train

ENDED = {"finished": " is finished", "diverged": " has diverged"}
"""The states in which a training of several is left alone, as they are said."""


@dataclass(frozen=True, kw_only=True)
class Several:
    """What a folder of several trainings is to hold: so many folds (0: none), so many seeds from the first one on.

    `recipe` (as TOML) and `origins` are as they were asked for, `at` the folder in which that was.
    """

    folds: int
    seeds: int
    seed: int
    recipe: str
    origins: Mapping[str, str]
    at: str

    def members(self) -> Iterator[tuple[str, str, int, int | None]]:
        """Of each training: the name of its folder, what to call it, its seed and its fold."""
        for seed in range(self.seed, self.seed + self.seeds):
            for fold in range(self.folds) or [None]:
                of = [] if fold is None else [(f"fold-{fold}", f"fold {fold + 1}/{self.folds}")]
                of += [(f"seed-{seed}", f"seed {seed - self.seed + 1}/{self.seeds}")] if self.seeds > 1 else []
                yield "-".join(name for name, _ in of), ", ".join(words for _, words in of), seed, fold


def train_many(recipe: Recipe, asking: Asking, *, folds: int = 0, seeds: int = 1) -> Iterator[Event]:
    """Train a recipe once on each fold, and with each of `seeds` seeds from its own on; the last event is the Summary.

    Each training is a run of its own in one folder. The test part stays sealed in all of them, whatever
    `asking.open_test` says: `tellapart test` opens it with the one that is chosen. Raises TellapartError.
    """
    refuse_several("A series of trainings", recipe.machine.processes)
    refuse_marked(recipe, "--folds" if folds else "--seeds", "Train once for each, by --set train.seed=1.")
    if folds and (recipe.data.folds or recipe.data.fold):
        raise UsageError(
            "--folds trains on every fold; data.folds and data.fold are for one.", "Leave one of them out."
        )
    if folds == 1 or folds < 0 or seeds < 1 or (not folds and seeds == 1):
        raise UsageError(f"Received {folds} folds and {seeds} seeds.", "Two folds or more are needed, or two seeds.")
    if asking.index is not None and recipe.data.source == Recipe().data.source:
        recipe = recipe.replaced({"data.source": f"python:{asking.index.name}"})
    refuse_impossible(Settled(recipe, asking.origins))
    recipe.replaced({"data.folds": folds, "train.seed": recipe.train.seed + seeds - 1})  # in range, or an error
    source = recipe.data.source
    run = Run.create(asking.runs, asking.name, about=f"{Path(source).name}-{recipe.model.name}-several", source=source)
    (run.folder / "checkpoints").rmdir()
    several = Several(
        folds=folds,
        seeds=seeds,
        seed=recipe.train.seed,
        recipe=recipe.to_toml(),
        origins=dict(asking.origins),
        at=os.getcwd(),
    )
    run.write(MEMBERS, json.dumps(asdict(several), indent=1) + "\n")
    run.write("command.txt", asking.command + "\n")
    named = {"source": recipe.data.source, "model": recipe.model.name}
    run.set_status(state="preparing", transform=asking.transform is not None, **named)
    return told(run, _path(run, several, asking))


def go_on(run: Run, asking: Asking) -> Iterator[Event]:
    """Continue a stopped training; in a folder of several, the one that was stopped and those that are left.

    The test part of one of several stays sealed. Raises UsageError when all is finished.
    """
    if not run.several:
        alone = run.home == run.folder.parent
        return resume(run, asking if alone else replace(asking, open_test=False))
    refuse_several("A series of trainings")
    members = json_object(read_text(run.folder / MEMBERS)) or {}
    if "search" in members:
        raise UsageError(f"{run.name} is a search.", f"Go on with it: `tellapart search --resume {run.called}`.")
    if run.status().get("state") == "finished":
        raise UsageError(f"The trainings in {run.name} are finished.", f"{run.folder / 'summary.json'} sums them up.")
    refuse_other_transform(run, asking)
    try:
        several = Several(**members)
    except TypeError as error:
        raise StorageError(f"{run.folder / MEMBERS} is damaged.", "The runs in the folder are not.") from error
    return told(run, _path(run, several, asking), fresh=False)


def _path(run: Run, several: Several, asking: Asking) -> Iterator[Event]:
    """Every training that is not finished, one after the other, then the summary; a stop says how to go on with all."""
    try:
        yield from _each(run, several, replace(asking, open_test=False))
    except TellapartError as error:
        error.hint, of_one = re.subn(r" ?`tellapart resume [^`]*` goes on from here\.", "", error.hint)
        if of_one or error.exit_code in (130, 143):
            error.hint = f"{error.hint} `tellapart resume {run.called}` goes on from here.".strip()
        raise


def _each(run: Run, several: Several, asking: Asking) -> Iterator[Event]:
    said: set[str] = set()
    recipe = _as_meant(several)
    first, *_ = members = [Run(run.folder / name) for name, *_ in several.members()]
    if several.folds and not _begun(first):
        _refuse_folds(recipe, several, asking)
    for member, (_, words, seed, fold) in zip(members, several.members(), strict=True):
        state = member.status()["state"] if _begun(member) else ""
        yield Said(text=f"{words}: {member.name}{ENDED.get(state, '')}")
        if state in ENDED:
            continue
        for event in _to_its_end(_one(member, first, _settled(first, recipe, several, seed, fold), asking), words):
            if isinstance(event, Begun):
                run.set_status(state="running")
                event = replace(event, of=words)
            if isinstance(event, Verdict):
                figure = event.figures[0]
                yield Said(text=f"{words}: validation accuracy {100 * figure.value:.1f} % (n = {figure.n:,})")
            if not isinstance(event, Said) or event.stage == 1 or event.text not in said:  # once for all
                yield event
            said |= {event.text} if isinstance(event, Said) else set()
    yield _summed(run, several, members)


def _to_its_end(events: Iterator[Event], words: str) -> Iterator[Event]:
    """One training; when it diverges, that is said, and the others are trained all the same."""
    try:
        yield from events
    except DivergedError as error:
        yield Said(stage=-1, text=f"{words}: {error} No number will count it.")


def _begun(member: Run) -> bool:
    return (member.folder / "recipe.toml").is_file()


def _as_meant(several: Several) -> Recipe:
    """The recipe that was asked for, with paths from where that was."""
    recipe = Recipe.from_toml(several.recipe, where=MEMBERS)
    own = ["data.split"] * (recipe.data.split not in ("auto", "new")) + ["data.overlay"]
    moved = os.getcwd() != several.at
    return recipe.replaced(from_where_it_began(recipe, several.at, (*PATHS, *own))) if moved else recipe


def _settled(first: Run, recipe: Recipe, several: Several, seed: int, fold: int | None) -> Settled:
    """The recipe of one training: what the first one found out holds for all, so that nothing else differs."""
    own: dict[str, Any] = {"train.seed": seed}
    origins = {**several.origins, **({"train.seed": "--seeds"} if several.seeds > 1 else {})}
    if fold is not None:
        own |= {"data.folds": several.folds, "data.fold": fold}
        origins |= {"data.folds": "--folds", "data.fold": "--folds"}
    if _begun(first):
        asked, found = recipe.values(), recipe_of(first).values()
        auto = [path for path, value in found.items() if value != asked[path] and path.partition(".")[0] != "data"]
        origins |= {path: f"auto: as in {first.folder.name}" for path in auto if path not in own}
        own = {path: found[path] for path in auto} | own
        own |= {"data.overlay": str(first.folder / "overlay.csv")} if recipe.data.overlay else {}
    return Settled(recipe.replaced(own), origins)


def _one(member: Run, first: Run, settled: Settled, asking: Asking) -> Iterator[Event]:
    """One training, begun or continued, on the pictures of the first."""
    if _begun(member):
        events = resume(member, asking)
    else:
        shutil.rmtree(member.folder, ignore_errors=True)  # it was stopped while pictures were read
        own = replace(asking, runs=member.folder.parent, name=member.folder.name, origins=settled.origins)
        events = train(settled.recipe, own)
    for event in events:
        if isinstance(event, Begun) and event.first_step == 0 and not _same_pictures(first, member):
            shutil.rmtree(member.folder)  # nothing is trained there yet
            raise MismatchError(
                f"The pictures, or the test part, are no longer those that {first.name} was trained with.",
                "Bring back the old ones, or start anew.",
            )
        yield event


def _refuse_folds(recipe: Recipe, several: Several, asking: Asking) -> None:
    """Raises UsageError for a validation part that is there already, DataError for a class too small for the folds."""
    data, settled = recipe.data, Settled(recipe.replaced({"data.folds": several.folds}), several.origins)
    index = decoded_whole(settled, index=asking.index, progress=stoppable(asking), fetching=asking.fetching).index
    brings = len(index.rows("validation")) if data.split == "auto" else 0
    if brings:
        split = f"`tellapart split {shlex.quote(data.source)} --folds {several.folds} --out split.csv`"
        deal = f"To deal it with the rest, write {split} and add --split split.csv."
        raise UsageError(
            f"--folds takes every picture in turn for validation, and the data bring a part of {brings:,} for that.",
            "Leave --validation-from out." if data.validation_from else deal,
        )
    for fold in range(several.folds):
        try:
            in_parts(settled.recipe.replaced({"data.fold": fold}), index)
        except DataError as error:
            if data.split not in ("auto", "new"):
                raise
            hint = "Use fewer folds, add pictures, or leave the class out with --exclude."
            raise DataError(f"With {several.folds} folds: {error.message}", hint) from error


def _same_pictures(first: Run, member: Run) -> bool:
    """Whether two runs have the same pictures and test part, and the same split if they are of one fold."""
    one, other = ({row["key"]: row["digest"] for row in _split_of(run)} for run in (first, member))
    same = one.keys() == other.keys() and all("" in (one[key], other[key]) or one[key] == other[key] for key in one)
    whole = "split" if recipe_of(first).data == recipe_of(member).data else "test_part"
    return same and first.status()[whole] == member.status()[whole]


def _split_of(run: Run) -> Iterator[dict[str, str]]:
    """The rows of a run's split.csv; one that was left out has no digest."""
    yield from csv.DictReader(io.StringIO(read_text(run.folder / "split.csv", errors="surrogateescape")))


def _summed(run: Run, several: Several, members: list[Run]) -> Summary:
    """Judge what is stored of every training, and write summary.json and the out-of-fold predictions."""
    about, judged, stored = [(seed, fold) for *_, seed, fold in several.members()], [], {}
    for member, (seed, fold) in zip(members, about, strict=True):
        of, status = {"run": member.folder.name, "seed": seed, "fold": fold}, member.status()
        if status["state"] == "diverged":
            judged.append(Member(**of, why=status["error"].split(". ")[0].rstrip(".") + "."))
            continue
        stored[seed, fold] = Predictions.load(member.predictions("validation"))
        judged.append(Member(**of, figures=judge(stored[seed, fold])))
    opened = [member.predictions("test").is_file() for member in members]
    by_seed = _pooled(run, several, members, stored) if several.folds else {}
    figures = {seed: [replace(one, about=seed) for one in judge(said)] for seed, said in by_seed.items()}
    over = [f"{several.folds} folds"] * bool(several.folds) + [f"{several.seeds} seeds"] * (several.seeds > 1)
    found = _spread([one.figures for one in judged if not one.why], len(judged), " x ".join(over))
    if several.folds and several.seeds > 1:
        found += _spread(list(figures.values()), several.seeds, f"{over[1]}, out of fold")
    summary = Summary(
        run=run.name,
        called=run.called,
        folder=str(run.folder),
        members=judged,
        spreads=found,
        pooled=[one for figure in figures.values() for one in figure],
        by_class=judge_classes(by_seed[""]) if "" in by_seed else [],
        test="none" if not members[0].status()["test_part"] else "opened" if any(opened) else "sealed",
    )
    run.write("summary.json", json.dumps(summary.to_json(), indent=1) + "\n")
    state = "diverged" if summary.diverged else "finished"
    run.set_status(state=state, figures=[figure.to_json() for figure in figures.get("", [])], error=None)
    return summary


def _spread(trainings: list[list[Figure]], wanted: int, over: str) -> list[Spread]:
    """Mean and deviation over those that did not diverge, of which there must be two."""
    if len(trainings) < wanted:
        over = f"{len(trainings)} of {wanted} trainings: {over}" if " x " in over else f"{len(trainings)} of {over}"
    return spreads(trainings, over) if len(trainings) > 1 else []


def _pooled(
    run: Run, several: Several, members: list[Run], stored: Mapping[tuple[int, int | None], Predictions]
) -> dict[str, Predictions]:
    """The out-of-fold predictions by seed, as they are stored; with one seed, it needs no name. A seed of which a fold
    diverged has none: not every picture was judged.
    """
    rows = (row for member in members[: several.folds] for row in _split_of(member))
    keys, found = {row["key"] for row in rows if row["part"] in ("train", "validation")}, {}
    for seed in range(several.seed, several.seed + several.seeds):
        name = f"seed {seed}" if several.seeds > 1 else ""
        folds = [stored[seed, fold] for fold in range(several.folds) if (seed, fold) in stored]
        if len(folds) < several.folds:
            continue
        found[name] = pooled(folds, keys)
        found[name].save(run.predictions("-".join([OUT_OF_FOLD, *name.split()])))
    return found
