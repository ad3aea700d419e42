"""Listings of large folders: taken again while nothing changed, made anew after any change, never trusted damaged."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from commands import tellapart
from pictures import make_folder

from tellapart.data import kept, saved
from tellapart.data.cache import default_room
from tellapart.data.index import Index
from tellapart.data.kept import LISTINGS, kept_files
from tellapart.data.pictures import first_pass
from tellapart.data.sources import open_source
from tellapart.data.sources.folder import FileStore, folder
from tellapart.preprocess import Preprocess

TO = Preprocess(size=8, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
AGAIN = "is from before: no folder has changed since."


@pytest.fixture
def large(tmp_path: Path, monkeypatch) -> Path:
    """A folder that counts as large, unchanged for a minute, with an odd name and a file that is not read."""
    monkeypatch.setattr(saved, "LEAST", 5)
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "set"
    for path in (
        "train/a/1.jpg",
        "train/a/deep/10.jpg",
        "train/b/2.jpg",
        "train/b/words.txt",
        "val/a/1.jpg",
        "val/b/1.jpg",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / "train/b" / os.fsdecode(b"\xff\n.jpg")).write_text("odd")
    aged(root)
    return root


def aged(root: Path) -> None:
    """Make every folder one that was last changed a minute ago."""
    for path in [root, *root.rglob("*")]:
        if path.is_dir():
            os.utime(path, (time.time() - 60, time.time() - 60))


def same(one: Index, other: Index) -> bool:
    columns = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("labels", "parts"))
    names = (one.name, one.classes, one.ignored) == (other.name, other.classes, other.ignored)
    return columns and names and one.keys[:] == other.keys[:]


def is_again(index: Index) -> bool:
    return bool(index.said) and index.said[-1].endswith(AGAIN)


def test_the_second_listing_is_the_first_one(large):
    first, second = folder(large), folder(large)
    assert (is_again(first), is_again(second)) == (False, True)
    assert second.said == (*first.said, f"The list of 6 pictures {AGAIN}")
    assert same(first, second)
    assert [second.store.read(row) for row in range(6)] == [first.store.read(row) for row in range(6)]
    rows = np.array([5, 0])
    assert second.take(rows).keys[:] == first.take(rows).keys[:]
    assert isinstance(second.store, FileStore)
    stats = second.store.stamps(np.arange(len(second)))
    files = [os.stat(os.path.join(large, key)) for key in first.keys]
    assert stats.tolist() == [[one.st_size, one.st_mtime_ns, one.st_ctime_ns] for one in files]
    (large / "val/b/1.jpg").unlink()
    assert second.store.stamps(np.arange(len(second)))[5].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "train/a/3.jpg").write_text("more"),
        lambda root: (root / "train/a/deep/10.jpg").unlink(),
        lambda root: (root / "train/a/1.jpg").rename(root / "train/a/9.jpg"),
        lambda root: (root / "val/a/1.jpg").rename(root / "val/b/9.jpg") and (root / "val/a/2.jpg").write_text("x"),
        lambda root: (root / "train/a/new").mkdir(),
        lambda root: shutil.rmtree(root / "train/a/deep"),
    ],
    ids=["added", "removed", "renamed", "moved", "new folder", "folder gone"],
)
def test_any_change_is_seen(large, change):
    folder(large)
    change(large)
    anew = folder(large)
    assert not is_again(anew)
    aged(large)
    assert not is_again(folder(large))
    assert is_again(folder(large))
    assert same(folder(large), anew)


def test_a_file_written_over_changes_no_listing(large):
    folder(large)
    (large / "train/a/1.jpg").write_text("other content")
    index = folder(large)
    assert is_again(index)
    assert index.store.read(0) == b"other content"


def test_nothing_is_kept_of_small_or_just_changed_folders(large, monkeypatch):
    os.utime(large / "val/b")
    assert not is_again(folder(large))
    assert not is_again(folder(large))
    aged(large)
    monkeypatch.setattr(saved, "LEAST", 7)
    folder(large)
    assert kept_files(LISTINGS) == []


def test_nothing_is_kept_where_there_are_links(large):
    (large / "train/a/link.jpg").symlink_to("1.jpg")
    aged(large)
    folder(large)
    assert kept_files(LISTINGS) == []


def test_a_damaged_listing_is_made_anew(large):
    first = folder(large)
    (file,) = kept_files(LISTINGS)
    raw = file.read_bytes()
    for damaged in (
        b"",
        b"x",
        raw[:-1],
        raw[: len(raw) // 2],
        raw[:-9] + b"\x01" + raw[-8:],
        raw[:9] + b"}" + raw[10:],
    ):
        file.write_bytes(damaged)
        assert not is_again(anew := folder(large))
        assert same(first, anew)
    assert is_again(folder(large))


def test_another_version_or_place_lists_anew(large, monkeypatch):
    folder(large)
    monkeypatch.setattr(kept, "__version__", "0")
    assert not is_again(folder(large))
    shutil.copytree(large, large.with_name("copy"))
    assert not is_again(folder(large.with_name("copy")))


def test_a_cache_that_cannot_be_written_stops_nothing(large, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert len(folder(large)) == len(folder(large)) == 6


def test_cache_counts_and_clears_them(large, tmp_path, monkeypatch):
    folder(large)
    make_folder(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(saved, "LEAST", 50)
    passed = first_pass(open_source("pets"), TO, skip_bad=False, memory=0, room=default_room(1))
    assert len(passed.index) == 36
    (tmp_path / "cache/mine.txt").write_text("mine")
    shown = tellapart(tmp_path, "cache", "show").out
    assert "  pets: 36 pictures, 0.0 MB, last used 20" in shown
    counts = json.loads(tellapart(tmp_path, "cache", "show", "--json").out)
    assert [counts[what]["files"] for what in ("data sets", "decoded pictures", "lists of large folders")] == [0, 1, 1]
    what = "0 fetched files, 1 sets of decoded pictures, 1 lists of large folders, 0 checks and sets of features"
    done = tellapart(tmp_path, "cache", "clear")
    assert (done.code, done.err.splitlines()[0]) == (2, f"error: This would remove {what}.")
    only = tellapart(tmp_path, "cache", "clear", "--yes", "--pixels")
    assert "0 fetched files, 1 sets of decoded pictures, 0 lists" in only.out
    done = tellapart(tmp_path, "cache", "clear", "--yes")
    assert (done.code, done.out) == (0, what.replace("1 sets", "0 sets") + " removed.\n")
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["mine.txt"]
