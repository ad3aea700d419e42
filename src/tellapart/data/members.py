"""What a zip or tar archive says it holds, member by member, with what speaks against taking it.

`zipfile` and `tarfile` read headers and streams; neither ever writes a file here.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tellapart.data.sources.listing import shown
from tellapart.errors import DataError

CHUNK, LONGEST_HEADER = 1 << 20, 1 << 14
Progress = Callable[[int, int | None, str], None]
"""Called with the packed bytes done, the packed bytes in all and the name of the archive."""

BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    EOFError, ValueError, RuntimeError, OverflowError,
)  # fmt: skip
"""What the readers of the standard library raise on bytes that are not a whole archive."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one archive may hold: members, bytes in all, and bytes for each packed byte once there are `small` bytes."""

    members: int = 5_000_000
    total: int = 1 << 40
    ratio: int = 250
    small: int = 1 << 26


@dataclass(frozen=True)
class Member:
    """One file or folder of an archive, before anything is believed of it. `refusal`: why it cannot be taken, or ''."""

    name: str
    is_folder: bool
    size: int
    open: Callable[[], IO[bytes] | None]
    refusal: str = ""


def kind_of(archive: Path) -> str:
    """Which reader an archive needs, by its first bytes: what a file is called proves nothing."""
    try:
        with archive.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise DataError(f"{shown(archive)} cannot be read: {error.strerror}.", "Check the path.") from error
    magic = {b"PK\3\4": "zip", b"PK\5\6": "zip", b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
    found = next((kind for start, kind in magic.items() if head.startswith(start)), "")
    if not found and head[257:262] != b"ustar":
        raise DataError(
            f"{shown(archive)} is not an archive that can be read: it begins with {head[:8].hex(' ') or 'nothing'}.",
            "Read are .zip, .tar, .tar.gz, .tar.xz and .tar.bz2; unpack others with their own program.",
        )
    return found or "tar"


def _zip_members(path: Path, limits: Limits, progress: Progress) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        total = sum(info.compress_size for info in infos)
        lapped = _overlapping(infos, archive.start_dir)
        done = 0
        for info in infos:
            name = _zip_name(info)
            folder = name.endswith("/")
            refusal = _why_not_zip(info, limits, folder=folder)
            if not refusal and info.orig_filename in lapped:
                refusal = "it lies over another member"
            yield Member(name, folder, info.file_size, partial(archive.open, info), refusal)
            done += info.compress_size
            progress(done, total, path.name)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The whole name, also beyond a NUL; macOS writes UTF-8 without the flag that says so."""
    name = info.orig_filename
    if not info.flag_bits & 0x800 and not name.isascii():
        with contextlib.suppress(UnicodeDecodeError):
            return name.encode("cp437").decode("utf-8")
    return name


def _why_not_zip(info: zipfile.ZipInfo, limits: Limits, *, folder: bool) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if folder else stat.S_IFREG):
        return "it is a link, a device or something else that is neither file nor folder"
    if info.flag_bits & 0x41:
        return "it is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"it is packed by method {info.compress_type}, and only stored and deflated members are read"
    if folder and info.file_size:
        return "it is a folder with content"
    if info.file_size > limits.small and info.file_size > limits.ratio * info.compress_size:
        return f"it unpacks to {info.file_size:,} bytes, more than {limits.ratio} for each packed byte"
    return ""


def _overlapping(infos: Sequence[zipfile.ZipInfo], end: int) -> set[str]:
    """The names of members whose packed bytes reach into the next one: the bomb that uses the same bytes many times."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    nexts = [*(info.header_offset for info in ordered[1:]), end]
    pairs = zip(ordered, nexts, strict=True)
    return {one.orig_filename for one, after in pairs if one.header_offset + 30 + one.compress_size > after}


class _Header(tarfile.TarInfo):
    """A tar header that is an error when it is damaged, where tarfile would take it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        """The header in these 512 bytes."""
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.count(0) == tarfile.BLOCKSIZE:
                raise  # the two blocks of zeros that end an archive
            raise tarfile.ReadError(f"{error} where a member or the end was due") from error
        if header.size < 0 or (header.type in b"xgXLK" and header.size > LONGEST_HEADER):
            raise tarfile.ReadError(f"a header speaks of {header.size:,} bytes")
        return header


KINDS = {
    tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a hard link", tarfile.FIFOTYPE: "a named pipe",
    tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.GNUTYPE_SPARSE: "a sparse file",
}  # fmt: skip


class _Unpacked(io.RawIOBase):
    """The bytes of a packed tar, counted as they come, so that no bomb goes off in a header either."""

    def __init__(self, raw: IO[bytes], kind: str, size: int, limits: Limits) -> None:
        openers = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
        self._inner: IO[bytes] = openers[kind](raw) if kind in openers else raw  # type: ignore[operator]
        self._left, self._ratio = max(limits.small, limits.ratio * size), limits.ratio

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most a chunk. Raises ReadError when they are broken or more than the packed ones allow."""
        try:
            chunk = self._inner.read(min(size, CHUNK) if size >= 0 else CHUNK)
        except OSError as error:
            raise tarfile.ReadError(str(error)) from error
        self._left -= len(chunk)
        if self._left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {self._ratio} bytes for each packed byte")
        return chunk


def _tar_members(path: Path, limits: Limits, progress: Progress, *, kind: str = "tar") -> Iterator[Member]:
    size = path.stat().st_size
    with path.open("rb") as raw:
        stream = _Unpacked(raw, kind, size, limits)
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive:
            while info := archive.next():
                archive.members.clear()  # type: ignore[attr-defined]  # else a million headers stay: a gigabyte
                refusal = KINDS.get(info.type, "" if info.isreg() or info.isdir() else "of an unknown kind")
                refusal = "a sparse file" if info.issparse() else refusal
                why = f"it is {refusal}; only files and folders are unpacked" if refusal else ""
                yield Member(info.name, info.isdir(), info.size, partial(archive.extractfile, info), why)
                progress(raw.tell(), size, path.name)
        while stream.read():  # to the end, where the checksum of the packed bytes stands
            pass


READERS: dict[str, Callable[[Path, Limits, Progress], Iterator[Member]]] = {
    "zip": _zip_members,
    "tar": _tar_members,
    **{kind: partial(_tar_members, kind=kind) for kind in ("gz", "bz2", "xz")},
}
