"""Listings of large folders kept as columns in one file, which is mapped into memory instead of walking again.

A listing is kept with the time at which each of its folders last changed. A file that is added, removed or renamed
changes that time; so a listing is current when no folder has another time than then, which a thousand calls can tell.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping

import numpy as np

from tellapart.data import kept
from tellapart.data.index import Ignored, Index, Store, Strings
from tellapart.data.sources.listing import stamp

LEAST = 50_000
"""Folders with fewer pictures are listed in under a second."""

FRESH = 2_000_000_000
"""Nanoseconds: a folder changed as shortly before the walk could change once more without a new time showing it."""


def keep(index: Index, root: str, changed: Mapping[str, int], *, begun: int) -> None:
    """Keep the listing of `root` (a real path), when it is large. begun: when the walk began, in ns since 1970.

    changed: every folder that was walked, with its modification time in ns.
    """
    if len(index) < LEAST or max(changed.values()) > begun - FRESH:
        return
    words = [index.name, index.classes, index.said, [(one.key, one.reason) for one in index.ignored]]
    columns = {
        "words": np.frombuffer(json.dumps(words).encode(), np.uint8),
        **kept.texts_as("keys", index.keys),
        "labels": index.labels,
        "parts": index.parts,
        **kept.texts_as("folders", Strings.of(changed)),
        "changed": np.array(list(changed.values()), np.int64),
    }
    kept.keep(kept.LISTINGS, _name(root), columns)


def opened(root: str, store: Callable[[str, Strings], Store]) -> Index | None:
    """The kept listing of `root`, when there is one, it is whole and no folder has changed since; else None."""
    columns = kept.kept(kept.LISTINGS, _name(root))
    if columns is None:
        return None
    times = zip(kept.texts_of(columns, "folders"), columns["changed"].tolist(), strict=True)
    if any(stamp(path)[1] != when for path, when in times):
        return None
    name, classes, said, ignored = json.loads(columns["words"].tobytes())
    keys = kept.texts_of(columns, "keys")
    return Index(
        name=name,
        classes=tuple(classes),
        keys=keys,
        labels=columns["labels"],
        parts=columns["parts"],
        store=store(root, keys),
        ignored=tuple(Ignored(key=key, reason=reason) for key, reason in ignored),
        said=(*said, f"The list of {len(keys):,} pictures is from before: no folder has changed since."),
    )


def _name(root: str) -> str:
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
