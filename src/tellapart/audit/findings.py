"""Finding: one thing that is wrong or worth knowing, how much it matters, which files, and the command that helps."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tellapart.evaluation.intervals import wilson

SEVERITIES = ("serious", "warning", "info")
"""serious: a result would be wrong or training would stop; warning: look at it; info: good to know."""

KEEPING = "To keep each group in one part, check with --groups-out groups.csv and train with --split groups.csv"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding. `files`: key and note of each file; `fix`: what would deal with it; `numbers`: plain values."""

    kind: str
    severity: str
    title: str
    detail: str = ""
    files: tuple[tuple[str, str], ...] = ()
    fix: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Score:
    """How many of n pictures a small classifier got right, against the share of the majority class."""

    hits: int
    n: int
    majority: float

    def skill(self) -> float:
        """How far it goes from the majority (0) to always right (1)."""
        return (self.hits / self.n - self.majority) / max(1e-9, 1 - self.majority)

    def interval(self) -> tuple[float, float]:
        """Of the accuracy: 95 %, Wilson."""
        return wilson(self.hits, self.n)

    def words(self) -> str:
        """'61.2 % [58.1, 64.2]'."""
        low, high = self.interval()
        return f"{100 * self.hits / self.n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def not_judged(why: str) -> Finding:
    """What could not be looked at, and why, so that silence is not taken for a clean bill."""
    return Finding(kind="not-judged", severity="info", title=why[0].upper() + why[1:])


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The serious ones first; otherwise in the order they came."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def some(count: int, noun: str, total: int | None = None) -> str:
    """A count with its denominator, in words.

    >>> some(1, "picture"), some(3, "picture", 1200)
    ('1 picture', '3 of 1,200 pictures')
    """
    if total is None:
        return f"{count:,} {noun}{'s' * (count != 1)}"
    return f"{count:,} of {total:,} {noun}{'s' * (total != 1)}"
