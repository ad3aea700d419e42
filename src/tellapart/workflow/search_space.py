"""What a search varies: named fields of the recipe, each with a range or a list of values. No optuna here."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tellapart.errors import UsageError
from tellapart.recipe import Recipe, rule_of
from tellapart.recipe_values import AUTO, Rule, checked
from tellapart.workflow.settle import Settled, refuse_impossible

EXAMPLE = "For example --try optim.lr=1e-4..1e-1 --try model.width=8,16,32."
FIXED = {
    "data": "every trial must be judged by the same pictures",
    "machine": "it says where to compute, not what",
    "train.seed": "the luckiest seed is no better recipe",
}
"""What is not searched, and why."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field that is varied: its choices, or numbers from low to high, by their logarithm or not."""

    path: str
    kind: type
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    def values(self) -> tuple[Any, ...] | None:
        """Every value there is; None for numbers without end."""
        whole = tuple(range(int(self.low), int(self.high) + 1)) if self.kind is int else None
        return self.choices or whole

    def ends(self) -> tuple[Any, ...]:
        """The choices, or the two ends of the range."""
        return self.choices or (self.low, self.high)

    def share(self, value: Any) -> float:
        """Where a value lies across a plot, from 0 to 1.

        >>> Field(path="optim.lr", kind=float, low=1e-4, high=1.0, log=True).share(0.01)
        0.5
        """
        if self.choices:
            return (self.choices.index(value) + 0.5) / len(self.choices)
        turn = math.log if self.log else float
        return (turn(value) - turn(self.low)) / (turn(self.high) - turn(self.low))


def spelled(value: Any) -> str:
    """A value as it is typed: 0.001, true, auto."""
    if value is None or isinstance(value, bool):
        return AUTO if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def fields_of(tries: Sequence[str]) -> tuple[Field, ...]:
    """The fields of `section.key=low..high` or `section.key=a,b,c`, checked by the recipe's own rules.

    Values that have commas themselves are separated by `;`. Raises UsageError.
    """
    if not tries:
        raise UsageError("There is nothing to search: no field is named.", EXAMPLE)
    fields = tuple(_field(text) for text in tries)
    paths = [field.path for field in fields]
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise UsageError(f"--try names {twice[0]} twice.", "Put all its values into one --try.")
    return fields


def _field(text: str) -> Field:
    path, equals, given = (part.strip() for part in text.partition("="))
    if not equals or not given:
        raise UsageError(f"--try takes SECTION.KEY=VALUES. Received: {text!r}.", EXAMPLE)
    rule = rule_of(path)
    for fixed, why in FIXED.items():
        if path == fixed or path.startswith(f"{fixed}."):
            raise UsageError(f"{path} cannot be searched: {why}.", "Give it one value with its flag or --set.")
    low, dots, high = given.partition("..")
    return _range(path, rule, low, high) if dots else _list(path, rule, given)


def _range(path: str, rule: Rule, low: str, high: str) -> Field:
    if rule.kind not in (int, float) or rule.choices:
        hint = f"It takes {rule.wants()}: --try {path}=a,b."
        raise UsageError(f"{path} has no range, and {low}..{high} was asked for.", hint)
    if high.startswith("."):
        raise UsageError(f"--try {path}={low}..{high} has three dots.", "Two stand between the numbers: 0.01..0.5.")
    first, last = (checked(path, end.strip(), rule) for end in (low, high))
    if first is None or last is None or first >= last:
        raise UsageError(f"--try {path}={low}..{high} is no range.", "The first number must be the smaller one.")
    return Field(path=path, kind=rule.kind, low=first, high=last, log=first > 0 and last / first > 100)


def _list(path: str, rule: Rule, given: str) -> Field:
    words = given.split(";" if ";" in given or rule.kind is tuple else ",")
    choices = tuple(checked(path, word.strip(), rule) for word in words)
    if rule.kind is tuple:  # as text, which Optuna can keep; the recipe reads it
        choices = tuple(", ".join(choice) for choice in choices)
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise UsageError(f"--try {path}={given} needs two values or more, each once.", EXAMPLE)
    return Field(path=path, kind=rule.kind, choices=choices)


def combinations(fields: Sequence[Field]) -> Iterator[dict[str, Any]] | None:
    """Every combination there is, or None when a field has numbers without end."""
    every = [field.values() for field in fields]
    if None in every:
        return None
    paths = [field.path for field in fields]
    return (dict(zip(paths, values, strict=True)) for values in itertools.product(*(one or () for one in every)))


def counted(fields: Sequence[Field], trials: int | None) -> int:
    """How many trials that is: 20 if none are asked for, and no more than there are combinations. Raises UsageError."""
    most = math.prod(math.inf if (values := field.values()) is None else len(values) for field in fields)
    if trials is None:
        return int(min(20, most))
    if 1 <= trials <= most:
        return trials
    there = "without end" if most == math.inf else f"{most:,}"
    raise UsageError(f"{trials} trials were asked for.", f"Ask for 1 or more; the combinations are {there}.")


def refuse_fields(recipe: Recipe, origins: Mapping[str, str], fields: Sequence[Field]) -> None:
    """Refuse what cannot be tried before any picture is read. Raises UsageError."""
    for field in fields:
        if origins.get(field.path, "").startswith("--"):
            raise UsageError(f"{field.path} is given by {origins[field.path]} and by --try.", "Leave one of them out.")
    settled = {**origins, **{field.path: "--try" for field in fields}}
    middle = {field.path: field.ends()[0] for field in fields}
    # each rule of a recipe is about one field or two, so that trying every pair finds what cannot be
    for pair in itertools.combinations(fields, 2) if len(fields) > 1 else [tuple(fields)]:
        for values in itertools.product(*(field.ends() for field in pair)):
            chosen = dict(zip((field.path for field in pair), values, strict=True))
            try:
                refuse_impossible(Settled(recipe.replaced(middle | chosen), settled))
            except UsageError as error:
                words = ", ".join(f"{path} = {spelled(value)}" for path, value in chosen.items())
                raise UsageError(f"Trying {words}: {error.message}", error.hint) from error
