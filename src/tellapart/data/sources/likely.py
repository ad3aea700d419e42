"""Guess from names alone how a folder of pictures is labelled."""

import os
from pathlib import Path

from tellapart.data.index import NO_PART
from tellapart.data.sources.layout import place_of
from tellapart.data.sources.listing import Walk, is_picture
from tellapart.data.sources.paired import label_files


def likely(root: Path) -> str:
    """How the pictures below a folder seem to be labelled: shards, folders, paired or filename. No file is opened.

    Class folders win: only folders that pair (`image` and `label`), or pictures without any folder, are something else.
    """
    if not root.is_dir():
        return "folders"
    walk = Walk(os.path.realpath(root))
    folders, files, _ = walk.folders_and_files(walk.root, walk.root)
    if _are_shards(walk, dict(folders), files):
        return "shards"
    parts = [name for name, _ in folders if place_of(name) != NO_PART]
    levels = [f"{name}/" for name in parts] if parts and len(parts) == len(folders) else [""]
    ways = {_likely(walk, key) for key in levels}
    return ways.pop() if len(ways) == 1 else "folders"


def _are_shards(walk: Walk, folders: dict[str, str], files: list[str]) -> bool:
    """Whether there are archives, here or in part folders, and neither pictures nor folders of folders."""
    every, here = list(files), list(files)
    for name, real in folders.items():
        inner, more, _ = walk.folders_and_files(os.path.join(walk.root, name), real)
        if inner:
            return False
        every += more
        here += more if place_of(name) != NO_PART else []
    archives = (".tar", ".tar.gz", ".tgz")
    return any(name.lower().endswith(archives) for name in here) and not any(is_picture(name) for name in every)


def _likely(walk: Walk, key: str) -> str:
    """The same of one level: the root, or a part folder in it."""
    path = os.path.join(walk.root, key)
    folders, files, _ = walk.folders_and_files(path, os.path.realpath(path))
    below, names = dict(folders), {os.path.splitext(name)[0] for name in files if is_picture(name)}
    for name in below:
        for sister in [text.split("/")[0] for text in label_files(f"{name}/1.jpg")][1:]:
            if sister in below and _only_texts(walk.root, f"{key}{sister}/", below[sister]):
                return "paired"
    if folders or not names:
        return "folders"
    return "paired" if any(f"{name}.txt" in files for name in names) else "filename"


def _only_texts(root: str, key: str, real: str) -> bool:
    walk = Walk(root)
    return not walk.class_folder(key, real) and any(name.endswith(".txt") for name, _ in walk.ignored)
