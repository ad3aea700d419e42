"""Check: a source read whole, and everything that is wrong with it or worth knowing, as findings."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.audit import balance, bursts, duplicates, files, labels, page, shapes, shortcut
from tellapart.audit.facts import Facts, fingerprint, keep, kept
from tellapart.audit.findings import Finding, ordered
from tellapart.audit.frozen import frozen_features
from tellapart.audit.scan import Bounds, left_pictures, scan
from tellapart.data import split_file
from tellapart.data.index import NO_PART, Index
from tellapart.data.official import expanded
from tellapart.data.progress import Progress, quiet
from tellapart.data.split import divided
from tellapart.errors import DataError, UsageError, refuse_marks, unknown
from tellapart.files import csv_text, refuse_foreign, write_atomically, write_result
from tellapart.models.pretrained import Pretrained, at_hand
from tellapart.recipe import Data, Recipe
from tellapart.run import cores
from tellapart.workflow.choose import from_elsewhere, refuse_unclear_split
from tellapart.workflow.data import found


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the checks look at: the facts, and which rows are one picture; found out when first asked for.

    data: how training would divide. lacking: parts that may lack classes; given: the pretrained network that was named
    for the labels; without it one that is at hand is taken.
    """

    facts: Facts
    data: Data
    lacking: Collection[str] = ()
    given: Pretrained | None = None
    looking: Progress = quiet

    @cached_property
    def exact(self) -> NDArray[np.int64]:
        """(N): the first row with equal pixels."""
        return duplicates.exact_units(self.facts)

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """(N): the first row with the same picture, changed or not."""
        return duplicates.near_units(self.facts)

    def parts(self) -> NDArray[np.uint8]:
        """(N): the part of each picture once training has made those that are missing, where it can."""
        parts, at, d = self.facts.index.parts.copy(), self.facts.whole(), self.data
        index = replace(self.facts.index, digests=self.facts.table["digest"]).take(at)
        with suppress(DataError):  # there are too few to be divided
            parts[at] = divided(
                index, validation=d.validation, test=d.test, seed=d.split_seed, partial=self.lacking
            ).parts
        return parts

    @cached_property
    def network(self) -> tuple[Pretrained | None, tuple[str, ...]]:
        """The pretrained network for the labels, and what is to be said of those that are not used."""
        return (self.given, ()) if self.given else at_hand(len(self.facts.whole()))

    @cached_property
    def doubts(self) -> labels.Doubts | None:
        """The doubtful labels."""
        by = self.network[0]
        if by is None:
            return labels.doubts(self.facts, self.units)
        look = partial(frozen_features, self.facts, by=by, progress=self.looking)
        return labels.doubts(self.facts, self.units, look)

    def judges(self) -> tuple[str, ...]:
        """Once labels were judged: by what, where there was a choice; and what is left out of several classes each."""
        if self.facts.index.marks is not None:
            return (f"each picture may have several classes: {', '.join(ONE_CLASS)} are not looked for",)
        if "doubts" not in self.__dict__:
            return ()
        doubts, (by, said) = self.doubts, self.network
        if doubts is None and self.given:
            said = (f"labels are not judged, and {self.given.path} is not used: {labels.TOO_LITTLE}",)
        if doubts is not None and doubts.partly():
            said = (*said, doubts.partly())
        if doubts is None or by is None:
            return said
        return (*said, f"labels are judged by {doubts.judge()}; the network's file is {by.path}")

    def cropped(self) -> Iterator[Finding]:
        """What the crop loses, over all and by class; nothing where pictures may have several classes."""
        rows, index = self.facts.whole(), self.facts.index
        if index.marks is None:
            yield from shapes.crop_findings(shapes.sizes_of(self.facts, rows), index.labels[rows], index.classes)

    def balance(self) -> Iterator[Finding]:
        """What is to be said of how many training pictures each class has."""
        index = self.facts.index
        for one in balance.balance(index.classes, index.take(self.facts.training()).counts().tolist()):
            whole = index.marks is None or one.kind != "imbalance"  # there a share of all would count pictures twice
            yield one if whole else replace(one, detail="Judge by the mean over classes as well.")


CHECKS: dict[str, Callable[[Seen], Iterable[Finding]]] = {
    "files": lambda s: [
        *(one for find in (files.faulty, files.wrong_endings, files.traits) for one in find(s.facts)),
        *files.left_out(s.facts, left_pictures(s.facts.index)),
        *files.empty_classes(s.facts, s.lacking),
    ],
    "duplicates": lambda s: [
        *duplicates.exact_duplicates(s.facts, s.exact),
        *duplicates.near_duplicates(s.facts, s.units, s.exact, s.parts()),
        *duplicates.torn_groups(s.facts),
    ],
    "balance": lambda s: s.balance(),
    "shapes": lambda s: [*shapes.odd_shapes(s.facts), *s.cropped()],
    "statistics": lambda s: shapes.statistics(s.facts),
    "bursts": lambda s: bursts.bursts(s.facts, s.units),
    "shortcuts": lambda s: shortcut.shortcuts(shortcut.probes(s.facts, s.units), s.facts),
    "labels": lambda s: labels.doubtful_labels(s.facts, s.doubts),
}
"""What `--only` can name."""
UNREAD = ("key", "reason")
"""The columns of the list of files that cannot be read."""
ONE_CLASS = ("shortcuts", "labels")
"""Those that compare pictures of one class with those of another."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found. `again`: whether the facts were those of an earlier check of the same files."""

    source: str
    seen: Seen
    findings: list[Finding]
    seconds: float
    again: bool

    def line(self) -> str:
        """What was checked, in one line."""
        facts = self.seen.facts
        left = len(facts.index.ignored)
        how = ("as read before" if self.again else "every one read whole") + f", but for {left:,} left out" * bool(left)
        return (
            f"{len(facts) + left:,} files, {len(facts.whole()):,} whole pictures of "
            f"{len(facts.index.classes)} classes, {self.seconds:.1f} s ({how})"
        )

    def said(self) -> list[str]:
        """Lines about the check as a whole."""
        return [self.line(), *self.seen.judges()]


