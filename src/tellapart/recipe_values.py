"""One value of a recipe: its rule, its check, and its spelling in TOML."""

import json
import math
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from tellapart.errors import UsageError, did_you_mean

AUTO = "auto"
"""How a value that is found out from the data is spelled on the command line and in a file."""

CALLED = {"ce": "cross-entropy", "nll": "cross-entropy", "log": "cross-entropy", "mae": "l1", "l2": "mse"}
"""What others call a choice of ours; used to suggest ours, never accepted."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a field takes. `low` and `high` are included, `above` is not."""

    kind: type
    help: str
    flag: str = ""
    auto: bool = False
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    above: float | None = None

    def wants(self) -> str:
        """The rule in words: 'a whole number, at least 1'."""
        nouns = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            str: "text",
            tuple: 'a list ["a", "b"]',
        }
        noun = nouns[self.kind]
        if self.choices:
            noun = "one of " + ", ".join(str(choice) for choice in self.choices)
        limits = [
            word
            for word in (
                self._limit("at least", self.low),
                self._limit("above", self.above),
                self._limit("at most", self.high),
            )
            if word
        ]
        return ", ".join([noun, *limits]) + (f", or {AUTO}" if self.auto else "")

    @staticmethod
    def _limit(word: str, value: float | None) -> str:
        return "" if value is None else f"{word} {value if isinstance(value, int) else format(value, 'g')}"


def setting(default: Any, help: str, *, kind: type | None = None, flag: str = "", **limits: Any) -> Any:
    """One field: its default (None = found out from the data), its help line, its flag, its limits."""
    rule = Rule(kind=kind or type(default), help=help, flag=flag, **{"auto": default is None, **limits})
    return field(default=default, metadata={"rule": rule})


def checked(path: str, value: Any, rule: Rule) -> Any:
    """`value` in the type of the rule. Raises UsageError: expected …, received …, do …."""
    if rule.auto and (value is None or value == AUTO):
        return None
    converted = _converted(value, rule.kind)
    if converted is None or not _within(converted, rule):
        hint = did_you_mean(CALLED.get(str(value), str(value)), [str(c) for c in rule.choices]) if rule.choices else ""
        raise UsageError(f"{path}: expected {rule.wants()}. Received: {value!r}.", hint)
    return converted


def _converted(value: Any, kind: type) -> Any:
    """The value in its kind, from a TOML value or from the text of a flag; None when it cannot be."""
    if isinstance(value, str) and kind is not str:
        return _from_text(value, kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(value) if all(isinstance(one, str) for one in value) else None
    return value if type(value) is kind else None


def _from_text(text: str, kind: type) -> Any:
    if kind is bool:
        return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(text.lower())
    if kind is tuple:
        return _list_of(text)
    try:
        return kind(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def _list_of(text: str) -> Any:
    """The texts of a list as TOML has it, or with commas between them."""
    if not text.startswith("["):
        return tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    try:
        return _converted(tomllib.loads(f"list = {text}")["list"], tuple)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _within(value: Any, rule: Rule) -> bool:
    if rule.choices:
        return value in rule.choices
    if isinstance(value, tuple):
        return all(_within(one, rule) for one in value)
    if isinstance(value, str):
        return "\x00" not in value and _is_text(value)
    if not math.isfinite(value):
        return False
    return (
        (rule.low is None or value >= rule.low)
        and (rule.high is None or value <= rule.high)
        and (rule.above is None or value > rule.above)
    )


def _is_text(value: str) -> bool:
    """Whether the text can be written as UTF-8: a path with other bytes could not be read back from a recipe."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def seconds_of(budget: str) -> float:
    """The seconds of a time budget: a number and s, m or h. Raises UsageError.

    >>> seconds_of("90s"), seconds_of("10m"), seconds_of("1.5h")
    (90.0, 600.0, 5400.0)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", budget)
    if found is None or not 0 < (seconds := float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]) < math.inf:
        raise UsageError(
            f"train.budget: expected a time above 0, such as 90s, 10m or 2h. Received: {budget!r}.",
            "One number and one of the letters s, m, h, without a space.",
        )
    return seconds


def to_toml_value(value: Any) -> str:
    """The TOML spelling of a value; None is written "auto".

    >>> to_toml_value(True), to_toml_value(1e-05), to_toml_value("a\\\\b")
    ('true', '1e-05', '"a\\\\\\\\b"')
    """
    if value is None:
        return f'"{AUTO}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(to_toml_value, value))}]"
    return repr(value)


def origins_of(text: str) -> dict[str, str]:
    """Where each value of a recipe is from, by the remarks that a run wrote behind them; defaults are not named."""
    section, found = "", {}
    for line in text.splitlines():
        section = line.strip("[]") if line.startswith("[") else section
        key, _, rest = line.partition(" = ")
        found |= {f"{section}.{key}": rest.rpartition("  # ")[2]} if "  # " in rest else {}
    return {path: origin for path, origin in found.items() if origin != "default"}
