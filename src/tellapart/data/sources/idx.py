"""MNIST, Fashion-MNIST and KMNIST from their official idx files, packed (.gz) or unpacked.

The idx format: two zero bytes, 8 for "unsigned byte", the number of axes, each axis as a big-endian uint32, the bytes.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import ArrayStore, Index, Strings
from tellapart.data.official import Official, md5_of_bytes, places, read_bytes, refuse_wrong_md5
from tellapart.errors import AbsentError, DataError

TRAIN, TEST = 0, 2


@dataclass(frozen=True, kw_only=True)
class IdxSet:
    """One data set of four idx files: pictures and labels for training, pictures and labels for the test."""

    name: str
    title: str
    folders: tuple[str, ...]
    classes: tuple[str, ...]
    files: tuple[Official, ...]
    counts: tuple[int, int] = (60_000, 10_000)
    side: int = 28


STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _idx_set(name: str, title: str, classes: str, urls: str, md5s: str) -> IdxSet:
    """One set with its classes, its folders on the net and the md5s of its four files, each parted by spaces."""
    files = zip(STEMS, md5s.split(), strict=True)
    return IdxSet(
        name=name,
        title=title,
        folders=(name, f"{title.replace('-', '')}/raw", ""),
        classes=tuple(classes.split()),
        files=tuple(Official(f"{stem}.gz", md5, tuple(urls.split())) for stem, md5 in files),
    )


MNIST = _idx_set(
    "mnist",
    "MNIST",
    "0 1 2 3 4 5 6 7 8 9",
    "https://ossci-datasets.s3.amazonaws.com/mnist/ http://yann.lecun.com/exdb/mnist/",
    "f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432 "
    "9fb629c4189551a2d022fa330f9573f3 ec29112dd5afa0611ce80d1b7f02629c",
)
FASHION_MNIST = _idx_set(
    "fashion-mnist",
    "Fashion-MNIST",
    # Names that can be folders, so that the same pictures as class folders have the same content identity.
    "tshirt trouser pullover dress coat sandal shirt sneaker bag boot",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe "
    "bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310",
)
KMNIST = _idx_set(
    "kmnist",
    "KMNIST",
    "o ki su tsu na ha ma ya re wo",
    "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    "bdb82020997e1d708af4cf47b453dcf7 e144d726b3acfaa3e44228e80efcd344 "
    "5c965bf0a639b31b8f53240b1b52f4d7 7320c461ea6c1c855c0b718fb2a4b134",
)
IDX_SETS = (MNIST, FASHION_MNIST, KMNIST)


def read(root: Path, what: IdxSet) -> Index:
    """The pictures (28, 28, 1) uint8 with train and test as the files give them; no validation part.

    Raises DataError when files are missing, not the official ones, cut short or not of the idx format.
    """
    paths = _find(root, what)
    images, labels = [], []
    for which, count in enumerate(what.counts):
        image_path, label_path = paths[2 * which : 2 * which + 2]
        images.append(_array(image_path, what, what.files[2 * which], (count, what.side, what.side)))
        labels.append(_array(label_path, what, what.files[2 * which + 1], (count,)))
        refuse_labels(labels[-1], label_path, what.title, what.classes)
    pixels = np.concatenate(images)[..., None]
    return as_given(what.name, what.classes, what.counts, pixels, np.concatenate(labels), said=_said(paths, what))


def as_given(
    name: str, classes: tuple[str, ...], counts: Sequence[int], pixels: NDArray[np.uint8], labels: NDArray, *, said: str
) -> Index:
    """The Index of official training pictures and then the official test, `counts` of each.

    Keys are `train/0` … and `test/0` …, the place of each row in the official files.
    """
    named = zip(("train", "test"), counts, strict=True)
    return Index(
        name=name,
        classes=classes,
        keys=Strings.of(f"{part}/{row}" for part, count in named for row in range(count)),
        parts=np.repeat(np.array([TRAIN, TEST], np.uint8), counts),
        labels=labels.astype(np.int64),
        store=ArrayStore(pixels),
        said=(said,),
    )


def _said(paths: Sequence[Path], what: IdxSet) -> str:
    packed = sum(path.suffix == ".gz" for path in paths)
    if packed == len(paths):
        return f"{what.title}: already there and verified ({len(paths)} files)."
    return (
        f"{what.title}: already there ({packed} files verified by md5, {len(paths) - packed} unpacked files "
        "checked by size and labels only)."
    )


def _find(root: Path, what: IdxSet) -> list[Path]:
    """The four paths, all in one folder, packed ones first. Raises DataError naming what is missing and where."""
    partial: tuple[Path, list[str]] | None = None
    for place in places(root, what.folders):
        found = [_packed_or_not(place, file.name) for file in what.files]
        missing = [file.name for file, path in zip(what.files, found, strict=True) if path is None]
        if not missing:
            return [path for path in found if path is not None]
        if len(missing) < len(what.files) and partial is None:
            partial = place, missing
    hint = f"Fetch it with `tellapart data get {what.name}`, or name the folder that holds it with --root."
    if partial:
        raise DataError(f"{what.title} is not whole: {partial[0]} lacks {', '.join(partial[1])}.", hint)
    names = ", ".join(file.name for file in what.files)
    raise AbsentError(f"{what.title} is not in {root}: none of {names} is there.", hint)


def _packed_or_not(place: Path, packed: str) -> Path | None:
    """The path of `packed` or of its unpacked twin, as `gunzip` or as some sites name it; None when there is none."""
    plain = packed.removesuffix(".gz")
    names = (packed, plain, plain.replace("-idx", ".idx"))
    return next((place / name for name in names if (place / name).is_file()), None)


def _array(path: Path, what: IdxSet, official: Official, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The bytes of one idx file as an array of `shape`, after its md5 (when packed), magic, axes and length agree."""
    raw = read_bytes(path)
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    size = len(header) + int(np.prod(shape))
    if path.suffix == ".gz":
        _refuse_wrong(path, raw, what, official)
        raw = _unpacked(path, raw, size)
    if raw[:4] != header[:4]:
        raise DataError(
            f"{path} is not an idx file of {len(shape)} axes: it begins with "
            f"{raw[:4].hex(' ') or 'nothing'}, not {header[:4].hex(' ')}.",
            "Take the official files.",
        )
    if raw[: len(header)] != header or len(raw) != size:
        raise DataError(
            f"{path} does not hold {' x '.join(map(str, shape))} bytes: its header says {_axes(raw)} "
            f"and it is {len(raw):,} bytes long instead of {size:,}.",
            "It is cut short or of another data set.",
        )
    return np.frombuffer(raw, np.uint8, offset=len(header)).reshape(shape)


