"""In what two trainings differ: settings, surroundings, pictures. From what their run folders say, no torch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tellapart.names import PARTS
from tellapart.workflow.contender import Contender

UNKNOWN, VARIES = "not known", "not the same in all its trainings"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A setting in which the models differ: its value in each, and where that is from where it was not the default."""

    name: str
    values: list[str]
    origins: list[str]


@dataclass(frozen=True, kw_only=True)
class Data:
    """The pictures of each model by part and, where those differ, by class and part; how many the first has not, how
    many it alone has, and how many are in another part than in the first.
    """

    counts: list[dict[str, int]]
    classes: dict[str, list[dict[str, int]]]
    more: list[int]
    fewer: list[int]
    moved: list[int]


def differences(every: Sequence[Mapping[str, str]], origins: Sequence[Mapping[str, str]]) -> list[Difference]:
    """The names whose values are not the same in all, in the order of the first that has them."""
    names = dict.fromkeys(name for one in every for name in one)
    found = []
    for name in names:
        values = [one.get(name, VARIES if one else UNKNOWN) for one in every]
        if len(set(values)) > 1:
            found.append(Difference(name=name, values=values, origins=[of.get(name, "") for of in origins]))
    return found


def data_of(every: Sequence[Contender]) -> Data:
    """What differs in the pictures, which are known by the digests of their pixels, or by their keys."""
    parts = [_parts(one) for one in every]
    tables = [
        Counter((row["class"], row["part"]) for row in one.rows.values() if row["part"] in PARTS) for one in every
    ]
    names = sorted({name for table in tables for name, _ in table})
    classes = {name: [{part: table[name, part] for part in PARTS} for table in tables] for name in names}
    first = parts[0]
    return Data(
        counts=[{part: sum(table[name, part] for name in names) for part in PARTS} for table in tables],
        classes={name: counts for name, counts in classes.items() if any(one != counts[0] for one in counts)},
        more=[len(own.keys() - first.keys()) for own in parts],
        fewer=[len(first.keys() - own.keys()) for own in parts],
        moved=[sum(first[name] != own[name] for name in first.keys() & own.keys()) for own in parts],
    )


def _parts(one: Contender) -> dict[str, str]:
    """The part of each picture that is in one."""
    return {row["digest"] or key: row["part"] for key, row in one.rows.items() if row["part"] in PARTS}
