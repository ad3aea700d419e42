"""The clock of a time budget: the seconds a run has had, over all its resumes, and the end when they are spent."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from tellapart.errors import StorageError
from tellapart.recipe_values import seconds_of
from tellapart.run import Run
from tellapart.training.fit import Plan

NOTED_EVERY = 10.0
"""Seconds between two notes of the time in status.json: what a killed run forgets at most."""


class Clock:
    """Goes on from what status.json says was spent before."""

    def __init__(self, run: Run, budget: float) -> None:
        self.run, self.budget = run, budget
        self.before, self.began = float(run.status().get("spent", 0.0)), time.monotonic()
        self.noted = self.began

    def seconds(self) -> float:
        """The time this run has had."""
        return self.before + time.monotonic() - self.began

    def spent(self) -> bool:
        """Whether the budget is over."""
        if time.monotonic() - self.noted > NOTED_EVERY:
            self.note()
        return self.seconds() >= self.budget

    def note(self) -> None:
        """Write the time down, where a resumed run finds it."""
        self.noted = time.monotonic()
        self.run.set_status(spent=round(self.seconds(), 3))


@contextlib.contextmanager
def clocked(run: Run, plan: Plan, budget: str) -> Iterator[Plan]:
    """The plan that ends at a step boundary when the budget of the run is spent; without a budget the plan itself."""
    if not budget:
        yield plan
        return
    clock = Clock(run, seconds_of(budget))
    try:
        yield replace(plan, spent=clock.spent)
    finally:
        with contextlib.suppress(StorageError):  # on a full disk the first error is the one to show
            clock.note()