def _axes(raw: bytes) -> str:
    count = raw[3] if len(raw) > 3 else 0
    return " x ".join(str(int.from_bytes(raw[at : at + 4], "big")) for at in range(4, 4 + 4 * count, 4)) or "nothing"


def _refuse_wrong(path: Path, raw: bytes, what: IdxSet, official: Official) -> None:
    """Raises DataError on a wrong md5; says so when the file is that of a sister set, which has the same file names."""
    found = md5_of_bytes(raw)
    for other in IDX_SETS:
        if other.name != what.name and found in {file.md5 for file in other.files} and found != official.md5:
            raise DataError(
                f"{path} is a file of {other.title}, not of {what.title}: both use the same file names.",
                f"Put each set in a folder of its own: {what.folders[0]}/ and {other.folders[0]}/.",
            )
    refuse_wrong_md5(path, found=found, official=official.md5, title=what.title)


def _unpacked(path: Path, raw: bytes, size: int) -> bytes:
    """The content of a gzip file of at most `size` bytes, with its checksum proved. Raises DataError when cut short."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        # one byte more than is due, so that a longer content shows and a bomb does not go off
        content = unpacker.decompress(raw, size + 1)
    except zlib.error as error:
        raise DataError(f"{path} is not a whole gzip file: {error}.", "Fetch it again.") from error
    if len(content) <= size and not unpacker.eof:
        raise DataError(
            f"{path} is cut short: its content ends after {len(content):,} of {size:,} bytes.", "Fetch it again."
        )
    return content


def refuse_labels(labels: NDArray, where: object, title: str, classes: Sequence[str]) -> None:
    """Raises DataError when a label is no number of a class."""
    wrong = labels[(labels < 0) | (labels >= len(classes))]
    if len(wrong):
        raise DataError(
            f"{where} holds the label {wrong[0]}; {title} has the labels 0 to {len(classes) - 1}.",
            "It is damaged or of another data set. Take the official files.",
        )