def check(
    recipe: Recipe,
    *,
    only: Sequence[str] = (),
    fresh: bool = False,
    weights: Pretrained | None = None,
    progress: Progress = quiet,
    looking: Progress = quiet,
) -> Checked:
    """Read every file that the recipe's [data] section chooses and say what is wrong. Nothing there is written to.

    only: names of CHECKS, all when empty. fresh: read again what was read before and has not changed.
    weights: the pretrained network whose features judge the labels, where they do it better than a small classifier;
    without it one that torch has fetched before, for a few thousand pictures at most. looking: its progress.
    Raises UsageError, DataError or StorageError when there is nothing to check, or the weights are of no known network.
    """
    for name in only:
        if name not in CHECKS:
            raise unknown("check", name, CHECKS)
        refuse_marks(recipe.data.several and name in ONE_CLASS, f"The check of {name}")
    names = [name for name in only or CHECKS if not (recipe.data.several and name in ONE_CLASS)]
    began = time.monotonic()
    index = _divided(recipe, found(recipe))
    name = fingerprint(index)
    facts = kept(index, name) if name and not fresh else None
    again = facts is not None
    if facts is None:
        if weights is not None:
            from tellapart.models.frozen import frozen

            frozen(weights)  # what is wrong with it is said before minutes of reading
        facts = scan(index, bounds=Bounds(processes=cores()), progress=progress)
        if name and name == fingerprint(index):  # what changed while it was read is not kept
            keep(facts, name)
    seen = Seen(facts=facts, data=recipe.data, lacking=from_elsewhere(recipe), given=weights, looking=looking)
    findings = ordered(finding for name in names for finding in CHECKS[name](seen))
    seconds = time.monotonic() - began
    return Checked(source=recipe.data.source, seen=seen, findings=findings, seconds=seconds, again=again)


def _divided(recipe: Recipe, index: Index) -> Index:
    """The index with the parts that a split file names; what is to be placed anew is in none."""
    refuse_unclear_split(recipe)
    if recipe.data.split == "auto":
        return index
    if recipe.data.split == "new":
        return replace(index, parts=np.full(len(index), NO_PART, np.uint8))
    return split_file.read(expanded(recipe.data.split), index)


def write_html(checked: Checked, path: Path) -> None:
    """Write the findings as one HTML page."""
    facts = checked.seen.facts
    write_result(path, page.page(f"Check of {checked.source}", checked.said(), checked.findings, facts))


def write_quarantine(checked: Checked, path: Path) -> int:
    """Write the files that are no whole pictures with their reasons, as CSV; gives how many. No file is moved."""
    facts = checked.seen.facts
    bad = np.flatnonzero(facts.table["fault"] != b"").tolist()
    rows = [(facts.index.keys[row], facts.reasons[row]) for row in bad]
    write_result(path, csv_text(UNREAD, rows))
    return len(bad)


def write_labels(checked: Checked, path: Path) -> int:
    """Write the doubtful labels to be reviewed, as an overlay; gives how many. An existing file is never replaced."""
    refuse_marks(checked.seen.facts.index.marks is not None, "--labels-out")
    refuse_existing(path)
    doubts = checked.seen.doubts
    write_atomically(path, labels.as_overlay(checked.seen.facts, doubts))
    return 0 if doubts is None or doubts.skill() < labels.SKILL else len(doubts.rows)


def write_groups(checked: Checked, path: Path) -> int:
    """Write which pictures belong in one part, as a split that `--split` takes; gives how many groups there are.

    Every part is empty, so that all are placed anew. An existing file is never replaced.
    """
    refuse_existing(path)
    index, names = checked.seen.facts.index, bursts.kept_together(checked.seen.facts, checked.seen.units)
    rows = [(key, "", name) for key, name in zip(index.keys, names, strict=True)]
    write_atomically(path, csv_text(("key", "part", "group"), rows))
    return len({name for name in names if name})


def refuse_outputs(recipe: Recipe, html: Path | None, quarantine: Path | None, *, once: Sequence[Path | None]) -> None:
    """Raises UsageError for outputs that cannot be written: those of `once` may hold decisions and are not replaced."""
    named = [path for path in (html, quarantine, *once) if path]
    for path in named:
        _refuse_inside(recipe, path)
        if path in once:
            refuse_existing(path)
        refuse_foreign(path, "<!doctype html>" if path == html else csv_text(UNREAD, ()))
        if named.count(path) > 1:
            raise UsageError(f"Two outputs are to be written to {path}.", "Name another file for one of them.")


def _refuse_inside(recipe: Recipe, path: Path) -> None:
    """Raises UsageError for an output among the pictures: there it would be in the way, or replace one."""
    for source in (recipe.data.source, recipe.data.validation_from, recipe.data.test_from):
        root = expanded(source).resolve()
        if source and root.is_dir() and path.resolve().is_relative_to(root):
            raise UsageError(
                f"{path} lies in the folder that is checked, which is never written to.", "Name a place outside."
            )


def refuse_existing(path: Path) -> None:
    """Raises UsageError for an output that is there and may have been edited."""
    if path.exists():
        raise UsageError(f"{path} exists, and may hold decisions.", "Name another file, or move it away.")
