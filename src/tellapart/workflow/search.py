"""Search: many trainings of one recipe with some fields varied, ranked by validation alone; the test stays sealed.

for event in search(Recipe.from_values({"data.source": "digits"}), Asking(), tries=["optim.lr=0.01..0.3"], trials=9):
    print(event)
"""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tellapart.errors import DivergedError, Interrupted, StorageError, TellapartError, UsageError, refuse_marks
from tellapart.evaluation.metrics import proportion
from tellapart.files import csv_text, read_text
from tellapart.names import NAMED_SOURCES
from tellapart.recipe import Recipe
from tellapart.run import MEMBERS, Run, json_object, refuse_several
from tellapart.workflow.begin import PATHS
from tellapart.workflow.events import Begun, Epoch, Event, Said, Step
from tellapart.workflow.resume import resume
from tellapart.workflow.search_database import database, optuna_at_hand, shown
from tellapart.workflow.search_results import Found, drawn, rows, tried
from tellapart.workflow.search_space import counted, fields_of, refuse_fields, spelled
from tellapart.workflow.search_store import LOST, Claim, Store, Taken, held
from tellapart.workflow.settle import Settled, with_digest
from tellapart.workflow.train import Asking, train


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched: a recipe (as TOML) with the origin of its values, the fields, and how many trials in all.

    `storage` is the address of the database without its password; empty: a file in the folder.
    """

    recipe: str
    origins: Mapping[str, str]
    tries: Sequence[str]
    trials: int
    prune: str = ""
    storage: str = ""


class Pruned(Interrupted):
    """A trial ends early, because others were better by then."""


def search(
    recipe: Recipe,
    asking: Asking,
    *,
    tries: Sequence[str],
    trials: int | None = None,
    prune: str = "",
    storage: str = "",
) -> Iterator[Event | Found]:
    """Train `trials` times (20, or every combination if there are fewer) with the fields of `tries` varied.

    The last event is Found.
    A search of this name that was begun with the same words goes on. The test part stays sealed in all trials, whatever
    `asking.open_test` says. storage: a database that several machines share. Raises TellapartError.
    """
    refuse_several("A search", recipe.machine.processes)
    refuse_marks(recipe.data.several, "A search")
    optuna_at_hand()
    fields = fields_of(tries)
    refuse_fields(recipe, asking.origins, fields)
    trials = counted(fields, trials)
    if storage and not asking.name:
        raise UsageError("A search in a shared database needs a name.", "Give it to all machines alike: --run NAME.")
    asked = Search(
        recipe=_at_home(recipe).to_toml(),
        origins=dict(asking.origins),
        tries=list(tries),
        trials=trials,
        prune=prune,
        storage=shown(storage) if storage else "",
    )
    run = _folder(recipe, asked, asking)
    return _path(run, asked, storage, asking)


def search_again(run: Run, asking: Asking, *, trials: int | None = None, storage: str = "") -> Iterator[Event | Found]:
    """Go on with a search, to so many trials in all if they are given. Raises UsageError for a run that is none."""
    found = _asked(run)
    if found is None:
        raise UsageError(f"{run.name} is no search.", f"`tellapart resume {run.called}` goes on with a training.")
    asked = replace(found, trials=trials or found.trials)
    refuse_fields(Recipe.from_toml(asked.recipe), asked.origins, fields_of(asked.tries))
    counted(fields_of(asked.tries), asked.trials)
    return _path(run, asked, storage or asked.storage, asking)


def _asked(run: Run) -> Search | None:
    known = json_object(read_text(run.folder / MEMBERS)) if (run.folder / MEMBERS).is_file() else None
    try:
        return Search(**known["search"]) if known and "search" in known else None
    except TypeError as error:
        raise StorageError(f"{run.folder / MEMBERS} is damaged.", "The runs in the folder are not.") from error


def _at_home(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths, and its file of code named by digest: a search may go on from elsewhere."""
    values = {path: recipe.values()[path] for path in (*PATHS, "data.split", "data.overlay")}
    there = {path: os.path.abspath(value) for path, value in values.items() if value and os.path.exists(value)}
    recipe = recipe.replaced({path: value for path, value in there.items() if values[path] not in NAMED_SOURCES})
    return with_digest(Settled(recipe, {})).recipe


