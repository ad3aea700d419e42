"""Find the pictures that a table names below its own folder: each folder is listed once, and none is left."""

import errno
import os
import re
from collections.abc import Collection, Iterator, Sequence

from tellapart.data.sources.listing import is_inside, is_picture, shown
from tellapart.errors import DataError, StorageError

USUAL_FOLDERS = ("train", "images", "image", "pictures", "photos", "imgs", "img", "data", "val", "valid", "test")
"""Sub-folders that are looked in when a path is not found from the table's folder itself."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_PLAIN = re.compile(r"(?![/.])(?:(?!/[/.])[^\\\0:\ud800-\udfff])*\Z")
"""Nothing to make simple: no root, no dots at the start of a name, no backslash, drive or scheme."""


class Below:
    """The files below one folder, by the paths that a table gives. `found_in` counts what lay in a usual sub-folder."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self.found_in: dict[str, int] = {}
        self._listings: dict[str, set[str]] = {}
        self._stems: dict[str, dict[str, tuple[str, ...]]] = {}
        self._links: set[str] = set()
        self._usual = [f"{name}/" for name in USUAL_FOLDERS if os.path.isdir(os.path.join(self.root, name))]

    def find(self, text: str) -> str:
        """The key (path below the root) of the file that `text` means; '' when there is none.

        A text without a picture's extension may mean the one picture of that name. Raises DataError, without saying
        where it stood, for a URL, a path or link that leaves the root, and a text that may mean several files.
        """
        key = self._found(text, text if _PLAIN.match(text) else self._inside(text))
        if key in self._links:
            self._refuse_outside(os.path.join(self.root, key))
        return key

    def _found(self, text: str, wanted: str) -> str:
        if key := self._at(wanted):
            return key
        found = [(folder, key) for folder in self._usual if (key := self._at(folder + wanted))]
        if len(found) > 1:
            _refuse_several(text, [key for _, key in found])
        for folder, key in found:
            self.found_in[folder] = self.found_in.get(folder, 0) + 1
            return key
        return ""

    def where(self) -> str:
        """The folders that were looked in, in words."""
        return " and ".join([shown(self.root), *self._usual])

    def unnamed(self, keys: Collection[str]) -> int:
        """How many pictures lie in the folders of `keys` and are none of them."""
        folders = {key.rpartition("/")[0] for key in keys}
        listed = (name for folder in folders for name in self._listing(folder))
        return max(0, sum(is_picture(name) and name[0] != "." for name in listed) - len(keys))

    def _at(self, wanted: str) -> str:
        folder, slash, name = wanted.rpartition("/")
        exact = name in self._listing(folder)
        if exact and is_picture(name):
            return wanted
        pictures = self._by_stem(folder).get(name, ())
        if len(pictures) > 1:
            _refuse_several(wanted, pictures)
        return folder + slash + pictures[0] if pictures else wanted if exact else ""

    def _listing(self, folder: str) -> set[str]:
        if folder not in self._listings:
            self._listings[folder] = set(self._files(folder))
        return self._listings[folder]

    def _by_stem(self, folder: str) -> dict[str, tuple[str, ...]]:
        """The pictures of a folder by their names without extension; made only when such a name is looked for."""
        if folder not in self._stems:
            stems = self._stems[folder] = {}
            for name in filter(is_picture, self._listing(folder)):
                stem = os.path.splitext(name)[0]
                stems[stem] = (*stems.get(stem, ()), name)
        return self._stems[folder]

    def _files(self, folder: str) -> Iterator[str]:
        path = os.path.join(self.root, folder)
        self._refuse_outside(path)
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        self._links.add(f"{folder}/{entry.name}".lstrip("/"))
                    if os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file():  # a link may be a loop
                        yield entry.name
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
                said = f"{shown(path)} cannot be read: {error.strerror}."
                raise StorageError(said, "Check the permissions.") from error

    def _inside(self, text: str) -> str:
        """The path below the root without `..`, `.` and backslashes."""
        if _URL.match(text):
            raise DataError(f"{text!a} is an address on the net.", "Download the pictures first, and name the files.")
        if re.search("[\0\ud800-\udfff]", text):
            raise DataError(f"{text!a} holds a character that no file name has.", "Repair the path.")
        turned = text if os.path.lexists(os.path.join(self.root, text)) else text.replace("\\", "/")
        path = os.path.normpath(os.path.join(self.root, turned))
        if not is_inside(self.root, path) or re.match("[A-Za-z]:/", turned):
            self._refuse(text, path if _ABSOLUTE.match(text) else "")
        return path[len(os.path.join(self.root, "")) :].replace(os.sep, "/")

    def _refuse_outside(self, path: str) -> None:
        real = os.path.realpath(path)
        if not is_inside(self.root, real):
            self._refuse(os.path.relpath(path, self.root), real)

    def _refuse(self, text: str, target: str) -> None:
        leads = f": it leads to {shown(target)}" if target and target != text else ""
        raise DataError(
            f"{text!a} leaves the table's folder {shown(self.root)}{leads}.",
            "Put the table into a folder that holds all its pictures, with paths from there.",
        )


def _refuse_several(text: str, found: Sequence[str]) -> None:
    names = " and ".join(shown(one) for one in found[:3])
    raise DataError(f"{text!a} may mean {names}.", "Give the folder and the extension in the path.")
