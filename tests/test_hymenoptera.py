"""Hymenoptera by name: unpacked from its archive, proved by what it holds, not fetched twice, trained on as it is."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from commands import tellapart, train
from pictures import draw
from PIL import Image

from tellapart.data import download
from tellapart.data.download import get
from tellapart.data.official import Official
from tellapart.data.sources import open_source
from tellapart.errors import AbsentError, DataError, UsageError

COUNTS = {("train", "ants"): 123, ("train", "bees"): 121, ("val", "ants"): 70, ("val", "bees"): 83}

SAID = "hymenoptera_data.zip: 398 files unpacked and verified: ants and bees, 244 to train on, 153 to validate with."


def jpeg(k: int, n: int) -> bytes:
    raw = io.BytesIO()
    Image.fromarray(draw(k, 2, (k, n), 8)).save(raw, "JPEG")
    return raw.getvalue()


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """An archive with as many tiny pictures in the same folders, and the GIF that strayed into them."""
    path = tmp_path_factory.mktemp("mirror") / "hymenoptera_data.zip"
    with zipfile.ZipFile(path, "w") as made:
        for number, ((part, name), count) in enumerate(COUNTS.items()):
            for n in range(count):
                made.writestr(f"hymenoptera_data/{part}/{name}/{n}.jpg", jpeg(number % 2, 1000 * number + n))
        made.writestr("hymenoptera_data/train/ants/imageNotFound.gif", b"GIF89a")
    return path


def without(packed: Path, path: Path, member: str) -> Path:
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if name != member:
                new.writestr(name, old.read(name))
    return path


def test_from_a_file_then_never_again(tmp_path, packed, monkeypatch):
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    done = tellapart(packed.parent, "data", "get", "hymenoptera", "--from", "./hymenoptera_data.zip")
    assert (done.code, done.out) == (0, f"{SAID}\n")
    monkeypatch.setattr(download, "fetch", None)  # whoever asks the network now fails
    assert tellapart(tmp_path, "data", "get", "hymenoptera").out == "hymenoptera: already downloaded and verified.\n"
    index = open_source("hymenoptera")
    assert (index.name, index.classes) == ("hymenoptera", ("ants", "bees"))
    assert [index.counts(part).tolist() for part in ("train", "validation", "test")] == [[123, 121], [70, 83], [0, 0]]
    assert [one.key for one in index.ignored] == ["train/ants/imageNotFound.gif"]
    assert np.array_equal(np.unique(index.parts), [0, 1])
    done = tellapart(tmp_path, "cache", "clear", "--yes")
    assert done.out.startswith("398 fetched files, ")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_from_its_address_the_archive_does_not_stay(tmp_path, packed, monkeypatch):
    here = Official(packed.name, "", (f"{packed.parent}/",))
    monkeypatch.setattr(download, "ARCHIVE", here)
    monkeypatch.setitem(download.FILES, "hymenoptera", (here,))
    assert get("hymenoptera", tmp_path / "root") == [SAID]
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["hymenoptera"]


def test_an_archive_put_there_by_hand_is_used_and_stays(tmp_path, packed):
    (tmp_path / packed.name).write_bytes(packed.read_bytes())
    with pytest.raises(UsageError, match="zip is there already"):
        get("hymenoptera", tmp_path, origin="http://127.0.0.1:9/")
    get("hymenoptera", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hymenoptera", packed.name]


@pytest.mark.parametrize("member", ["hymenoptera_data/train/bees/3.jpg", "hymenoptera_data/val/ants/0.jpg"])
def test_another_content_is_refused_and_leaves_nothing(tmp_path, packed, member):
    made = without(packed, tmp_path / "other.zip", member)
    with pytest.raises(DataError, match=r"not Hymeno.*: ants, bees have \[123, 12.\] pictures to train and \[.., 83\]"):
        get("hymenoptera", tmp_path / "root", origin=str(made))
    assert list((tmp_path / "root").iterdir()) == []
    get("hymenoptera", tmp_path / "root", origin=str(without(packed, tmp_path / "same.zip", "")))


def test_not_there_and_no_longer_whole(tmp_path, packed):
    with pytest.raises(AbsentError, match="there is no hymenoptera_data/train"):
        open_source("hymenoptera", root=str(tmp_path))
    get("hymenoptera", tmp_path, origin=str(packed.parent))
    (tmp_path / "hymenoptera/hymenoptera_data/val/ants/0.jpg").unlink()
    with pytest.raises(DataError, match=r"\[69, 83\] to validate"):
        get("hymenoptera", tmp_path)


def test_it_is_trained_on_as_it_is(tmp_path, packed):
    get("hymenoptera", tmp_path, origin=str(packed))
    done = train(tmp_path, "r", "hymenoptera", "--root", ".", "--epochs", "1", "--model", "linear")
    assert "no sealed test" in done.out
