"""Labels in files of their own: `ants_label/1.txt` for `ants_image/1.jpg`, or `1.txt` beside `1.jpg`."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tellapart.data.index import Index
from tellapart.data.sources.labels import every_file, labelled
from tellapart.data.sources.listing import few, shown
from tellapart.errors import DataError
from tellapart.files import readable

MOST = 4096
"""No label file has more bytes than this: it holds one class name."""

_PICTURES = re.compile(r"(.*?)(image|img|picture|photo)s?", re.IGNORECASE)


def paired(root: Path) -> Index:
    """The pictures below `root`, each labelled by the one line of the text file of the same name.

    The text file lies beside the picture, or in the folder that is called `label` or `labels` where the picture's says
    `image`, `img`, `picture` or `photo`. Text files without a picture are named in `ignored` and counted in `said`.
    Raises DataError naming pictures without a label, and label files that do not hold one class name.
    """
    walk, keys = every_file(os.path.realpath(root))
    texts = {key for key, _ in walk.ignored if key.casefold().endswith(".txt")}
    found = {key: next((text for text in label_files(key) if text in texts), "") for key in keys}
    if missing := [key for key, text in found.items() if not text]:
        homes = {os.path.dirname(text) for text in texts}
        wanted = next(
            (t for t in label_files(missing[0]) if os.path.dirname(t) in homes),
            os.path.splitext(missing[0])[0] + ".txt",
        )
        raise DataError(
            f"{len(missing):,} of {len(keys):,} pictures in {shown(root)} have no label file: {few(missing)}.",
            f"Add {shown(wanted)} with the class name in it, or move the picture away.",
        )
    if not keys:
        raise DataError(f"{shown(root)} holds no pictures.", "Name the folder that holds pictures and label files.")
    extra = texts - set(found.values())
    others = [(key, why) for key, why in walk.ignored if key not in texts]
    walk.ignored = others + [(key, "a text file without a picture of its name") for key in extra]
    more = f"; {len(extra):,} more have no picture" if extra else ""
    names = [_label(walk.root, text) for text in found.values()]
    return labelled(walk, keys, names, said=f"Labels: from {len(keys):,} text files, one for each picture{more}.")


def label_files(key: str) -> Iterator[str]:
    """Where the label of a picture may stand: beside it, then in the sister of each folder above it.

    >>> list(label_files("train/ants_image/1.jpg"))
    ['train/ants_image/1.txt', 'train/ants_label/1.txt', 'train/ants_labels/1.txt']
    """
    *folders, name = f"{os.path.splitext(key)[0]}.txt".split("/")
    yield "/".join([*folders, name])
    for place, folder in enumerate(folders):
        if match := _PICTURES.fullmatch(folder):
            word = "Label" if match[2][0].isupper() else "label"
            for sister in (word, f"{word}s"):
                yield "/".join([*folders[:place], match[1] + sister, *folders[place + 1 :], name])


def _label(root: str, key: str) -> str:
    """The class name that one label file holds."""
    with readable(key), open(os.path.join(root, key), "rb") as file:
        raw = file.read(MOST + 1)
    text = raw.decode("utf-8-sig", "replace")
    lines = [line.strip() for line in text.strip().splitlines()]
    faults = {
        f"is longer than {MOST:,} bytes": len(raw) > MOST,
        "is not UTF-8 text": "\ufffd" in text,
        "is empty": not lines,
        f"has {len(lines)} lines": len(lines) > 1,
    }
    for fault in (fault for fault, found in faults.items() if found):
        raise DataError(f"The label file {shown(key)} {fault}.", "It should hold one line: the name of the class.")
    return lines[0]
