"""Walk a folder tree once: which files are pictures, which are something else, and that nothing leads out of it."""

import os
import re
from collections.abc import Sequence

from tellapart.data.index import Strings, naturally
from tellapart.errors import DataError
from tellapart.files import readable

PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".pbm", ".bmp", ".tif", ".tiff", ".webp")
LITTER = frozenset(("thumbs.db", "desktop.ini", "__macosx"))
"""What systems leave in folders; like names that begin with a dot, it is passed over without a word."""


def shown(path: object) -> str:
    """A path as it can be printed, whatever bytes it holds."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def few(texts: Sequence[object], most: int = 3) -> str:
    """The first of some names, as they can be printed, and how many more there are."""
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(shown(text) for text in texts[:most]) + more


def archive_stem(name: str) -> str:
    """The name of an archive without `.zip`, `.tar.gz` and so on; '' when it does not end like one.

    >>> archive_stem("flowers.tar.gz"), archive_stem("flowers.csv")
    ('flowers', '')
    """
    found = re.fullmatch(r"(.+?)\.(zip|tar|t(ar\.)?(gz|xz|bz2))", name, re.IGNORECASE | re.DOTALL)
    return found[1] if found else ""


def is_picture(name: str) -> bool:
    """Whether a file name ends like a picture that can be read; upper and lower case are the same."""
    return name.lower().endswith(PICTURES)


def is_inside(root: str, real: str) -> bool:
    """Whether a real path is that of the root or lies below it."""
    return real == root or real.startswith(os.path.join(root, ""))


def stamp(path: str) -> tuple[int, int, int]:
    """Size, time of the content and time of the inode of a file; no one can set the last. -1 when it is gone."""
    try:
        about = os.stat(path)
    except OSError:
        return -1, -1, -1
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


class Walk:
    """One pass over the tree below `root` (a real path). It collects what is ignored, and when each folder was changed.

    Raises StorageError when a folder cannot be read, and DataError for a link that leaves the root or that leads to a
    folder which is read anyway: its pictures would be there twice, perhaps once in training and once in the test.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.ignored: list[tuple[str, str]] = []
        self.changed: dict[str, int] = {}
        self.linked = False
        self._seen: dict[str, str] = {}

    def folders_and_files(self, path: str, real: str) -> tuple[list[tuple[str, str]], list[str], list[str]]:
        """The content of one folder: its folders as (name, real path), its files, and the rest by name."""
        folders, files, rest = [], [], []
        with readable(path, "Check the permissions."):
            self.changed.setdefault(path, os.stat(path).st_mtime_ns)  # before it is read: a change meanwhile shows
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name.lower() in LITTER:
                        continue
                    target = self._inside(entry) if entry.is_symlink() else ""
                    if entry.is_dir():
                        folders.append((entry.name, target or os.path.join(real, entry.name)))
                    else:
                        (files if entry.is_file() else rest).append(entry.name)
        return folders, files, rest

    def class_folder(self, prefix: str, real: str) -> Strings:
        """The keys of the pictures below one class folder, however deep, in natural order.

        `prefix`: its path below the root, with a final `/`.
        """
        found = []
        waiting = [("", real)]
        while waiting:
            below, real = waiting.pop()
            self.enter(prefix + below, real)
            folders, files, rest = self.folders_and_files(os.path.join(self.root, prefix + below), real)
            waiting += [(f"{below}{name}/", target) for name, target in folders]
            for name in files:
                if is_picture(name):
                    found.append(below + name)
                else:
                    what = os.path.splitext(name)[1] or "a file without extension"
                    self.ignored.append((f"{prefix}{below}{name}", f"{what} is not read"))
            self.ignored += [(f"{prefix}{below}{name}", "a link to nothing, or not a regular file") for name in rest]
        return Strings.of(prefix + path for path in naturally(found))  # a million str would take 80 MB

    def enter(self, key: str, real: str) -> None:
        """Note a folder as read. Raises DataError when it was read before under another name."""
        first = self._seen.setdefault(real, key)
        if first != key:
            raise DataError(
                f"{shown(key)} and {shown(first)} are the same folder: one is a link to the other.",
                "Its pictures would count twice. Remove the link, or copy the pictures that are meant.",
            )

    def _inside(self, entry: os.DirEntry[str]) -> str:
        """The real path of a link. Raises DataError when it lies outside the root."""
        self.linked = True
        target = os.path.realpath(entry.path)
        if not is_inside(self.root, target):
            key = shown(os.path.relpath(entry.path, self.root))
            raise DataError(
                f"{key} is a link that leaves {shown(self.root)}: it leads to {shown(target)}.",
                "Copy the pictures into the folder, or remove the link.",
            )
        return target
