"""CIFAR-10 and CIFAR-100: from the binary version, which is plain bytes, or from the Python version through `pickles`.

Each record of the binary version is the labels (one byte each; CIFAR-100 has the coarse one first), then 3,072 bytes of
pixels: 32 x 32 of red, of green, of blue. https://www.cs.toronto.edu/~kriz/cifar.html
"""

import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import Index
from tellapart.data.official import Official, md5_of, md5_of_bytes, places, read_bytes, refuse_wrong_md5
from tellapart.data.sources.idx import as_given, refuse_labels
from tellapart.data.sources.pickles import plain_arrays
from tellapart.errors import AbsentError, DataError

SIDE, PIXELS = 32, 3 * 32 * 32
MOST = 1 << 28
"""No file of a CIFAR archive has more bytes than this."""

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_CLASSES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
    lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
    shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905 - a hundred names read better as words
)


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """One CIFAR: the folder and the files of each version. Each file of a version holds `rows` pictures.

    label_bytes: labels before each picture in the binary version; the last one is the class. label_key: its name in the
    pickles. The last file of each version is the test part.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    rows: tuple[int, ...]
    archive: Official
    binary_folder: str
    binary_files: tuple[str, ...]
    label_bytes: int
    python_archive: str
    python_folder: str
    python_files: tuple[Official, ...]
    label_key: str


def _files(text: str) -> tuple[Official, ...]:
    """Names and md5s in turn."""
    words = iter(text.split())
    return tuple(Official(name, md5) for name, md5 in zip(words, words, strict=True))


URLS = ("https://www.cs.toronto.edu/~kriz/",)
CIFAR10 = Cifar(
    name="cifar10",
    title="CIFAR-10",
    classes=CIFAR10_CLASSES,
    rows=(10_000,) * 6,
    archive=Official("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", URLS),
    binary_folder="cifar-10-batches-bin",
    binary_files=(*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"),
    label_bytes=1,
    python_archive="cifar-10-python.tar.gz",
    python_folder="cifar-10-batches-py",
    label_key="labels",
    python_files=_files("""
        data_batch_1 c99cafc152244af753f735de768cd75f data_batch_2 d4bba439e000b95fd0a9bffe97cbabec
        data_batch_3 54ebc095f3ab1f0389bbae665268c751 data_batch_4 634d18415352ddfa80567beed471001a
        data_batch_5 482c414d41f54cd18b22e5b47cb7c3cb test_batch 40351d587109b95175f43aff81a1287e
    """),
)
CIFAR100 = Cifar(
    name="cifar100",
    title="CIFAR-100",
    classes=CIFAR100_CLASSES,
    rows=(50_000, 10_000),
    archive=Official("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", URLS),
    binary_folder="cifar-100-binary",
    binary_files=("train.bin", "test.bin"),
    label_bytes=2,
    python_archive="cifar-100-python.tar.gz",
    python_folder="cifar-100-python",
    label_key="fine_labels",
    python_files=_files("train 16019d7e3df5f24257cddd939b257f8d test f0ef6b0ae62326f3e7ffdfab6717acfc"),
)
CIFARS = (CIFAR10, CIFAR100)
Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read(root: Path, what: Cifar) -> Index:
    """The pictures (32, 32, 3) uint8 with train and test as the files give them; no validation part.

    The binary version is taken before the Python version, a folder before its archive. Nothing is written.
    Raises DataError when there is none, or when a file is not the official one, cut short or of other content.
    """
    batches, said = _batches(root, what)
    counts = (sum(what.rows[:-1]), what.rows[-1])
    pixels = np.concatenate([pixels for pixels, _ in batches])
    upright = np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    labels = np.concatenate([labels for _, labels in batches])
    return as_given(what.name, what.classes, counts, upright, labels, said=said)


def _batches(root: Path, what: Cifar) -> tuple[list[Batch], str]:
    """The batches of the first version found, and the sentence that says which."""
    binary, python = (what.binary_folder, what.archive.name), (what.python_folder, what.python_archive)
    for name in (*binary, *python):
        for path in (place / name for place in places(root, (what.name, ""))):
            if path.exists():
                return _binaries(path, what) if name in binary else _pickled(path, what)
    hint = f"Fetch it with `tellapart data get {what.name}`, or name the folder that holds it with --root."
    raise AbsentError(f"{what.title} is not in {root}: none of {', '.join((*binary, *python))} is there.", hint)


def _binaries(path: Path, what: Cifar) -> tuple[list[Batch], str]:
    """The batches of the binary version. Its archive has a published md5, the files in it have none."""
    if unpacked := path.is_dir():
        said = f"({len(what.rows)} unpacked files, checked by size and labels only)"
    else:
        refuse_wrong_md5(path, found=md5_of(path), official=what.archive.md5, title=what.title)
        said = f"and verified ({path.name})"
    contents = _contents(path, what.binary_folder, what.binary_files, what)
    batches = [
        _binary(raw, path / name if unpacked else f"{path}: {name}", rows, what)
        for (name, raw), rows in zip(contents.items(), what.rows, strict=True)
    ]
    return batches, f"{what.title}: already there {said}."


def _contents(path: Path, inner: str, names: Sequence[str], what: Cifar) -> dict[str, bytes]:
    """The bytes of these files, in order, from a folder or from an archive that has them in the folder `inner`."""
    if not path.is_dir():
        return _members(path, inner, names)
    if missing := [name for name in names if not (path / name).is_file()]:
        raise DataError(
            f"{what.title} is not whole: {path} lacks {', '.join(missing)}.",
            f"Fetch it again with `tellapart data get {what.name}`.",
        )
    return {name: read_bytes(path / name) for name in names}


def _members(path: Path, folder: str, names: Sequence[str]) -> dict[str, bytes]:
    """The wanted files of a tar.gz, read in one pass and by name; nothing is unpacked to disk."""
    wanted, found = {f"{folder}/{name}": name for name in names}, {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = wanted.get(member.name.removeprefix("./"))
                if name and member.isfile() and member.size <= MOST:
                    reader = archive.extractfile(member)
                    found[name] = reader.read() if reader else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a tar.gz archive: {error}.", "Fetch it again.") from error
    if missing := [name for name in wanted.values() if name not in found]:
        raise DataError(f"{path} lacks {', '.join(missing)} in {folder}/.", "Fetch it again.")
    return {name: found[name] for name in names}


def _binary(raw: bytes, where: object, rows: int, what: Cifar) -> Batch:
    """The pixels (rows, 3072) and labels of one file of the binary version."""
    size = rows * (what.label_bytes + PIXELS)
    if len(raw) != size:
        raise DataError(
            f"{where} is {len(raw):,} bytes long; the official file of {what.title} has {size:,}.",
            "It is cut short or of another data set. Fetch it again.",
        )
    records = np.frombuffer(raw, np.uint8).reshape(rows, what.label_bytes + PIXELS)
    labels = records[:, what.label_bytes - 1]
    refuse_labels(labels, where, what.title, what.classes)
    return records[:, what.label_bytes :], labels.astype(np.int64)


def _pickled(path: Path, what: Cifar) -> tuple[list[Batch], str]:
    """The batches of the Python version. Every md5 is proved before the first byte is unpickled."""
    members = _contents(path, what.python_folder, [file.name for file in what.python_files], what)
    for file in what.python_files:
        found = md5_of_bytes(members[file.name])
        refuse_wrong_md5(f"{path}: {file.name}", found=found, official=file.md5, title=what.title)
    batches = [
        _batch(plain_arrays(raw, where=f"{path}: {name}"), f"{path}: {name}", rows, what)
        for (name, raw), rows in zip(members.items(), what.rows, strict=True)
    ]
    said = f"{len(members)} files" if path.is_dir() else path.name
    return batches, f"{what.title}: already there and verified ({said})."


def _batch(content: object, where: str, rows: int, what: Cifar) -> Batch:
    """The pixels (rows, 3072) and labels of one unpickled batch. Raises DataError when they are not what is due."""
    pixels = content.get("data") if isinstance(content, dict) else None
    labels = content.get(what.label_key) if isinstance(content, dict) else None
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape != (rows, PIXELS)
        or not isinstance(labels, list)
        or len(labels) != rows
        or not all(type(n) is int and abs(n) < 1 << 31 for n in labels)
    ):
        raise DataError(
            f"{where} does not hold {rows:,} pictures of {PIXELS:,} bytes with their {what.label_key}.",
            "Fetch it again, or take the binary version.",
        )
    numbers = np.array(labels, np.int64)
    refuse_labels(numbers, where, what.title, what.classes)
    return pixels, numbers
