"""Reproduce: repeat a run from its own folder, and say whether it is the same, and if not, because of what."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tellapart.names import SCORES
from tellapart.recipe import Recipe
from tellapart.recipe_values import origins_of
from tellapart.run import Run
from tellapart.training.checkpoint import load_checkpoint
from tellapart.workflow import devices
from tellapart.workflow.begin import recipe_of, with_own_files
from tellapart.workflow.branch import FIRST, anew
from tellapart.workflow.events import Event
from tellapart.workflow.extend import gone_on
from tellapart.workflow.ranks import in_world
from tellapart.workflow.recipes import recipe_texts
from tellapart.workflow.resume import refuse_other_transform, refuse_unfinished
from tellapart.workflow.same import changed, conditions_of, fingerprint
from tellapart.workflow.settle import Settled
from tellapart.workflow.telling import told
from tellapart.workflow.train import Asking
from tellapart.workflow.train import follow as followed_by

Follow = Callable[[Iterable[Any]], Any]
"""Goes through the events of a training and gives back the last one."""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A run and its repetition.

    equal: whether each thing compared has the same SHA-256. then, now: the validation accuracy, as `Figure` writes it.
    found: "bit-equal"; "within chance", when the accuracy now lies in the 95 % interval of then; else "different".
    reasons: what is known to differ between the two, in words.
    """

    run: str
    again: str
    folder: str
    found: str
    equal: dict[str, bool]
    then: dict[str, Any]
    now: dict[str, Any]
    reasons: list[str]

    @property
    def expected(self) -> bool:
        """Whether this is what was to be expected: equal, or within chance with a known reason."""
        return self.found == "bit-equal" or (self.found == "within chance" and bool(self.reasons))


def reproduce(old: Run, asking: Asking, *, follow: Follow) -> Reproduction | None:
    """Train `old` once more as a new run, with each of its extensions, and compare. The test part is opened only with
    `asking.open_test`. Gives None in all but the first of several processes.

    Raises UsageError for a run that is not finished, MismatchError for other pictures.
    """
    return follow(in_world(lambda: _path(old, asking), partial(followed_by, asking), asking.asked))


def _path(old: Run, asking: Asking) -> Iterator[Any]:
    """The events of all trainings, and in the end the comparison."""
    refuse_unfinished(old)
    refuse_other_transform(old, asking)
    texts = recipe_texts(old)
    source = with_own_files(old, recipe_of(old)).data.source
    run = Run.create(asking.runs, asking.name, about=f"{old.name}-again", source=source)
    run.set_status(state="preparing", command=asking.command, repeats={"run": old.name, "id": old.status().get("id")})
    for number, text in enumerate(texts):
        asked = replace(asking, open_test=asking.open_test and text is texts[-1])
        yield from told(run, _stage(run, old, number, text, asked), fresh=number == 0)
    yield _compared(old, run)


def _stage(run: Run, old: Run, number: int, text: str, asking: Asking) -> Iterator[Event]:
    """The training a run began with, from fresh weights or from those of a branch; or one that it was extended by."""
    recipe, origins = Recipe.from_toml(text), origins_of(text)
    if number:
        return gone_on(run, replace(recipe, data=recipe_of(run).data), origins, asking)
    begun = None
    if "parent" in old.status():
        run.set_status(**{name: old.status()[name] for name in ("parent", "weights") if name in old.status()})
        begun = load_checkpoint(old.folder / "checkpoints" / FIRST)
    return anew(run, old, Settled(recipe, origins), asking, first=begun and (lambda pieces: begun))


def _compared(old: Run, run: Run) -> Reproduction:
    first, second = fingerprint(old), fingerprint(run)
    figures = ([f for f in one.status()["figures"] if f["name"] in SCORES] for one in (old, run))
    (then, *_), (now, *_) = figures  # of validation; that of the test comes after it
    chance = "within chance" if then["low"] <= now["value"] <= then["high"] else "different"
    return Reproduction(
        run=old.name,
        again=run.called,
        folder=str(run.folder),
        found="bit-equal" if first == second else chance,
        equal={name: first.get(name) == second.get(name) for name in first | second},
        then=then,
        now=now,
        reasons=_reasons(old, run),
    )


def _reasons(old: Run, run: Run) -> list[str]:
    """What is known to differ: conditions, those under which the old run went on, a device that is not exact."""
    reasons = changed(conditions_of(old), conditions_of(run))
    for entry in old.status().get("went_on", []):
        reasons.append(f"after step {entry['step']} it went on with {'; '.join(entry['changed'])}")
    weights = old.status().get("weights")
    if weights and weights != run.status().get("weights"):
        reasons.append(f"the pretrained weights in {weights['file']} are others")
    machine = recipe_of(run).machine
    if devices.choose(machine.device).type != "cpu" and not machine.deterministic:
        reasons.append("operations of the device that differ from time to time (--set machine.deterministic=true)")
    return reasons
