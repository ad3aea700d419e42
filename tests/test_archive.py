"""Archives: nothing lands outside the folder, nothing half-done stays, every fault is named and has a clean twin."""

import contextlib
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import tellapart
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import make_folder

from tellapart.data import archive
from tellapart.data.archive import unpack
from tellapart.data.members import Limits
from tellapart.data.sources import open_source
from tellapart.errors import DataError, StorageError, TellapartError, UsageError

SMALL = Limits(members=20, total=3_000_000, ratio=50, small=100_000)
LINK, FILE = stat.S_IFLNK | 0o777, stat.S_IFREG | 0o644


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    """The disk of the machine need not be flushed for a test."""
    monkeypatch.setattr(os, "sync", lambda: None, raising=False)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with a canary beside which things are unpacked; that nothing else appears there is checked."""
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary/alive").write_text("alive")
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= {"canary", "out", "in"}, "something stayed"
    assert [(path.name, path.read_text()) for path in (tmp_path / "canary").iterdir()] == [("alive", "alive")]


def a_zip(path: Path, *members: tuple, **options) -> Path:
    """Members are (name, content) or (name, content, unix mode); the name is written as it stands."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as made:
        for name, content, *mode in members:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED
            info.external_attr = (mode[0] if mode else 0) << 16
            made.writestr(info, content)
    return path


def a_tar(path: Path, *members: tuple, mode: str = "w:gz") -> Path:
    """Members are (name, content) or (name, '', type, link name)."""
    with tarfile.open(path, mode) as made:  # type: ignore[call-overload]
        for name, content, *kind in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if kind:
                info.type, info.linkname = kind
            made.addfile(info, io.BytesIO(content))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(
    made: Path, folder: Path, message: str, *, kind: type[Exception] = DataError, limits: Limits = SMALL
) -> None:
    with pytest.raises(kind, match=message):
        unpack(made, folder, limits=limits)
    assert not folder.exists()


CLEAN = (("a/1.jpg", b"one"), ("a/ü 2.jpg", bytes(range(256)) * 300), ("b/.hidden", b""), ("b/deep/er/3.jpg", bytes(9)))


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:xz", "w:bz2"])
def test_whole_archives_come_out_as_they_went_in(place, kind):
    made = a_zip(place / "in", *CLEAN) if kind == "zip" else a_tar(place / "in", *CLEAN, mode=kind)
    seen: list[tuple[int, int | None, str]] = []
    assert unpack(made, place / "out", limits=SMALL, progress=lambda *values: seen.append(values)) == 4
    assert tree(place / "out") == dict(CLEAN)
    assert seen[-1][0] <= (seen[-1][1] or 0)
    assert seen[-1][2] == "in"


def test_what_programs_write_is_read(place):
    """Folders of their own, a leading ./, a folder twice; and names in UTF-8 without the flag, as macOS writes them."""
    folder = ("./a", b"", tarfile.DIRTYPE, "")
    made = a_tar(place / "in", (".", b"", tarfile.DIRTYPE, ""), folder, ("./a/1", b"1"), folder, mode="w")
    unpack(made, place / "out")
    assert tree(place / "out") == {"a/1": b"1"}
    shutil.rmtree(place / "out")
    raw = a_zip(place / "in", ("é/", b""), ("é/1", b"1")).read_bytes()
    assert raw.count(b"\x14\0\x00\x08") == 4  # version 20 and the flag, in both headers of both members
    (place / "in").write_bytes(raw.replace(b"\x14\0\x00\x08", b"\x14\0\0\0"))
    (place / "out").mkdir()
    unpack(place / "in", place / "out")
    assert tree(place / "out") == {"é/1": b"1"}
    shutil.rmtree(place / "out")


