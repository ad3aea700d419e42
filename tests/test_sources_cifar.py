"""CIFAR: both versions are read to the same pictures, damage is named, and a pickle with code in it is not run."""

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tellapart.data.official import Official
from tellapart.data.sources.cifar import CIFAR10, CIFAR100, CIFARS, Cifar, read
from tellapart.data.sources.pickles import plain_arrays
from tellapart.errors import DataError

ROWS = 3


def small(what: Cifar) -> Cifar:
    return replace(what, rows=(ROWS,) * len(what.rows))


def batches(what: Cifar) -> list[tuple[np.ndarray, list[int]]]:
    draw = np.random.default_rng(0)
    return [
        (draw.integers(0, 256, (rows, 3072)).astype(np.uint8), draw.integers(0, len(what.classes), rows).tolist())
        for rows in what.rows
    ]


def binary(pixels: np.ndarray, labels: list[int], what: Cifar) -> bytes:
    coarse = b"\x07" * (what.label_bytes - 1)
    return b"".join(coarse + bytes([label]) + row.tobytes() for row, label in zip(pixels, labels, strict=True))


def binary_files(what: Cifar) -> dict[str, bytes]:
    return {name: binary(*batch, what) for name, batch in zip(what.binary_files, batches(what), strict=True)}


def python_files(what: Cifar, **more: object) -> dict[str, bytes]:
    return {
        file.name: pickle.dumps({"data": pixels, what.label_key: labels, **more}, protocol=2)
        for file, (pixels, labels) in zip(what.python_files, batches(what), strict=True)
    }


def with_md5s(what: Cifar, files: dict[str, bytes]) -> Cifar:
    return replace(
        what, python_files=tuple(Official(name, hashlib.md5(raw).hexdigest()) for name, raw in files.items())
    )


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)


def tar(path: Path, folder: str, files: dict[str, bytes], prefix: str = "") -> str:
    """A tar.gz of the files; returns its md5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in {"readme.html": b"hello", **files}.items():
            member = tarfile.TarInfo(f"{prefix}{folder}/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return hashlib.md5(path.read_bytes()).hexdigest()


def check(root: Path, what: Cifar) -> str:
    """Every picture, label and part is as made; returns what was said."""
    index, made = read(root, what), batches(what)
    assert index.classes == what.classes
    assert index.labels.tolist() == [label for _, labels in made for label in labels]
    assert index.parts.tolist() == [0] * (ROWS * (len(made) - 1)) + [2] * ROWS
    assert (index.keys[0], index.keys[-1]) == ("train/0", f"test/{ROWS - 1}")
    flat = np.concatenate([pixels for pixels, _ in made])
    for row in range(len(index)):
        picture = index.store.read(row)
        assert isinstance(picture, np.ndarray)
        assert picture.shape == (32, 32, 3)
        np.testing.assert_array_equal(picture[:, :, 1].ravel(), flat[row, 1024:2048])
        assert picture[5, 9].tolist() == [flat[row, channel * 1024 + 5 * 32 + 9] for channel in range(3)]
    return index.said[0]


@pytest.mark.parametrize("what", [small(what) for what in CIFARS], ids=lambda what: what.name)
@pytest.mark.parametrize("place", ["", "own"])
def test_every_version_gives_the_same_pictures(tmp_path, what, place):
    home = what.name if place else ""
    put(tmp_path / "a" / home / what.binary_folder, binary_files(what))
    assert "unpacked files, checked by size and labels only" in check(tmp_path / "a", what)
    md5 = tar(tmp_path / "b" / home / what.archive.name, what.binary_folder, binary_files(what))
    packed = replace(what, archive=replace(what.archive, md5=md5))
    assert check(tmp_path / "b", packed) == f"{what.title}: already there and verified ({what.archive.name})."
    pickled = with_md5s(what, python_files(what))
    put(tmp_path / "c" / home / what.python_folder, python_files(what))
    assert "already there and verified" in check(tmp_path / "c", pickled)
    tar(tmp_path / "d" / home / what.python_archive, what.python_folder, python_files(what), prefix="./")
    assert what.python_archive in check(tmp_path / "d", pickled)


def test_archive_is_not_unpacked_to_disk(tmp_path):
    what = small(CIFAR10)
    md5 = tar(tmp_path / what.archive.name, what.binary_folder, binary_files(what))
    read(tmp_path, replace(what, archive=replace(what.archive, md5=md5)))
    assert [path.name for path in tmp_path.rglob("*")] == [what.archive.name]


def test_binary_version_is_preferred(tmp_path):
    what = small(CIFAR10)
    put(tmp_path / what.binary_folder, binary_files(what))
    put(tmp_path / what.python_folder, {"data_batch_1": b"junk"})
    assert "unpacked" in check(tmp_path, what)


class Mean:
    """Unpickling this would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_pickle_with_code_is_refused_and_not_run(tmp_path):
    target, what = tmp_path / "written", small(CIFAR10)
    files = python_files(what)
    files["data_batch_2"] = pickle.dumps({"data": Mean(target), "labels": []}, protocol=2)
    put(tmp_path / what.python_folder, files)
    with pytest.raises(DataError, match=r"data_batch_2 is a pickle that asks to run \S+; it was not run"):
        read(tmp_path, with_md5s(what, files))
    assert not target.exists()
    pickle.loads(files["data_batch_2"])
    assert target.exists(), "the pickle does nothing by itself, so the test above shows nothing"


