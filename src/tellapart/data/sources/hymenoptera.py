"""Hymenoptera: photographs of ants and bees, the data of PyTorch's tutorial on transfer learning.

No checksum of the archive is published, so what it must hold stands here: two parts, two classes and their counts.
"""

from dataclasses import replace
from pathlib import Path

from tellapart.data.index import Index
from tellapart.data.official import Official, places
from tellapart.data.sources.folder import folder
from tellapart.errors import AbsentError, DataError

ARCHIVE = Official("hymenoptera_data.zip", "", ("https://download.pytorch.org/tutorial/",))
FOLDERS = ("hymenoptera/hymenoptera_data", "hymenoptera_data", "hymenoptera")
CLASSES, TRAIN, VALIDATION = ("ants", "bees"), [123, 121], [70, 83]


def hymenoptera(root: Path) -> Index:
    """The 244 pictures for training and 153 for validation below `root`; there is no test, and none is invented.

    Raises AbsentError when they are not there, DataError when they are not those.
    """
    place = where(root)
    if place is None:
        raise AbsentError(
            f"Hymenoptera is not in {root}: there is no hymenoptera_data/train.",
            "Fetch it with `tellapart data get hymenoptera`, or name the folder that holds it with --root.",
        )
    return proved(place)


def where(root: Path) -> Path | None:
    """The folder below `root` that holds its train/, or None."""
    return next((place for place in places(root, FOLDERS) if (place / "train").is_dir()), None)


def proved(place: Path) -> Index:
    """The folder opened, once its parts, classes and counts are those of the data set. Raises DataError otherwise."""
    index = folder(place)
    found = [index.counts(part).tolist() for part in ("train", "validation", "test")]
    if index.classes != CLASSES or found != [TRAIN, VALIDATION, [0, 0]]:
        raise DataError(
            f"This is not Hymenoptera: {', '.join(index.classes[:8])} have {found[0]} pictures to train and {found[1]} "
            f"to validate; due are {TRAIN} and {VALIDATION} of {' and '.join(CLASSES)}.",
            "It is cut short or another data set. Fetch it with `tellapart data get hymenoptera`.",
        )
    said = "Hymenoptera: already there (397 pictures, checked by their folders and counts only)."
    return replace(index, name="hymenoptera", said=(said, *index.said))