def test_sizes_that_stand_behind_the_bytes_and_sizes_of_64_bits(place):
    """As programs write that pack into a pipe, where the header comes before the size is known."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as made, made.open("a/1", "w", force_zip64=True) as file:
        file.write(b"one")
    (place / "in").write_bytes(pipe.getvalue())
    unpack(place / "in", place / "out")
    assert tree(place / "out") == {"a/1": b"one"}


NAMES = {
    "../x": "its path leads upwards",
    "a/../../x": "its path leads upwards",
    "/x": "its path is absolute",
    "//server/x": "its path is absolute",
    "C:x": "its path begins with a drive letter",
    "\\\\server\\x": "its name holds a backslash",
    "..\\x": "its name holds a backslash",
    "a//x": "its path has an empty step",
    "a/./x": "its path has an empty step",
    "a" * 256: "its name is longer than 255 bytes",
    "a/" * 65 + "x": "its path has more than 64 steps",
}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:12])
@pytest.mark.parametrize("make", [a_zip, a_tar])
def test_names_that_lead_elsewhere(place, make: Callable[..., Path], name):
    made = make(place / "in", ("a/1.jpg", b"one"), (name, b"planted"), ("a/2.jpg", b"two"))
    refused(made, place / "out", rf"in is refused at its member '.*': {NAMES[name]}\.")


def test_a_name_with_a_nul_or_without_a_letter(place):
    refused(a_zip(place / "in", ("a.jpg\0.exe", b"x")), place / "out", "its name holds a NUL")
    refused(a_zip(place / "in", ("", b"x")), place / "out", "at its member '': it has no name")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("a/1.jpg", "a/1.jpg", "it is there twice"),
        ("a/1.jpg", "A/2.jpg", "'a/' is there too, and on many systems the two are one"),
        ("a/x.jpg", "a/X.JPG", "'a/x.jpg' is there too"),
        ("é.jpg", "e\u0301.jpg", "'é.jpg' is there too"),
        ("a", "a/1.jpg", "'a' is there too"),
        ("a/1.jpg", "a", "'a/' is there too"),
    ],
)
@pytest.mark.parametrize("make", [a_zip, a_tar])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_collide(place, make: Callable[..., Path], first, second, said):
    refused(make(place / "in", (first, b"1"), (second, b"2")), place / "out", said)
    unpack(make(place / "in", (first, b"1"), ("c/" + second, b"2")), place / "out")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "it is a link"),
        (tarfile.LNKTYPE, "it is a hard link"),
        (tarfile.CHRTYPE, "it is a device"),
        (tarfile.BLKTYPE, "it is a device"),
        (tarfile.FIFOTYPE, "it is a named pipe"),
        (tarfile.GNUTYPE_SPARSE, "it is a sparse file|whole archive"),
        (b"Q", "it is of an unknown kind"),
    ],
)
def test_only_files_and_folders_come_out_of_a_tar(place, kind, said):
    made = a_tar(place / "in", ("a", b"", kind, "../canary/alive"), ("a/b", b"planted"))
    refused(made, place / "out", f"'a': {said}|{said}")


def test_only_files_and_folders_come_out_of_a_zip(place):
    refused(a_zip(place / "in", ("a", b"../canary", LINK)), place / "out", "a link, a device or something else")
    refused(a_zip(place / "in", ("a/", b"", FILE)), place / "out", "a link, a device or something else")
    refused(a_zip(place / "in", ("a/", b"content")), place / "out", "a folder with content")
    unpack(a_zip(place / "in", ("a", b"../canary", FILE)), place / "out")


def flagged(made: Path, at: int, value: int) -> Path:
    """The zip with one byte of its first member changed in the central directory and in the local header."""
    raw = bytearray(made.read_bytes())
    raw[raw.index(b"PK\1\2") + at + 2] = value
    raw[raw.index(b"PK\3\4") + at] = value
    made.write_bytes(raw)
    return made


def test_encrypted_and_oddly_packed_members(place):
    refused(flagged(a_zip(place / "in", ("a", b"1")), 6, 1), place / "out", "'a': it is encrypted")
    refused(flagged(a_zip(place / "in", ("a", b"1")), 8, 12), place / "out", "packed by method 12, and only stored")


def test_overlapping_members_of_a_zip(place):
    """Two entries of the central directory that point at the same bytes."""
    raw = a_zip(place / "in", ("a", b"1" * 500), ("b", b"2" * 500)).read_bytes()
    start, second = raw.index(b"PK\1\2"), raw.rindex(b"PK\1\2")
    forged = bytearray(raw)
    forged[second + 42 : second + 46] = raw[start + 42 : start + 46]
    (place / "in").write_bytes(forged)
    refused(place / "in", place / "out", "it lies over another member")


def test_bombs_are_stopped_by_numbers(place):
    zeros = ("a/0.bmp", bytes(2_000_000))
    refused(a_zip(place / "in", zeros), place / "out", "unpacks to 2,000,000 bytes, more than 50 for each packed byte")
    refused(a_tar(place / "in", zeros), place / "out", "unpacks to more than 50 bytes for each packed byte")
    noise = [(f"a/{n}", os.urandom(1_100_000)) for n in range(3)]
    refused(a_tar(place / "in", *noise), place / "out", "'a/2': with it the archive would hold more than 3,000,0")
    many = [(f"{n}", b"") for n in range(21)]
    refused(a_zip(place / "in", *many), place / "out", "'20': it is beyond the 20 members")
    unpack(a_zip(place / "in", *noise[:2], *many[:17]), place / "out", limits=SMALL)
    shutil.rmtree(place / "out")
    unpack(a_tar(place / "in", zeros), place / "out")


def test_a_header_may_not_ask_for_much_memory(place):
    with tarfile.open(place / "in", "w", format=tarfile.PAX_FORMAT) as made:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"comment": "x" * 20_000}
        made.addfile(info)
    refused(place / "in", place / "out", "a header speaks of 20,0.. bytes")


def test_a_lying_size(place):
    for size in (2, 4):
        raw = a_zip(place / "in", ("a", b"123")).read_bytes()
        at = raw.index(b"PK\1\2") + 24
        (place / "in").write_bytes(raw[:at] + bytes([size]) + raw[at + 1 :])
        refused(place / "in", place / "out", "not a whole archive: ('a' does not hold the 4 bytes that|Bad CRC-32)")


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:xz", "w:bz2"])
def test_an_archive_cut_short_leaves_nothing(place, kind):
    made = a_zip(place / "in", *CLEAN) if kind == "zip" else a_tar(place / "in", *CLEAN, mode=kind)
    raw = made.read_bytes()
    ends = [1024, 1536, 512 * 3] if kind == "w" else [len(raw) // 2, len(raw) - 1, len(raw) - 9]
    for end in (*ends, 40):
        made.write_bytes(raw[:end])
        refused(made, place / "out", "is not a whole archive|is not an archive that can be read")


def test_a_damaged_tar_header_is_not_the_end(place):
    raw = bytearray(a_tar(place / "in", ("a", b"1"), ("b", b"2"), mode="w").read_bytes())
    raw[1024] ^= 1
    (place / "in").write_bytes(raw)
    refused(place / "in", place / "out", "not a whole archive: bad checksum where a member or the end was due")


def test_what_is_not_an_archive(place):
    (place / "in").write_bytes(b"Rar!\x1a\x07")
    refused(place / "in", place / "out", "begins with 52 61 72 21 1a 07")
    refused(place / "canary", place / "out", "canary cannot be read: Is a directory|Permission")


def test_a_folder_that_holds_something_is_left_alone(place):
    with pytest.raises(UsageError, match="canary is there and not empty"):
        unpack(a_zip(place / "in", ("a", b"1")), place / "canary")
    (place / "out").write_text("mine")
    with pytest.raises(UsageError, match="out is there and not empty"):
        unpack(place / "in", place / "out")


def test_a_full_disk_is_said_before_it_is_full(place, monkeypatch):
    monkeypatch.setattr(archive, "RESERVE", shutil.disk_usage(place).free - 10)
    made = a_zip(place / "in", ("a", b"1" * 50_000_000))
    refused(
        made,
        place / "out",
        r"out cannot be written: there is room for .* bytes, and the archive needs more",
        kind=StorageError,
        limits=Limits(),
    )


def test_a_place_that_cannot_be_written(place):
    (place / "out").write_text("a file")
    with pytest.raises(StorageError, match="out/x cannot be written"):
        unpack(a_zip(place / "in", ("a", b"1")), place / "out/x")


def test_ctrl_c_and_a_failed_check_leave_nothing(place):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def fail(at: Path) -> None:
        assert tree(at) == dict(CLEAN)
        raise DataError("no")

    made = a_zip(place / "in", *CLEAN)
    with pytest.raises(KeyboardInterrupt):
        unpack(made, place / "out", progress=stop)
    with pytest.raises(DataError, match="no"):
        unpack(made, place / "out", check=fail)
    assert not (place / "out").exists()


@pytest.mark.skipif(os.open not in os.supports_dir_fd, reason="folders are opened by path there")
def test_a_folder_swapped_for_a_link_while_unpacking(place):
    """Someone puts a link where a folder was: the next file does not follow it."""

    def swap(*_: object) -> None:
        (staging,) = place.glob(".out.*.part")
        shutil.rmtree(staging / "a")
        (staging / "a").symlink_to(place / "canary")

    with pytest.raises(StorageError, match="out cannot be written"):
        unpack(a_zip(place / "in", ("a/1", b"1"), ("a/2", b"2")), place / "out", progress=swap)


STEP = st.one_of(
    st.sampled_from(["a", "A", "b", "..", ".", "", "é", "e\u0301", "C:", "\\", "x.jpg", "\n"]), st.text(max_size=3)
)
NAME = st.lists(STEP, min_size=1, max_size=3).map("/".join)
KIND = st.sampled_from([tarfile.REGTYPE] * 6 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
LINKS = st.sampled_from(["../canary", "/", "a", ".."])
MEMBERS = st.lists(st.tuples(NAME, st.binary(max_size=4), KIND, LINKS), max_size=5)


def written(path: Path, members: list, packing: str) -> Path:
    if packing != "zip":
        plain = ((n.replace("\0", ""), c if k == tarfile.REGTYPE else b"", k, link) for n, c, k, link in members)
        return a_tar(path, *plain, mode=packing)
    return a_zip(path, *((n, c, LINK if k == tarfile.SYMTYPE else 0) for n, c, k, _ in members))


@given(
    MEMBERS, st.sampled_from(["zip", "w", "w:gz"]), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=2)
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_whatever_it_holds_nothing_leaves_the_folder(tmp_path_factory, members, packing, damage):
    place = tmp_path_factory.mktemp("any")
    (place / "canary").mkdir()
    raw = bytearray(written(place / "in", members, packing).read_bytes())
    for at, value in damage:
        raw[at % len(raw)] = value
    (place / "in").write_bytes(raw)
    try:
        unpack(place / "in", place / "out", limits=SMALL)
        there = {"canary", "in", "out"}
        said, kinds = "", {stat.S_IFMT(path.lstat().st_mode) for path in (place / "out").rglob("*")}
        assert kinds <= {stat.S_IFREG, stat.S_IFDIR}
    except TellapartError as error:
        there, said = {"canary", "in"}, str(error)
    assert {path.name for path in place.iterdir()} == there
    assert not any((place / "canary").iterdir())
    assert said.isprintable()
    shutil.rmtree(place)


def test_an_archive_of_ones_own(tmp_path):
    make_folder(tmp_path / "made/flowers", classes=("daisy", "rose"), per_class=3)
    shutil.make_archive(str(tmp_path / "flowers"), "zip", tmp_path / "made")
    with contextlib.chdir(tmp_path), pytest.raises(DataError) as caught:
        open_source("flowers.zip")
    assert caught.value.message == "flowers.zip is an archive, not a folder."
    assert "`tellapart data get --from flowers.zip --to flowers`" in caught.value.hint
    done = tellapart(tmp_path, "data", "get", "--from", "flowers.zip", "--to", "flowers")
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            "flowers.zip: 6 files unpacked into flowers.",
            "6 pictures of 2 classes: daisy 3, rose 3.",
            "Next: tellapart train flowers/flowers",
        ],
    )
    a_zip(tmp_path / "notes.zip", ("notes/read.me", b"words"))
    done = tellapart(tmp_path, "data", "get", "--from", "notes.zip", "--to", "notes")
    assert (done.code, "They are not class folders: " in done.out) == (0, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "needs the name of a data set, or an archive and a folder"),
        (("digits", "--to", "x"), 2, "needs the name of a data set, or an archive and a folder"),
        (("--from", "x.zip"), 2, "needs the name of a data set, or an archive and a folder"),
        (("--from", "x.zip", "--to", "y"), 2, "x.zip is not a file on this machine."),
    ],
)
def test_get_typed_wrong(tmp_path, words, code, said):
    done = tellapart(tmp_path, "data", "get", *words)
    assert (done.code, said in done.err) == (code, True), done.err
