"""Where pictures come from: one file for each way of attaching labels, and `open_source` for a name or a path."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tellapart.data.index import Index
from tellapart.data.official import default_root, expanded
from tellapart.data.sources.cifar import cifar10, cifar100
from tellapart.data.sources.digits import digits
from tellapart.data.sources.folder import folder
from tellapart.data.sources.hymenoptera import hymenoptera
from tellapart.data.sources.idx import fashion_mnist, kmnist, mnist
from tellapart.errors import UsageError, did_you_mean

SOURCES: dict[str, Callable[[Path], Index]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "kmnist": kmnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "hymenoptera": hymenoptera,
}


def open_source(source: str, *, root: str = "") -> Index:
    """The pictures that `source` names, not yet decoded: a named data set, or a folder of class folders.

    Args:
        source: a name of `SOURCES`, or a path; `~` is the home folder, and `\\` separates folders on every system.
        root: the folder that holds the files of a named data set; '' is `default_root()`.

    Raises UsageError for a name that is neither, and for a root beside a folder; DataError when the pictures or their
    files are not usable; StorageError when they cannot be read.

    >>> len(open_source("digits"))
    1797
    """
    if source in SOURCES:
        index = SOURCES[source](expanded(root) if root else default_root())
        if Path(source).is_dir():
            return _saying(index, f"'{source}' is the named data set; the folder of that name is ./{source}.")
        return index
    path = _path(source)
    if not path.exists() and not _has_separator(source):
        raise UsageError(
            f"Unknown data set '{source}', and no folder '{source}' exists here.", did_you_mean(source, SOURCES)
        )
    if root:
        raise UsageError(
            f"The root '{root}' goes with a named data set, and '{source}' is a folder.",
            "Leave the root out, or give the whole path of the folder as the source.",
        )
    index = folder(path)
    known = source.replace("\\", "/").removeprefix("./").rstrip("/")
    return _saying(index, f"'{source}' is the folder, not the named data set {known}.") if known in SOURCES else index


def _path(source: str) -> Path:
    """The path meant: as given, or with every backslash as a slash when only that exists."""
    given, turned = expanded(source), expanded(source.replace("\\", "/"))
    return turned if "\\" in source and not given.exists() else given


def _has_separator(source: str) -> bool:
    return "/" in source or "\\" in source or source.startswith("~") or source in (".", "..")


def _saying(index: Index, sentence: str) -> Index:
    return replace(index, said=(*index.said, sentence))