@pytest.mark.parametrize(
    "raw",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
        b"\x80\x04\x8c\x05numpy\x94\x8c\x0edtype.__init__\x94\x93.",
    ],
)
def test_names_outside_the_table_are_refused(raw):
    with pytest.raises(DataError, match="asks to run"):
        plain_arrays(raw, where="batch")


def test_other_codecs_are_refused():
    with pytest.raises(DataError, match="codec 'rot13' is not expected"):
        plain_arrays(b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.", where="batch")


@pytest.mark.parametrize("raw", [b"", b"junk", b"\x80\x02", b"\x80\x02}q\x00(U\x04data"])
def test_broken_pickles_are_named(raw):
    with pytest.raises(DataError, match="batch is not a whole pickle"):
        plain_arrays(raw, where="batch")


def test_md5_is_proved_before_anything_is_unpickled(tmp_path):
    what = small(CIFAR10)
    files = python_files(what)
    asked = with_md5s(what, files)
    files["test_batch"] = b"cos\nsystem\n(S'true'\ntR."
    put(tmp_path / what.python_folder, files)
    with pytest.raises(DataError, match="test_batch is not the official file of CIFAR-10: its md5"):
        read(tmp_path, asked)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"data": [1], "labels": [1]},
        {"data": np.zeros((3, 3072)), "labels": [0, 0, 0]},
        {"data": np.zeros((3, 3072), np.uint8), "labels": [0, 0]},
        {"data": np.zeros((3, 3072), np.uint8), "labels": "abc"},
        {"data": np.zeros((3, 3072), np.uint8), "labels": [0, 0, 1 << 80]},
    ],
)
def test_pickle_of_other_content_is_refused(tmp_path, content):
    what = small(CIFAR10)
    files = {**python_files(what), "data_batch_1": pickle.dumps(content, protocol=2)}
    put(tmp_path / what.python_folder, files)
    with pytest.raises(DataError, match="data_batch_1 does not hold 3 pictures of 3,072 bytes with their labels"):
        read(tmp_path, with_md5s(what, files))


def test_wrong_size_label_and_archive(tmp_path):
    what = small(CIFAR100)
    put(tmp_path / what.binary_folder, {**binary_files(what), "test.bin": b"short"})
    with pytest.raises(DataError, match=r"test.bin is 5 bytes long; the official file of CIFAR-100 has 9,222"):
        read(tmp_path, what)
    raw = bytearray(binary_files(what)["test.bin"])
    raw[1] = 100
    put(tmp_path / what.binary_folder, {"test.bin": bytes(raw)})
    with pytest.raises(DataError, match=r"test.bin holds the label 100; CIFAR-100 has the labels 0 to 99"):
        read(tmp_path, what)
    (tmp_path / what.binary_folder / "train.bin").unlink()
    with pytest.raises(DataError, match=r"CIFAR-100 is not whole: .* lacks train\.bin"):
        read(tmp_path, what)


def test_archive_with_wrong_md5_cut_short_or_lacking_a_file(tmp_path):
    what = small(CIFAR10)
    path = tmp_path / what.archive.name
    files = binary_files(what)
    md5 = tar(path, what.binary_folder, files)
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz is not the official file of CIFAR-10"):
        read(tmp_path, what)
    path.write_bytes(path.read_bytes()[:-2000])
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=r"cannot be read as a tar\.gz archive"):
        read(tmp_path, replace(what, archive=replace(what.archive, md5=md5)))
    del files["test_batch.bin"]
    md5 = tar(path, what.binary_folder, files)
    with pytest.raises(DataError, match=r"lacks test_batch\.bin in cifar-10-batches-bin/"):
        read(tmp_path, replace(what, archive=replace(what.archive, md5=md5)))


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"CIFAR-10 is not in .*: none of cifar-10-batches-bin, cifar-10-binary"):
        read(tmp_path, CIFAR10)


def test_official_tables():
    assert " ".join(CIFAR10.classes) == "airplane automobile bird cat deer dog frog horse ship truck"
    assert len(CIFAR100.classes) == len(set(CIFAR100.classes)) == 100
    assert list(CIFAR100.classes) == sorted(CIFAR100.classes)
    assert CIFAR10.rows[0] * (1 + 3072) == 30_730_000
    assert sum(CIFAR10.rows) == sum(CIFAR100.rows) == 60_000
