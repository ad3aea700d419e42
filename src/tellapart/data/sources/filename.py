"""Labels in the names of files: `cat.001.jpg`, `3_007.png`, read by a regular expression or guessed and asked about."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tellapart.data.index import Index, naturally
from tellapart.data.sources.labels import every_file, labelled
from tellapart.data.sources.listing import few, shown
from tellapart.errors import DataError, UsageError
from tellapart.recipe import printable

LONGEST, MOST_CLASSES = 200, 200
GUESSES = (
    r"^(?:IMG|DSC|image|img|photo|pic)[._ -]?(?P<label>[^\W\d_]+)[._ -]*\d+\.\w+$",
    r"^(?P<label>[^\W\d_]+)[._ -]*\d+\.\w+$",
    r"^(?P<label>.*?[^\d._ (-])[._ (-]*\d+\)?\.\w+$",
    r"^(?P<label>[^\W_]+)[._ -]+\d+\.\w+$",
    r"^\d+[._ -]+(?P<label>.*?\D)\.\w+$",
    r"^(?P<label>[^\W\d_]+)[._ -].+\.\w+$",
    r"^.+[._ -](?P<label>[^\W\d_]+)\.\w+$",
)
"""Common ways to put a class into a file name, the strictest first."""


def filename(root: Path, pattern: str = "") -> Index:
    """The pictures below `root`, each labelled by the group `label` that `pattern` finds in its file name.

    A pattern with a `/` is searched in the path below `root` instead; its group `group` says which pictures stay in one
    part. Without a pattern a likely one is shown and asked about, as a DataError that spells the flags to confirm it.
    Raises UsageError for a pattern that is none, DataError for names in which it finds no label.
    """
    compiled = _compiled(pattern) if pattern else None
    walk, keys = every_file(os.path.realpath(root))
    if not keys:
        raise DataError(f"{shown(root)} holds no pictures.", "Name the folder that holds them.")
    if compiled is None:
        raise _asked(root, keys)
    found = [compiled.search(key if "/" in pattern else key.rsplit("/", 1)[-1]) for key in keys]
    wanted = list(compiled.groupindex.keys() & {"label", "group"})
    missing = [key for key, match in zip(keys, found, strict=True) if not match or not all(match.group(*wanted, 0))]
    if missing:
        raise DataError(
            f"--pattern {pattern!r} finds no label in {len(missing):,} of {len(keys):,} names, such as {few(missing)}.",
            "Change the pattern so that every name has a label, or move those pictures away.",
        )
    columns = {name: [match[name] for match in found if match] for name in wanted}
    said = f"Labels: from the file names, by {printable(pattern)}"
    return labelled(walk, keys, columns["label"], groups=columns.get("group"), said=said)


def _compiled(pattern: str) -> re.Pattern[str]:
    hint = "For example --pattern '(?P<label>[^._]+)' for cat.001.jpg."
    if len(pattern) > LONGEST:
        raise UsageError(f"--pattern has {len(pattern):,} letters; at most {LONGEST} are read.", hint)
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise UsageError(f"--pattern is not a regular expression: {error}. Received: {pattern!r}.", hint) from error
    if "label" not in compiled.groupindex:
        raise UsageError(f"--pattern has no group called label. Received: {pattern!r}.", hint)
    return compiled


def _asked(root: Path, keys: Sequence[str]) -> DataError:
    """The question whether the likeliest reading of these file names is meant; the way out when there is none."""
    names = [key.rsplit("/", 1)[-1] for key in keys]
    folders = any("/" in key for key in keys)
    what = f"{shown(root)} holds {len(keys):,} pictures {'in folders' if folders else 'and no class folders'}."
    for pattern in GUESSES:
        matches = [re.search(pattern, name) for name in names]
        counts = Counter(match["label"] for match in matches if match)
        if all(matches) and 2 <= len(counts) <= MOST_CLASSES and min(counts.values()) >= 2:
            few_classes = [f"{shown(printable(name))} ({counts[name]:,})" for name in naturally(counts)]
            return DataError(
                f"{what} By their names they would be of {len(counts)} classes: {few(few_classes, 8)}.",
                f"If that is right, add: --labels filename --pattern '{pattern}'",
            )
    away = (
        "Put each picture in a folder named after its class, or list file and label in a CSV and name that as SOURCE."
    )
    return DataError(
        f"{what} No class can be read from names such as {few(names)}; labels that are drawn into the pixels, or kept "
        "elsewhere, cannot be read.",
        "Leave --labels out, and the folders name the classes." if folders else away,
    )
