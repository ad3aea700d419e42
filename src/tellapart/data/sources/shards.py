"""WebDataset shards as an Index: pictures are read out of plain tar files by their offset; nothing is unpacked."""

import json
import os
import re
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import NO_PART, Ignored, Index, Strings, naturally
from tellapart.data.sources.assembled import Coded, assembled
from tellapart.data.sources.layout import place_of
from tellapart.data.sources.listing import LITTER, Walk, is_picture, shown, stamp
from tellapart.data.sources.rows import cell, lines_of
from tellapart.errors import DataError, StorageError
from tellapart.files import readable
from tellapart.names import PARTS

COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst")
PACKED = {b"PK\3\4": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"(\xb5/\xfd": "zstd"}
"""How names end, and how files begin, of what is packed."""
JSON_LABELS = ("label", "cls", "class", "category", "class_name", "target")
"""Where the label stands in KEY.json; the first of them that the first file has is taken for all."""
MOST_LABEL = 1 << 20
"""No label file has more bytes than this."""
CLASSES = "classes.txt"
BY_FOLDER = "by folder"


@dataclass(frozen=True)
class ShardStore:
    """Bytes of pictures inside tar files. shards (N): position in `paths`; offsets, sizes (N) int64, in bytes."""

    paths: tuple[str, ...]
    shards: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def read(self, row: int, most: int = -1) -> bytes:
        """The bytes of one picture, through a handle of its own. Raises StorageError when they are not there."""
        path, size = self.paths[self.shards[row]], int(self.sizes[row])
        size = min(size, most) if most >= 0 else size
        with readable(path), open(path, "rb") as file:
            file.seek(int(self.offsets[row]))
            raw = file.read(size)
        if len(raw) != size:
            raise StorageError(f"{shown(path)} is shorter than when it was listed.", "Start again.")
        return raw

    def stamps(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the shard of each row (n, 3)."""
        return np.array([stamp(path) for path in self.paths], np.int64).reshape(-1, 3)[self.shards[rows]]


@dataclass
class _Pictures:
    """What has been found so far, a row for each picture."""

    keys: list[str] = field(default_factory=list)
    labels: Coded = field(default_factory=Coded)
    parts: Coded = field(default_factory=Coded)
    places: tuple[array, array, array] = field(default_factory=lambda: (array("q"), array("q"), array("q")))
    ignored: list[Ignored] = field(default_factory=list)
    ways: dict[str, str] = field(default_factory=dict)


@dataclass
class _Shard:
    """What one pass over the headers of a tar has found by name: (offset, size) of pictures and of label files."""

    name: str
    pictures: dict[str, tuple[int, int]] = field(default_factory=dict)
    labels: dict[str, dict[str, tuple[int, int]]] = field(default_factory=lambda: {".cls": {}, ".json": {}})


def shards(path: Path) -> Index:
    """The pictures in a .tar, or in a folder of them: KEY.jpg with KEY.cls or KEY.json, or CLASS/NAME.jpg.

    Keys are `shard.tar/member`, in natural order of the shards and in their own order inside. Parts are told by folders
    or words in the names of the shards (train, val, test), or by folders above the class folders inside.
    Raises DataError for an archive that is compressed, cut short or hostile, and for pictures without a label.
    """
    root, names, ignored = _listed(path)
    found, paths = _Pictures(ignored=ignored), [os.path.join(root, name) for name in names]
    parts = [_part(name) for name in names]
    if any(parts) and not all(parts):
        odd = names[parts.index("")]
        raise DataError(f"{shown(odd)} belongs to no part, and other shards do.", "Put train, val or test in its name.")
    for number, (name, part) in enumerate(zip(names, parts, strict=True)):
        _add(found, number, paths[number], name, part)
    if not found.keys:
        raise DataError(f"{shown(path)} holds no pictures.", "Its members should be like 0001.jpg with 0001.cls.")
    # numbers get their names from a file beside the shards
    listed, numbers = Path(root) / CLASSES, all(text.isdecimal() for text in found.labels.texts)
    known = [line.strip() for _, line in lines_of(listed) if line.strip()] if numbers and listed.is_file() else []
    named = f", names from {CLASSES}" if known else ""
    words = f"{len(paths):,} tar shard{'s' * (len(paths) > 1)}: labels {next(iter(found.ways))}{named}."
    shard, offsets, sizes = (np.array(column, np.int64) for column in found.places)
    store, columns = ShardStore(tuple(paths), shard, offsets, sizes), {"label": found.labels, "split": found.parts}
    keys, name, place = Strings.of(found.keys), path.stem or "shards", found.keys.__getitem__
    return assembled(name, keys, columns, store, lambda _: place, known=known, ignored=found.ignored, said=(words,))


def _listed(path: Path) -> tuple[str, list[str], list[Ignored]]:
    """The folder, the shards by their path from there, and what lies beside them."""
    if not path.is_dir():
        _refuse_compressed(path.name)
        return str(path.parent), [path.name], []
    walk = Walk(os.path.realpath(path))
    folders, files, _ = walk.folders_and_files(walk.root, walk.root)
    ignored = [f"{name}/" for name, _ in folders if place_of(name) == NO_PART]
    for name, real in folders:
        if place_of(name) != NO_PART:
            files += [f"{name}/{file}" for file in walk.folders_and_files(os.path.join(walk.root, name), real)[1]]
    for name in files:
        _refuse_compressed(name)
    tars = naturally(name for name in files if name.lower().endswith(".tar"))
    if not tars:
        raise DataError(f"{shown(path)} holds no .tar file.", "Name the folder of the shards, or one shard.")
    ignored += [name for name in files if name not in set(tars) and name != CLASSES]
    return walk.root, tars, [Ignored(key=name, reason="not a shard") for name in sorted(ignored)]


def _refuse_compressed(name: str) -> None:
    if name.lower().endswith(COMPRESSED):
        raise DataError(
            f"{shown(name)} is compressed, so no picture in it can be read by its offset.",
            "Unpack it to a plain .tar first, for example with gunzip; pictures do not shrink anyway.",
        )


def _part(name: str) -> str:
    """The part that the folder or the words of a shard's name tell, or ''."""
    places = set(map(place_of, re.split("[^a-z]+", name.casefold().removesuffix(".tar")))) - {NO_PART}
    return PARTS[places.pop()] if len(places) == 1 else ""


def _add(found: _Pictures, number: int, path: str, name: str, part: str) -> None:
    """Append the pictures of one shard to what has been found."""
    with readable(path), open(path, "rb") as file:
        shard = _scanned(file, name, found.ignored)
        way, labels = _labels(file, shard, found.ignored)
    first = found.ways.setdefault(way, name)
    if len(found.ways) > 1:
        other, before = next(iter(found.ways.items()))
        raise DataError(f"{shown(before)} has its labels {other}, and {shown(first)} {way}.", "Make all of one kind.")
    for member, (offset, size) in shard.pictures.items():
        found.keys.append(f"{name}/{member}")
        found.labels.add(labels[member])
        above = member.split("/")[:-2] if way == BY_FOLDER else ()
        found.parts.add(part or next((PARTS[place_of(one)] for one in above if place_of(one) != NO_PART), ""))
        for column, value in zip(found.places, (number, offset, size), strict=True):
            column.append(value)


def _scanned(file: BinaryIO, name: str, ignored: list[Ignored]) -> _Shard:
    """One pass over the headers. Raises DataError for a name that is there twice or points outside."""
    shard, seen = _Shard(name), set()
    for member in members(file, name):
        inner = member.name.removeprefix("./")
        if re.match(r"[/\\]|[A-Za-z]:", inner) or ".." in re.split(r"[/\\]", inner):
            raise DataError(f"{shown(name)} holds a member that points outside: {inner!a}.", "Do not trust this file.")
        if member.isdir() or any(one[:1] == "." != one or one.lower() in LITTER for one in inner.split("/")):
            continue
        if inner in seen:
            raise DataError(f"{shown(name)} holds two members called {inner!a}.", "Write the shard anew.")
        seen.add(inner)
        kind = os.path.splitext(inner)[1].lower()
        if not member.isreg() or member.issparse():
            ignored.append(Ignored(key=f"{name}/{inner}", reason="a link, a device or a sparse file"))
        elif is_picture(inner):
            shard.pictures[inner] = (member.offset_data, member.size)
        elif kind in shard.labels:
            shard.labels[kind][inner] = (member.offset_data, member.size)
        else:
            ignored.append(Ignored(key=f"{name}/{inner}", reason=f"{kind or 'no extension'} is not read"))
    return shard


def packing(head: bytes) -> str:
    """What packed a file with these first 512 bytes; "" for a tar that is not packed, and for what is not known."""
    return "" if head[257:262] == b"ustar" else next((kind for how, kind in PACKED.items() if head.startswith(how)), "")


def members(file: BinaryIO, name: str) -> Iterator[tarfile.TarInfo]:
    """The members of a tar, called `name`, in their order. Raises DataError when a header lies, or it ends too soon."""
    size, end = os.fstat(file.fileno()).st_size, 0
    if kind := packing(file.read(512)):
        raise DataError(f"{shown(name)} is packed by {kind}.", "Unpack it, and name the folder or a plain .tar.")
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or a million headers stay in memory
                if member.size < 0 or member.offset_data < end or member.offset_data + member.size > size:
                    raise DataError(f"{shown(name)} is cut short or damaged at {member.name!a}.", "Fetch it again.")
                end = member.offset_data + member.size
                yield member
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise DataError(f"{shown(name)} is not a plain, whole tar archive: {error}.", "Fetch it again.") from error
    file.seek(end)
    rest = iter(lambda: file.read(1 << 20), b"")
    if end == size or any(block.strip(b"\0") for block in rest):
        raise DataError(f"{shown(name)} is damaged or cut short after {end:,} bytes.", "Fetch it, or write it, again.")


def _labels(file: BinaryIO, shard: _Shard, ignored: list[Ignored]) -> tuple[str, dict[str, str]]:
    """How the shard tells its labels, and the label of every picture: by .cls, else by .json, else by its folder."""
    kind, entry = _kind(file, shard)
    files = shard.labels.get(kind, {})
    wanted = {_key(picture) + kind for picture in shard.pictures}
    unused = [one for some in shard.labels.values() for one in some if one not in files or one not in wanted]
    ignored += [Ignored(key=f"{shard.name}/{one}", reason="not the label of a picture") for one in unused]
    missing = [one for one in shard.pictures if not _folder(one)] if not kind else []
    missing += [one for one in shard.pictures if kind and _key(one) + kind not in files]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(shard.pictures):,} pictures in {shown(shard.name)} have no label, such as "
            f"{missing[0]!a}.",
            "A label stands in KEY.cls or KEY.json beside KEY.jpg, or is the folder of the picture.",
        )
    if kind and len(wanted) < len(shard.pictures):
        raise DataError(f"{shown(shard.name)} holds several pictures for one {kind}.", "Give each picture its own.")
    if not kind:
        return BY_FOLDER, {one: _folder(one) for one in shard.pictures}
    return f"in {kind}", {one: _label(file, shard, _key(one) + kind, entry) for one in shard.pictures}


