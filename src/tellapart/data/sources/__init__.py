"""Where pictures come from: one file for each way of attaching labels, and `open_source` for a name or a path."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from tellapart.data.index import Index
from tellapart.data.official import default_root, expanded
from tellapart.data.sources import cifar, idx
from tellapart.data.sources.digits import digits
from tellapart.data.sources.filename import filename
from tellapart.data.sources.folder import folder, refuse_no_folder
from tellapart.data.sources.hymenoptera import hymenoptera
from tellapart.data.sources.labels import AUTO, Labels, pairs
from tellapart.data.sources.likely import likely
from tellapart.data.sources.listing import shown
from tellapart.data.sources.paired import paired
from tellapart.errors import DataError, UsageError, did_you_mean

SOURCES: dict[str, Callable[[Path], Index]] = {
    "digits": digits,
    **{what.name: partial(idx.read, what=what) for what in idx.IDX_SETS},
    **{what.name: partial(cifar.read, what=what) for what in cifar.CIFARS},
    "hymenoptera": hymenoptera,
}

KINDS = {**dict.fromkeys((".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt", ".list"), "table"), ".tar": "shards"}
"""What a file that is a source is, by its ending."""

WAYS = {"table": ("table",), "shards": ("shards",), "": ("folders", "paired", "filename", "shards")}
"""How the labels of each kind can be asked for; '' is a folder."""

SAVED = ("dataset_dict.json",), ("dataset_info.json", "state.json")
"""What lies in a folder that the library datasets has saved."""


def open_source(source: str, *, root: str = "", labels: Labels = AUTO, least: int = 2) -> Index:
    """The pictures that `source` names, not yet decoded: a named data set, a folder, a table of files, or shards.

    Args:
        source: a name of `SOURCES`, `torchvision:NAME`, `hf:NAME`, or a path; `~` is the home folder, and `\\`
            separates folders on every system.
        root: the folder that holds the files of a named data set; '' is `default_root()`.
        labels: how the pictures of a path get their labels; "auto" finds out, and `Index.said` says what was found.
        least: fewer classes than these are refused; 1 for pictures that are added to others, or that a model judges.

    Raises UsageError for a name that is neither, for a root beside a folder, and for labels that do not go with the
    source; DataError when the pictures or their files are not usable; StorageError when they cannot be read.

    >>> len(open_source("digits"))
    1797
    """
    if not source:  # as of a variable that is not set: it would be the folder one stands in
        raise UsageError("The source has no name.", "Name a folder, a table, or a known data set; . is this folder.")
    prefix, colon, name = source.partition(":")
    if source in SOURCES or (colon and prefix in ("torchvision", "hf", "python")):
        _refuse_unused(labels, "table" if prefix == "hf" else "named", source)
        index = (
            _prefixed(prefix, name, root, labels)
            if colon
            else SOURCES[source](expanded(root) if root else default_root())
        )
        _refuse_few(index, least, Path(source))
        if Path(source).is_dir():
            return _saying(index, f"'{source}' is the named data set; the folder of that name is ./{source}.")
        return index
    path = _path(source)
    is_name = not ("/" in source or "\\" in source or source.startswith("~") or source in (".", ".."))
    if is_name and not path.exists() and not _kind(path):
        raise UsageError(
            f"Unknown data set '{source}', and no folder '{source}' exists here.", did_you_mean(source, SOURCES)
        )
    if root:
        what = "folder" if path.is_dir() or not path.exists() else "file"
        raise UsageError(
            f"The root '{root}' goes with a named data set, and '{source}' is a {what}.",
            f"Leave the root out, or give the whole path of the {what} as the source.",
        )
    index = _of_path(path, labels)
    _refuse_few(index, least, path)
    known = source.replace("\\", "/").removeprefix("./").rstrip("/")
    return _saying(index, f"'{source}' is the folder, not the named data set {known}.") if known in SOURCES else index


def _refuse_few(index: Index, least: int, path: Path) -> None:
    """Raises DataError where there are fewer classes, with the folder that may be meant instead."""
    if len(index.classes) >= least:
        return
    name = index.classes[0]
    deeper = path.is_dir() and any("/" in key.partition(f"{name}/")[2] for key in index.keys)
    guess = f"If '{name}' itself holds the class folders, name that folder. " if deeper else ""
    raise DataError(
        f"There is only one class, '{name}', in {shown(path)}.", f"{guess}Telling apart needs two or more classes."
    )


def _prefixed(prefix: str, name: str, root: str, labels: Labels) -> Index:
    """The data set of another library."""
    if prefix == "torchvision":
        from tellapart.data.sources.torchvision_sets import torchvision_set

        return torchvision_set(name, expanded(root) if root else default_root())
    if prefix == "python":
        raise UsageError(
            f"The data set '{name}' was given in Python and cannot be opened by name.",
            "Give the same one again: Asking(index=from_dataset(...)), or judge_run(run, index=from_dataset(...)).",
        )
    if root:
        raise UsageError(f"The root '{root}' does not go with 'hf:{name}'.", "Leave it out.")
    from tellapart.data.sources.huggingface import huggingface

    return huggingface(name, pairs(labels.columns, flag="--columns"), several=labels.several)


def _of_path(path: Path, labels: Labels) -> Index:
    """The pictures of a file or folder, by the way that was asked for or is found."""
    kind = _kind(path)
    if labels.way == AUTO.way and any(all((path / one).is_file() for one in files) for files in SAVED):
        return open_source(f"hf:{path}", labels=labels, least=1)
    if kind and not path.is_file():
        raise DataError(f"There is no file {shown(path)}.", "Check the path, or name a known data set.")
    if labels.way not in ("auto", *WAYS[kind]):
        what = {"table": "a table", "shards": "an archive", "": "a folder"}[kind]
        hint = "Name the table itself, such as labels.csv, as the source." if labels.way == "table" else ""
        raise UsageError(f"--labels {labels.way} does not go with {shown(path)}, which is {what}.", hint)
    way = labels.way if labels.way != "auto" else "filename" if labels.pattern and not kind else kind or likely(path)
    _refuse_unused(labels, way, shown(path))
    if way == "table":
        from tellapart.data.sources.table import table

        return table(path, pairs(labels.columns, flag="--columns"), several=labels.several)
    if way == "shards":
        from tellapart.data.sources.shards import shards

        return shards(path)
    if way == "folders":
        return _saying(folder(path), "Labels: from the names of the class folders.")
    refuse_no_folder(path)
    return paired(path) if way == "paired" else filename(path, labels.pattern)


def _kind(path: Path) -> str:
    """What a path is by its ending: a table, shards, or '' for everything else, such as a folder."""
    return "" if path.is_dir() else KINDS.get(path.suffix.lower(), "")


def fitting(labels: Labels, source: str) -> Labels:
    """Of the labels asked of one source, what another of its own kind can use: a pattern, or columns."""
    kind = _kind(_path(source)) or likely(_path(source))
    columns, several = (labels.columns, labels.several) if kind == "table" else ("", "")
    return Labels(pattern=labels.pattern if kind == "filename" else "", columns=columns, several=several)


def _refuse_unused(labels: Labels, way: str, source: str) -> None:
    """Refuse what would not be looked at."""
    if (way == "named" or source.startswith("hf:")) and labels.way != AUTO.way:
        raise UsageError(f"--labels {labels.way} is not for '{source}': it brings its labels.", "Leave --labels out.")
    flags = ("--pattern", labels.pattern, "filename"), ("--columns", labels.columns, "table")
    for flag, given, meant in (*flags, ("--several", labels.several, "table")):
        if given and way != meant:
            what = f"{flag} goes with --labels {meant}, and the labels of {source} are of the way '{way}'."
            raise UsageError(what, f"Leave {flag} out.")


def _path(source: str) -> Path:
    """The path meant: as given, or with every backslash as a slash when only that exists."""
    given, turned = expanded(source), expanded(source.replace("\\", "/"))
    return turned if "\\" in source and not given.exists() else given


def _saying(index: Index, sentence: str) -> Index:
    return replace(index, said=(*index.said, sentence))
