"""MNIST and its sisters: small files in the official layout are read, and every kind of damage is named."""

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tellapart.data.sources import open_source
from tellapart.data.sources.idx import FASHION_MNIST, KMNIST, MNIST, IdxSet, read
from tellapart.errors import DataError

COUNTS, SIDE = (7, 3), 4


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def contents(seed: int = 0) -> list[bytes]:
    draw = np.random.default_rng(seed)
    out = []
    for count in COUNTS:
        out.append(idx(draw.integers(0, 256, (count, SIDE, SIDE), np.uint8)))
        out.append(idx(draw.integers(0, 10, count).astype(np.uint8)))
    return out


def put(folder: Path, raws: list[bytes], *, packed: bool = True, what: IdxSet = MNIST) -> IdxSet:
    """Write the four files and return the set whose md5s are theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for file, raw in zip(what.files, raws, strict=True):
        stored = gzip.compress(raw, mtime=0) if packed else raw
        (folder / (file.name if packed else file.name.removesuffix(".gz"))).write_bytes(stored)
        files.append(replace(file, md5=hashlib.md5(stored).hexdigest()))
    return replace(what, files=tuple(files), counts=COUNTS, side=SIDE)


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_pictures_labels_and_parts(tmp_path, place, packed):
    raws = contents()
    index = read(tmp_path, put(tmp_path / place, raws, packed=packed))
    assert len(index) == 10
    assert index.parts.tolist() == [0] * 7 + [2] * 3
    assert index.labels.tolist() == [*raws[1][8:], *raws[3][8:]]
    assert index.labels.dtype == np.int64
    assert index.keys[:] == [f"train/{n}" for n in range(7)] + [f"test/{n}" for n in range(3)]
    pictures = [index.store.read(row) for row in range(10)]
    assert all(isinstance(picture, np.ndarray) and picture.shape == (4, 4, 1) for picture in pictures)
    assert b"".join(np.asarray(picture).tobytes() for picture in pictures) == raws[0][16:] + raws[2][16:]


def test_what_is_said_tells_verified_files_from_unpacked_ones(tmp_path):
    small = put(tmp_path / "a", contents(), what=FASHION_MNIST)
    assert read(tmp_path / "a", small).said == ("Fashion-MNIST: already there and verified (4 files).",)
    put(tmp_path / "b", contents(), packed=False)
    said = read(tmp_path / "b", small).said[0]
    assert said.endswith("already there (0 files verified by md5, 4 unpacked files checked by size and labels only).")


def test_the_set_s_own_folder_comes_before_the_root(tmp_path):
    put(tmp_path, contents(1))
    small = put(tmp_path / "mnist", contents(2))
    assert read(tmp_path, small).labels[:7].tolist() == [*contents(2)[1][8:]]


def test_wrong_md5(tmp_path):
    small = put(tmp_path, contents())
    (tmp_path / MNIST.files[1].name).write_bytes(gzip.compress(contents(5)[1], mtime=0))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz is not the official file of MNIST: its md5 is"):
        read(tmp_path, small)


def test_files_of_a_sister_set_are_named_as_such(tmp_path, monkeypatch):
    other = put(tmp_path, contents(), what=FASHION_MNIST)
    monkeypatch.setattr("tellapart.data.sources.idx.IDX_SETS", (MNIST, other, KMNIST))
    with pytest.raises(DataError, match="is a file of Fashion-MNIST, not of MNIST: both use the same file names"):
        read(tmp_path, MNIST)


def damaged(tmp_path: Path, which: int, stored: bytes) -> IdxSet:
    """A set whose file `which` is `stored`, with the md5 to go with it: so that what comes after the md5 is met."""
    small = put(tmp_path, contents())
    (tmp_path / small.files[which].name).write_bytes(stored)
    files = list(small.files)
    files[which] = replace(files[which], md5=hashlib.md5(stored).hexdigest())
    return replace(small, files=tuple(files))


def test_truncated_gzip(tmp_path):
    whole = gzip.compress(contents()[0], mtime=0)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is cut short: its content ends after"):
        read(tmp_path, damaged(tmp_path, 0, whole[:-30]))


def test_gzip_without_its_checksum(tmp_path):
    whole = gzip.compress(contents()[0], mtime=0)
    with pytest.raises(DataError, match="is cut short"):
        read(tmp_path, damaged(tmp_path, 0, whole[:-4]))


def test_gzip_with_a_flipped_bit(tmp_path):
    whole = bytearray(gzip.compress(contents()[0], mtime=0))
    whole[-6] ^= 1
    with pytest.raises(DataError, match="is not a whole gzip file"):
        read(tmp_path, damaged(tmp_path, 0, bytes(whole)))


def test_not_gzip_at_all(tmp_path):
    with pytest.raises(DataError, match="is not a whole gzip file"):
        read(tmp_path, damaged(tmp_path, 0, b"<html>not found</html>"))


def test_a_bomb_does_not_go_off(tmp_path):
    bomb = gzip.compress(contents()[0] + bytes(50_000_000), mtime=0)
    with pytest.raises(DataError, match=r"it is 129 bytes long instead of 128"):
        read(tmp_path, damaged(tmp_path, 0, bomb))


def test_wrong_magic(tmp_path):
    small = put(tmp_path, contents(), packed=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    (tmp_path / "train-images-idx3-ubyte").write_bytes(labels.read_bytes())
    with pytest.raises(DataError, match="is not an idx file of 3 axes: it begins with 00 00 08 01, not 00 00 08 03"):
        read(tmp_path, small)


@pytest.mark.parametrize(
    "change", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: raw[:10], lambda raw: b""]
)
def test_unpacked_file_of_the_wrong_length(tmp_path, change):
    small = put(tmp_path, contents(), packed=False)
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte (does not hold 3 x 4 x 4 bytes|is not an idx file)"):
        read(tmp_path, small)


def test_wrong_shape_is_given_with_what_was_received(tmp_path):
    put(tmp_path, contents(), packed=False)
    with pytest.raises(DataError, match=r"does not hold 60000 x 28 x 28 bytes: its header says 7 x 4 x 4 and it is"):
        open_source("mnist", root=str(tmp_path))


def test_label_out_of_range(tmp_path):
    small = put(tmp_path, contents(), packed=False)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(DataError, match="holds the label 10; MNIST has the labels 0 to 9"):
        read(tmp_path, small)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"KMNIST is not in .*none of train-images") as caught:
        open_source("kmnist", root=str(tmp_path))
    assert caught.value.hint.startswith("Fetch it with `tellapart data get kmnist`")
    small = put(tmp_path, contents())
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"MNIST is not whole: .* lacks t10k-labels-idx1-ubyte\.gz\."):
        read(tmp_path, small)


def test_official_tables():
    for what in (MNIST, FASHION_MNIST, KMNIST):
        assert len(what.classes) == 10
        assert len({file.md5 for file in what.files}) == 4
        assert all(len(bytes.fromhex(file.md5)) == 16 for file in what.files)
        assert (what.counts, what.side) == ((60_000, 10_000), 28)
    assert (FASHION_MNIST.classes[0], FASHION_MNIST.classes[9]) == ("tshirt", "boot")
