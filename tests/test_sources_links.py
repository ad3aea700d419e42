"""Links, pipes and odd names in a folder: nothing leads out of it, no folder is read twice, nothing is passed over."""

import os
import re
from pathlib import Path

import pytest

from tellapart.data.sources.folder import folder
from tellapart.errors import DataError, StorageError


def plant(root: Path, *paths: str) -> Path:
    """Make files (a name that ends in `/` is a folder), each holding its own path."""
    for path in paths:
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path)
    return root


def refused(root: Path, message: str, hint: str = "", kind: type[Exception] = DataError) -> None:
    with pytest.raises(kind) as caught:
        folder(root)
    assert re.search(message, caught.value.message), caught.value.message  # type: ignore[attr-defined]
    assert hint in caught.value.hint  # type: ignore[attr-defined]


def test_a_link_that_leaves_the_root(tmp_path):
    plant(tmp_path, "secret/1.jpg", "set/a/1.jpg", "set/b/1.jpg", "set-2/1.jpg")
    link = tmp_path / "set/b/out.jpg"
    link.symlink_to(tmp_path / "secret/1.jpg")
    refused(
        tmp_path / "set",
        r"^b/out\.jpg is a link that leaves .*/set: it leads to .*/secret/1\.jpg\.$",
        "Copy the pictures",
    )
    link.unlink()
    (tmp_path / "set/c").symlink_to(tmp_path / "set-2")
    refused(tmp_path / "set", r"^c is a link that leaves")


def test_links_inside_the_root(tmp_path):
    plant(tmp_path, "train/a/1.jpg", "train/b/1.jpg")
    (tmp_path / "train/a/2.jpg").symlink_to("1.jpg")
    (tmp_path / "train/a/3.jpg").symlink_to("nothing.jpg")
    index = folder(tmp_path)
    assert index.keys[:] == ["train/a/1.jpg", "train/a/2.jpg", "train/b/1.jpg"]
    assert [(entry.key, entry.reason) for entry in index.ignored] == [
        ("train/a/3.jpg", "a link to nothing, or not a regular file")
    ]


def test_one_folder_under_two_names(tmp_path):
    plant(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/b/1.jpg")
    (tmp_path / "val/a").symlink_to("../train/a")
    refused(tmp_path, "^val/a/ and train/a/ are the same folder: one is a link to the other.$", "would count twice")
    (tmp_path / "val/a").unlink()
    (tmp_path / "train/a/loop").symlink_to("..")
    refused(tmp_path / "train", "are the same folder")


def test_the_root_may_be_a_link(tmp_path):
    plant(tmp_path, "set/a/1.jpg", "set/b/1.jpg")
    (tmp_path / "here").symlink_to("set")
    assert len(folder(tmp_path / "here")) == 2


@pytest.mark.skipif(os.name == "nt", reason="pipes and byte names are of POSIX")
def test_pipes_and_names_that_are_not_utf8(tmp_path):
    plant(tmp_path, "a/1.jpg", "b/1.jpg")
    os.mkfifo(tmp_path / "a/pipe.jpg")
    try:
        (tmp_path / os.fsdecode(b"b/\xff.jpg")).write_text("odd")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    index = folder(tmp_path)
    assert [entry.key for entry in index.ignored] == ["a/pipe.jpg"]
    assert index.store.read(2) == b"odd"
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    refused(tmp_path, r"The name of the class folder \\udcff is not UTF-8")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read(tmp_path):
    plant(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "b").chmod(0)
    try:
        refused(tmp_path, "cannot be read: Permission denied", "permissions", kind=StorageError)
    finally:
        (tmp_path / "b").chmod(0o755)