def _folder(recipe: Recipe, asked: Search, asking: Asking) -> Run:
    """The folder of the search: the one there is, or a new one, which appears whole."""
    if asking.name and _asked(known := Run(asking.runs.absolute() / asking.name)) is not None:
        return known
    about = f"{Path(recipe.data.source).name}-{recipe.model.name}-search"
    run = Run.create(asking.runs, asking.name, about=about, source=recipe.data.source)
    run.write(MEMBERS, json.dumps({"search": asdict(asked)}, indent=1) + "\n")
    run.write("command.txt", asking.command + "\n")
    run.set_status(state="preparing", source=recipe.data.source, model=recipe.model.name)
    for part in ("checkpoints", "predictions"):
        (run.folder / part).rmdir()
    return run


def _path(run: Run, asked: Search, storage: str, asking: Asking) -> Iterator[Event | Found]:
    """Open the database, agree with the others on what is searched, and train."""
    fields = fields_of(asked.tries)
    recipe = Recipe.from_toml(asked.recipe)
    with database(storage or f"sqlite:///{run.folder / 'search.db'}") as at:
        name = run.name if asked.storage else "search"
        store = Store(
            storage=at,
            name=name,
            fields=fields,
            seed=recipe.train.seed,
            prune=asked.prune,
            home=run.status()["id"],
            locks=run.folder / ".processes",
        )
        neutral = {path: Recipe().values()[path] for path in recipe.values() if path.startswith("machine.")}
        neutral |= {path: Recipe().values()[path] for path in (*PATHS, "data.overlay")}
        store.agreed("recipe", recipe.replaced(neutral).to_toml())
        store.agreed("fields", "\n".join([*sorted(asked.tries), f"prune = {asked.prune or 'none'}"]))
        run.write(MEMBERS, json.dumps({"search": asdict(asked)}, indent=1) + "\n")
        with held(store.locks / store.me):
            try:
                yield from _searched(run, asked, store, recipe, asking)
            except TellapartError as error:
                if not asked.storage and not store.trials():
                    shutil.rmtree(run.folder, ignore_errors=True)  # refused before anything was trained
                    raise
                done = sum(trial.state.is_finished() for trial in store.trials())
                state = "interrupted" if error.exit_code in (130, 143) else "failed"
                run.set_status(state=state, error=error.message)
                error.hint = error.hint if state == "failed" else ""
                on = f"{done} of {asked.trials} trials are done; `tellapart search --resume {run.called}` goes on."
                error.hint = f"{error.hint} {on}".strip()
                raise
            finally:
                shutil.rmtree(store.locks / store.me, ignore_errors=True)


def _searched(run: Run, asked: Search, store: Store, recipe: Recipe, asking: Asking) -> Iterator[Event | Found]:
    run.set_status(state="running", error=None)
    said: set[str] = set()
    with closing(store.claims(asked.trials)) as claims:
        for claim in claims:
            if isinstance(claim, str):
                yield Said(stage=-1, text=claim)
                continue
            for event in _heard(store, claim, _one(run, asked, store, recipe, claim, asking)):
                if not isinstance(event, Said) or event.text not in said:  # what is true of all is said once
                    yield event
                said |= {event.text} if isinstance(event, Said) else set()
            found = _found(run, asked, store)
            if any(one.number == claim.number for one in found.tried):
                yield Said(text=_outcome(found, claim.number))
                run.append("log.txt", _outcome(found, claim.number))
            if (ending := asking.asked()) is not None:
                raise ending
    found = _found(run, asked, store)
    running = any(one.state == "running" for one in found.tried)
    run.set_status(state="running" if running else "finished", error=None)
    yield found


def _heard(store: Store, claim: Claim, events: Iterator[Begun | Step | Said]) -> Iterator[Begun | Step | Said]:
    """The events of a trial, which gives signs of life meanwhile; that others have given it up all the same is said."""
    try:
        with store.heard(claim):
            yield from events
    except Taken as error:
        yield Said(stage=-1, text=f"{claim.name}: {error}")