def _kind(file: BinaryIO, shard: _Shard) -> tuple[str, str]:
    """The kind of label file that counts, and the entry of a .json that holds the label; '' for folders."""
    if shard.labels[".cls"]:
        return ".cls", ""
    first = next(iter(shard.labels[".json"]), "")
    found = _json(file, shard, first) if first else {}
    entry = next((name for name in JSON_LABELS if name in found), "")
    return (".json", entry) if entry else ("", "")


def _label(file: BinaryIO, shard: _Shard, name: str, entry: str) -> str:
    where = f"{shown(shard.name)}/{shown(name)}"
    if entry:
        return cell(_json(file, shard, name).get(entry), f"{where}, '{entry}'")
    try:
        return _small(file, shard, name).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8.", "It should hold the class, as a number or a name.") from error


def _json(file: BinaryIO, shard: _Shard, name: str) -> dict:
    try:
        value = json.loads(_small(file, shard, name))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(shard.name)}/{shown(name)} is not JSON: {error}.", "Repair it.") from error
    return value if isinstance(value, dict) else {}


def _small(file: BinaryIO, shard: _Shard, name: str) -> bytes:
    offset, size = shard.labels[os.path.splitext(name)[1].lower()][name]
    if size > MOST_LABEL:
        raise DataError(f"{shown(shard.name)}/{shown(name)} has {size:,} bytes.", "A label is a number or a name.")
    file.seek(offset)
    return file.read(size)


def _key(name: str) -> str:
    """The key of a member, as WebDataset has it: up to the first dot of the last name.

    >>> _key("a.b/0001.left.jpg")
    'a.b/0001'
    """
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _folder(name: str) -> str:
    return os.path.basename(os.path.dirname(name))
