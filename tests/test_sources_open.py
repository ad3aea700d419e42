"""`open_source`: a name or a path, with either kind of slash, and which of the two was taken is said."""

import os
from pathlib import Path

import pytest

from tellapart.data.sources import _path, open_source
from tellapart.errors import DataError, UsageError


def plant(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def test_windows_style_paths(tmp_path, monkeypatch):
    plant(tmp_path, "data/set/a/1.jpg", "data/set/b/1.jpg")
    monkeypatch.chdir(tmp_path)
    for spelled in (r"data\set", r".\data\set", r"data\\set", "data\\set\\", r"data/set", f"{tmp_path}\\data\\set"):
        assert open_source(spelled).keys[:] == ["a/1.jpg", "b/1.jpg"], spelled
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert len(open_source("~/data/set")) == len(open_source(r"~\data\set")) == 2


@pytest.mark.skipif(os.name == "nt", reason="a backslash cannot be part of a name there")
def test_a_backslash_in_a_name_is_respected(tmp_path, monkeypatch):
    plant(tmp_path, "a\\b/x/1.jpg")
    monkeypatch.chdir(tmp_path)
    assert _path("a\\b") == Path("a\\b")


def test_name_or_folder(tmp_path, monkeypatch):
    plant(tmp_path, "digits/a/1.jpg", "digits/b/1.jpg")
    monkeypatch.chdir(tmp_path)
    named, given = open_source("digits"), open_source("./digits")
    assert (len(named), named.said[-1]) == (
        1797,
        "'digits' is the named data set; the folder of that name is ./digits.",
    )
    assert (len(given), given.said[-1]) == (2, "'./digits' is the folder, not the named data set digits.")
    assert len(open_source(r".\digits")) == len(open_source("digits/")) == 2


def test_a_bare_folder_name_and_a_missing_one(tmp_path, monkeypatch):
    plant(tmp_path, "flowers/a/1.jpg", "flowers/b/1.jpg")
    monkeypatch.chdir(tmp_path)
    assert len(open_source("flowers")) == 2
    with pytest.raises(UsageError, match="Unknown data set 'flower', and no folder 'flower' exists here"):
        open_source("flower")
    with pytest.raises(DataError, match="There is no folder ~nobody-of-that-name/x"):
        open_source("~nobody-of-that-name/x")
    with pytest.raises(DataError, match=r"There is no folder flower\. Did you mean 'flowers'"):
        open_source("./flower")


def test_a_source_without_a_name_is_not_the_folder_one_stands_in(tmp_path, monkeypatch):
    plant(tmp_path, "flowers/a/1.jpg", "flowers/b/1.jpg")
    monkeypatch.chdir(tmp_path / "flowers")
    with pytest.raises(UsageError, match=r"The source has no name\. .*\. is this folder"):
        open_source("")
    assert len(open_source(".")) == 2


def test_a_root_beside_a_folder_is_refused(tmp_path):
    plant(tmp_path, "a/1.jpg", "b/1.jpg")
    with pytest.raises(UsageError, match="The root 'x' goes with a named data set"):
        open_source(str(tmp_path), root="x")