def _found(run: Run, asked: Search, store: Store) -> Found:
    """What is known by now, also written down as a table and as a plot."""
    fields, every = fields_of(asked.tries), tried(store.trials())
    here = [Run(run.folder / one.run) for one in every if (run.folder / one.run / "split.csv").is_file()]
    found = Found(
        run=run.name,
        called=run.called,
        folder=str(run.folder),
        paths=[field.path for field in fields],
        tried=every,
        wanted=asked.trials,
        test="sealed" if any(one.status().get("test_part") for one in here) else "none",
    )
    if every:
        run.write("trials.csv", csv_text(*rows(found)))
        drawn(found, fields, run.folder / "trials.png")
    return found


def _outcome(found: Found, number: int) -> str:
    one = next(one for one in found.tried if one.number == number)
    how = f"validation accuracy {one.share}" if one.accuracy else one.why
    best = ", best so far" if found.best is one and one.state == "finished" else ""
    done = sum(one.state != "running" for one in found.tried)
    return f"{one.run}: {'' if one.state == 'finished' else f'{one.state}, '}{how}{best} · {done} of {found.wanted}"


def _one(
    run: Run, asked: Search, store: Store, recipe: Recipe, claim: Claim, asking: Asking
) -> Iterator[Begun | Step | Said]:
    """One trial, trained or gone on with, and told to the database."""
    member = Run(run.folder / claim.name)
    words = ", ".join(f"{path} = {spelled(value)}" for path, value in claim.values.items())
    yield Said(text=f"{claim.name}: {words}")
    last: list[Epoch] = []
    host: dict[str, Any] = {"host": socket.gethostname()}
    began = time.monotonic()
    try:
        yield from _trained(member, asked, store, recipe, claim, asking, last)
    except (Pruned, DivergedError, UsageError) as error:
        state = {Pruned: "pruned", DivergedError: "diverged"}.get(type(error), "failed")
        if state == "failed" and not any(trial.value is not None for trial in store.trials()):
            store.ended(claim, LOST)
            error.message = f"With {words}: {error.message}"
            raise  # nothing has worked yet: the mistake is in what all trials share
        if state == "pruned":
            member.set_status(state="pruned", error=error.message)
        seen = [
            proportion("accuracy", round(one.val_accuracy * one.val_n), one.val_n, "validation") for one in last[-1:]
        ]
        store.ended(claim, state, why=error.message, **host, **{one.name: one.to_json() for one in seen})
        return
    except TellapartError as error:
        if error.exit_code not in (130, 143):
            store.ended(claim, LOST)
            shutil.rmtree(member.folder, ignore_errors=True)
        raise
    status = member.status()
    figures, best = {figure["name"]: figure for figure in status["figures"]}, status["best"]
    host |= {"parameters": status.get("parameters"), "best_epoch": best["epoch"] + 1 if best["step"] else 0}
    host |= {"seconds": round(time.monotonic() - began, 1), "loss": figures["loss"]["value"]}
    store.ended(claim, "finished", accuracy=figures["accuracy"], **host)


def _trained(
    member: Run, asked: Search, store: Store, recipe: Recipe, claim: Claim, asking: Asking, last: list[Epoch]
) -> Iterator[Begun | Step | Said]:
    """The events of one training that are shown; it is told of every epoch, and ended when others were better."""
    endings: list[Pruned] = []
    varied = dict.fromkeys(claim.values, "--try")
    own = replace(
        asking,
        runs=member.folder.parent,
        name=claim.name,
        open_test=False,
        origins={**asked.origins, **varied},
        asked=lambda: asking.asked() or (endings[0] if endings else None),
    )
    begun = (member.folder / "recipe.toml").is_file()
    if begun and member.status()["state"] == "finished":
        return  # it was stopped between its end and the telling
    if not begun:
        shutil.rmtree(member.folder, ignore_errors=True)  # it was stopped while pictures were read
    with closing(resume(member, own) if begun else train(recipe.replaced(claim.values), own)) as events:  # type: ignore[type-var]
        for event in events:
            if isinstance(event, Begun):
                store.agreed("pictures", member.status()["split"])
            if isinstance(event, Epoch):
                last.append(event)
                if claim.report(event.epoch + 1, event.val_accuracy) and event.epoch + 1 < event.epochs:
                    endings.append(
                        Pruned(f"Pruned after epoch {event.epoch + 1} of {event.epochs}: others were better.")
                    )
            if isinstance(event, Begun | Step) or (isinstance(event, Said) and event.stage < 0):
                yield event
