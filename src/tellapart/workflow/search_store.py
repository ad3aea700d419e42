"""The trials of a search in Optuna's database: what was tried, what is next, and whose it is.

What is next is a function of the seed, of how many trials there are, and of what the finished ones gave. Of Optuna's
storages only the database is used: it holds numbers, text and JSON; the one with pickles is never opened.
"""

import socket
import threading
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.errors import BusyError, MismatchError, TellapartError
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.workflow.search_database import BEAT, SILENCE, optuna_at_hand
from tellapart.workflow.search_space import Field, combinations

LOST, ATTEMPTS = "lost", 100


class Taken(TellapartError):
    """Others took this trial for lost: it was not heard of for too long."""

    exit_code = BusyError.exit_code


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a lock that dies with this process. Raises BusyError when another one holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with Run(folder).alone():
        yield


@contextmanager
def not_taken() -> Iterator[None]:
    """What is told of a trial that others have given up raises Taken."""
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        yield
    except UpdateFinishedTrialError:
        silent = f"It was not heard of for {SILENCE} seconds, so others count it as lost; nor does it count here."
        raise Taken(silent) from None


@dataclass
class Claim:
    """One trial that is ours to train: Optuna's handle, its number and values, and the epochs it was told of."""

    handle: Any
    number: int
    values: dict[str, Any]
    told: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The name of its run folder."""
        return f"trial-{self.number:03d}"

    def report(self, epoch: int, accuracy: float) -> bool:
        """Tell the accuracy after so many epochs; gives whether the trial is to end here."""
        if epoch not in self.told:
            with not_taken():
                self.handle.report(accuracy, step=epoch)
            self.told.add(epoch)
        return self.handle.should_prune()


@dataclass
class Store:
    """The study of one search, as one process sees it. `home` is the identity of its folder, `me` of the process."""

    storage: Any
    name: str
    fields: Sequence[Field]
    seed: int
    prune: str
    home: str
    locks: Path
    me: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        create = optuna_at_hand().create_study
        create(study_name=self.name, storage=self.storage, direction="maximize", load_if_exists=True)

    def study(self) -> Any:
        """The study, read anew: other processes write to it."""
        optuna = optuna_at_hand()
        pruners = {
            "": optuna.pruners.NopPruner,
            "median": lambda: optuna.pruners.MedianPruner(n_warmup_steps=2),
            "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        }
        return optuna.load_study(study_name=self.name, storage=self.storage, pruner=pruners[self.prune]())

    def agreed(self, key: str, value: str) -> None:
        """Write down what all processes must agree on. Raises MismatchError when it was another before."""
        known = self.study().user_attrs.get(key)
        if known is None:
            self.study().set_user_attr(key, value)
            known = self.study().user_attrs[key]
        if key == "recipe":  # one that an older release wrote lacks what came since, which is as its default
            known = Recipe.from_toml(known).to_toml()
        if known != value:
            old, new = known.splitlines(), value.splitlines()
            other = [f"{line} here, {was} before" for was, line in zip(old, new, strict=False) if was != line]
            what = other[0] if other else f"{len(new)} lines here, {len(old)} before"
            raise MismatchError(f"The {key} of this search changed: {what}.", "Start another with another --run.")

    def trials(self) -> list[Any]:
        """Every trial that counts, oldest first."""
        trials = self.study().get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state.name != "FAIL"]

    def claims(self, wanted: int) -> Generator[Claim | str]:
        """Trials to train, one after the other: those that a process of this folder left behind, then new ones.

        Before those, each trial from elsewhere that is lost, in words: another takes its place.
        """
        while True:
            yield from self._left_behind()
            yield from self._silent()
            claim = self._new(wanted)
            if claim is None:
                return
            yield claim

    def _left_behind(self) -> Iterator[Claim]:
        for trial in self.trials():
            by = trial.user_attrs["by"]
            if trial.state.is_finished() or trial.user_attrs["home"] != self.home or by == self.me:
                continue
            with suppress(BusyError), held(self.locks / by):
                if trial.number in [one.number for one in self.trials() if not one.state.is_finished()]:
                    yield self._claim(trial)

    def _silent(self) -> Iterator[str]:
        """Give up the trials of other folders whose processes are not heard of; a lock tells of those of this one."""
        silent = self.storage._get_stale_trial_ids(self.study()._study_id)
        for trial in self.trials():
            if trial._trial_id in silent and trial.user_attrs["home"] != self.home:
                self.study().tell(trial.number, state=optuna_at_hand().trial.TrialState.FAIL, skip_if_finished=True)
                where = f"trial-{trial.number:03d} on {trial.user_attrs.get('host', 'another machine')}"
                yield f"{where} was not heard of for {SILENCE} seconds: it is lost, and another takes its place"

    @contextmanager
    def heard(self, claim: Claim) -> Iterator[None]:
        """Give a sign of life of a trial now and again, as long as it is trained."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                with suppress(Exception):  # a database that is gone is told by whoever writes to it
                    self.storage.record_heartbeat(claim.handle._trial_id)
            self.storage.remove_session()

        beating = threading.Thread(target=beat, daemon=True)
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()

    def _new(self, wanted: int) -> Claim | None:
        """A new trial, made with its values in one transaction; when another process was quicker, the next."""
        optuna = optuna_at_hand()
        space = {one.path: distribution(one) for one in self.fields}
        while len(before := self.trials()) < wanted:
            token = uuid.uuid4().hex
            values = self._drawn(space, len(before), [trial.params for trial in before])
            own = {"home": self.home, "by": self.me, "token": token, "host": socket.gethostname()}
            running = optuna.trial.TrialState.RUNNING
            made = optuna.create_trial(state=running, params=values, distributions=space, user_attrs=own)
            self.study().add_trial(made)
            every = self.trials()
            mine = next(trial for trial in every if trial.user_attrs["token"] == token)
            earlier = [trial.params for trial in every if trial.number < mine.number]
            if len(earlier) < wanted and mine.params not in earlier:
                return self._claim(mine)
            self.study().tell(mine.number, state=optuna.trial.TrialState.FAIL)
        return None

    def _drawn(self, space: Mapping[str, Any], position: int, tried: list[dict[str, Any]]) -> dict[str, Any]:
        """The values of the trial at this position, which were not tried before."""
        optuna, study = optuna_at_hand(), self.study()
        nothing = optuna.create_trial(state=optuna.trial.TrialState.RUNNING)
        for attempt in range(ATTEMPTS):
            seed = np.random.SeedSequence([self.seed, position, attempt]).generate_state(1)[0]
            sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=False)
            values = sampler.sample_relative(study, nothing, space) or {
                name: sampler.sample_independent(study, nothing, name, one) for name, one in space.items()
            }
            values = {one.path: _rounded(one, values[one.path]) for one in self.fields}
            if values not in tried:
                return values
        return next(values for values in combinations(self.fields) or () if values not in tried)

    def _claim(self, trial: Any) -> Claim:
        handle = optuna_at_hand().trial.Trial(self.study(), trial._trial_id)
        told = set(trial.intermediate_values)
        self.storage.record_heartbeat(trial._trial_id)
        return Claim(handle=handle, number=trial.number, values=dict(trial.params), told=told)

    def ended(self, claim: Claim, state: str, **said: Any) -> None:
        """Write down how a trial ended: finished (ranked by its accuracy), pruned, diverged, failed. Raises Taken."""
        with not_taken():
            for key, value in {"state": state, **said}.items():
                claim.handle.set_user_attr(key, value)
        states = optuna_at_hand().trial.TrialState
        if state == "finished":
            self.study().tell(claim.number, said["accuracy"]["value"])
        else:  # what Optuna calls pruned is learnt from, and that is meant here as well
            self.study().tell(claim.number, state=states.FAIL if state == LOST else states.PRUNED)


def distribution(field: Field) -> Any:
    """A field as Optuna knows it."""
    known = optuna_at_hand().distributions
    if field.choices:
        return known.CategoricalDistribution(field.choices)
    kind = known.IntDistribution if field.kind is int else known.FloatDistribution
    return kind(field.low, field.high, log=field.log)


def _rounded(field: Field, value: Any) -> Any:
    """A number that can be typed: four digits are enough to tell trials apart."""
    if not isinstance(value, float) or field.choices:
        return value
    return min(field.high, max(field.low, float(f"{value:.4g}")))
