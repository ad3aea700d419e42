"""The pixel cache: what it keeps is what would be decoded, a changed file is seen, and it stays within its bounds."""

import contextlib
import errno
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pictures import make_folder
from PIL import Image

from tellapart.data import cache, pictures
from tellapart.data.cache import Room, entries, key_of
from tellapart.data.pictures import first_pass, mean_and_std
from tellapart.data.sources import open_source
from tellapart.errors import DataError, StorageError
from tellapart.preprocess import Preprocess

TO = Preprocess(size=8, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "pixels", 10**9)


def passed(root: Path, room: Room | None, to: Preprocess = TO, *, skip: bool = False, memory: int = 10**9):
    return first_pass(open_source(str(root)), to, skip_bad=skip, memory=memory, room=room, threads=2)


def all_of(made) -> np.ndarray:
    return made.pixels.gather(np.arange(len(made.index)))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every picture that is decoded."""
    calls: list[int] = []
    inner = pictures.decoded
    monkeypatch.setattr(pictures, "decoded", lambda raw: calls.append(1) or inner(raw))
    return calls


def test_a_second_pass_decodes_nothing_and_gives_the_same(class_folder, room, decoded):
    plain = passed(class_folder, None)
    first = passed(class_folder, room)
    decoded.clear()
    again = passed(class_folder, room)
    assert not decoded
    for made in (first, again):
        assert np.array_equal(all_of(made), all_of(plain))
        assert (made.index.digests == plain.index.digests).all()


def test_without_room_or_for_pixels_in_memory_nothing_is_written(class_folder, room):
    passed(class_folder, None)
    first_pass(open_source("digits"), TO, skip_bad=False, memory=10**9, room=room)
    assert not room.folder.exists()


@pytest.mark.parametrize(
    "other",
    [Preprocess(size=9, channels=3), Preprocess(size=8, channels=1), Preprocess(size=8, channels=3, fit="pad"),
     Preprocess(size=8, channels=3, filter="bicubic"), Preprocess(size=8, channels=3, short=10)],
)  # fmt: skip
def test_other_squares_are_another_entry(class_folder, other):
    index = open_source(str(class_folder))
    assert key_of(index, TO) != key_of(index, other)


def test_mean_and_window_do_not_make_another_entry(class_folder):
    index = open_source(str(class_folder))
    short = Preprocess(size=8, channels=3, short=10)
    assert key_of(index, short) == key_of(index, Preprocess(size=10, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3))


def test_a_file_that_was_written_over_is_decoded_again_even_with_its_old_time_and_size(class_folder, room, decoded):
    victim = class_folder / "cat" / "flat.bmp"
    Image.new("RGB", (9, 9), (200, 0, 0)).save(victim)
    passed(class_folder, room)
    before = victim.stat()
    Image.new("RGB", (9, 9), (0, 200, 0)).save(victim)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert victim.stat().st_size == before.st_size
    decoded.clear()
    passed(class_folder, room)
    assert len(decoded) == len(open_source(str(class_folder)))


def test_broken_files_are_remembered_and_named_again(class_folder, room, decoded):
    victim = sorted(class_folder.rglob("*.png"))[3]
    victim.write_bytes(victim.read_bytes()[:60])
    first = passed(class_folder, room, skip=True)
    decoded.clear()
    again = passed(class_folder, room, skip=True)
    assert not decoded
    assert [one.key for one in again.index.ignored] == [one.key for one in first.index.ignored]
    assert len(again.index) == len(open_source(str(class_folder))) - 1
    assert np.array_equal(all_of(again), all_of(first))
    assert np.array_equal(all_of(again), all_of(passed(class_folder, None, skip=True)))
    with pytest.raises(DataError, match=victim.name):
        passed(class_folder, room)


@pytest.mark.parametrize("file", ["about.json", "squares.npy", "digests.npy"])
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_damaged_entry_is_as_if_it_were_not_there(class_folder, room, decoded, file, damage):
    plain = all_of(passed(class_folder, room)).copy()
    (entry,) = entries(room)
    path = entry["folder"] / file
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40] if damage == "cut" else b'{"bad": 3}')
    decoded.clear()
    again = passed(class_folder, room)
    assert np.array_equal(all_of(again), plain)
    assert decoded
    assert again.index.said[-1] == f"The pixel cache in {entry['folder']} is damaged: the pictures are decoded again."
    decoded.clear()
    assert "damaged" not in str(passed(class_folder, room).index.said)  # it was made anew
    assert not decoded


@pytest.mark.parametrize("file", ["squares.npy", "digests.npy", "sums.npy", "about.json"])
def test_one_byte_that_changed_on_the_disk_is_seen_wherever_it_is(class_folder, room, decoded, file):
    first = passed(class_folder, room)
    plain, digests = all_of(first).copy(), np.array(first.index.digests)
    (entry,) = entries(room)
    path = entry["folder"] / file
    whole, before = path.read_bytes(), path.stat()
    at = {"about.json": whole.find(b'"slow": 0') + 8}.get(file, len(whole) - 1)
    for place in (at, *range(0, 128, 5)) if file == "squares.npy" else (at,):
        rotten = bytearray(whole)
        rotten[place] ^= 1
        path.write_bytes(rotten)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        decoded.clear()
        made = passed(class_folder, room)
        assert np.array_equal(all_of(made), plain)
        assert np.array_equal(np.array(made.index.digests), digests)
        assert decoded or place < 128, "a byte of the header need not matter; all others do"
        assert bool(decoded) == ("is damaged" in str(made.index.said))


def test_a_block_is_summed_wherever_it_ends(monkeypatch):
    squares = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
    monkeypatch.setattr(cache, "BLOCK", 100)
    sums = cache._sums(cache.Entry(squares, np.zeros((10, 16), np.uint8)))
    raw = squares.tobytes()
    assert sums[:-1].tolist() == [zlib.crc32(raw[start : start + 100]) for start in range(0, 1920, 100)]


def test_the_oldest_entries_make_room_and_one_that_never_fits_is_not_made(tmp_path, monkeypatch):
    needed = 36 * 8 * 8 * 3 + 16 * 36
    room = Room(tmp_path / "pixels", 2 * needed)
    roots = [make_folder(tmp_path / name) for name in "abc"]
    for age, root in enumerate(roots[:2]):
        passed(root, room)
        newest = max(entries(room), key=lambda e: e["used"])
        os.utime(newest["folder"] / "about.json", (1000 + age, 1000 + age))
    passed(roots[0], room)  # used again, so that b is the oldest
    passed(roots[2], room)
    assert {entry["source"] for entry in entries(room)} == {"a", "c"}
    made = passed(roots[1], Room(tmp_path / "small", needed - 1))
    assert not list((tmp_path / "small").glob("*"))
    assert len(all_of(made)) == 36


def test_a_folder_that_cannot_be_written_only_costs_the_cache(class_folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    made = passed(class_folder, Room(tmp_path / "file" / "pixels", 10**9))
    assert np.array_equal(all_of(made), all_of(passed(class_folder, None)))


def test_a_disk_without_the_blocks_costs_the_cache_and_not_the_process(class_folder, room, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    made = passed(class_folder, room)
    assert np.array_equal(all_of(made), all_of(passed(class_folder, None)))
    assert not list(room.folder.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no blocks")
def test_the_blocks_of_an_entry_are_taken_before_it_is_written(tmp_path):
    made = cache.Filling(Room(tmp_path, 10**9), "abc", (1000, 8, 8, 3))
    with made.file:
        assert (made.staging / "squares.npy").stat().st_blocks * 512 >= 1000 * 8 * 8 * 3


def test_a_disk_that_fails_under_a_square_is_a_sentence_and_leaves_nothing(class_folder, room, monkeypatch):
    @contextlib.contextmanager
    def failing() -> Iterator[None]:
        yield
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(cache, "Lock", failing)
    with pytest.raises(StorageError, match=r"cannot be written: Input/output error\. .*machine\.cache=0"):
        passed(class_folder, room)
    assert not list(room.folder.iterdir())


def test_two_passes_at_once_make_one_entry_and_no_litter(class_folder, room):
    found: list = []
    threads = [threading.Thread(target=lambda: found.append(all_of(passed(class_folder, room)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, found[0]) for one in found)
    assert len(found) == 4
    assert [path.name for path in room.folder.iterdir()] == [entries(room)[0]["folder"].name]


def test_a_pass_that_is_stopped_leaves_nothing_and_old_litter_goes(class_folder, room):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    litter = room.folder / ".abc.12345678"
    litter.mkdir(parents=True)
    os.utime(litter, (0, 0))
    with pytest.raises(KeyboardInterrupt):
        first_pass(open_source(str(class_folder)), TO, skip_bad=False, memory=10**9, room=room, progress=stop)
    assert not list(room.folder.iterdir())


def test_a_cache_removed_while_it_is_made_is_a_sentence(class_folder, room, monkeypatch):
    monkeypatch.setattr(cache, "_opened", lambda *_: None)
    with pytest.raises(Exception, match=r"was removed while it was written\. .*machine\.cache=0"):
        passed(class_folder, room)


def test_statistics_are_of_the_same_pixels_wherever_they_lie(class_folder, room):
    made, rows = passed(class_folder, room), np.array([0, 5, 9])
    plain = all_of(made)[rows] / 255
    mean, std = mean_and_std(made.pixels, rows, 3)
    np.testing.assert_allclose(mean, plain.mean(axis=(0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(std, plain.std(axis=(0, 1, 2)), atol=1e-6)


def test_a_picture_of_other_bytes_is_another_stamp(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    root = make_folder(tmp_path / "pets")
    index = open_source(str(root))
    stamps = index.store.stamps(np.arange(len(index)))
    assert stamps is not None
    assert stamps.shape == (len(index), 3)
    first = root / index.keys[0]
    first.unlink()
    gone = index.store.stamps(np.arange(2))
    assert gone is not None
    assert gone[0].tolist() == [-1, -1, -1]
    assert gone[1].tolist() == stamps[1].tolist()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "The file is empty"), (b"no picture", "not a picture"), (None, "its pixels are others")],
)
def test_a_streamed_file_that_changes_in_mid_run_is_named(class_folder, content, reason):
    made = passed(class_folder, None, memory=0)
    assert all_of(made).shape == (36, 8, 8, 3)
    victim = class_folder / "dog" / "03.png"
    if content is None:
        Image.new("RGB", (12, 12), (9, 9, 200)).save(victim)
    else:
        victim.write_bytes(content)
    with pytest.raises(DataError, match=rf"dog/03\.png has changed since it was first read: .*{reason}"):
        all_of(made)


def test_jpegs_that_only_pillow_reads_are_counted_also_from_the_cache(class_folder, room):
    pytest.importorskip("simplejpeg")
    plain = Image.fromarray(np.full((12, 12, 3), (9, 90, 200), np.uint8))
    plain.save(class_folder / "cat" / "plain.jpg")
    assert not any("Pillow" in line for line in passed(class_folder, room).index.said)
    plain.convert("CMYK").save(class_folder / "cat" / "print.jpg")
    for _ in range(2):
        assert "1 JPEGs were left to Pillow, which takes longer" in passed(class_folder, room).index.said[-1]
