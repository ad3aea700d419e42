"""Tar shards as sources: three ways of labelling, random access without unpacking, and every hostile archive."""

import contextlib
import gzip
import io
import json
import struct
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import make_folder

from tellapart.data.index import NO_PART, Index
from tellapart.data.loader import Loader
from tellapart.data.pictures import first_pass
from tellapart.data.sources import open_source
from tellapart.data.sources.folder import folder
from tellapart.data.sources.labels import Labels
from tellapart.data.sources.shards import shards
from tellapart.errors import DataError, StorageError
from tellapart.preprocess import Preprocess

Members = Mapping[str, str | bytes]


def tar(
    path: Path, members: Members, *, more: tuple[tarfile.TarInfo, ...] = (), form: int = tarfile.PAX_FORMAT
) -> Path:
    """A tar of these members, and then of headers without content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members.items():
            add(archive, name, content)
        for info in more:
            archive.addfile(info)
    return path


def add(archive: tarfile.TarFile, name: str, content: str | bytes) -> None:
    raw = content.encode() if isinstance(content, str) else content
    info = tarfile.TarInfo(name)
    info.size = len(raw)
    archive.addfile(info, io.BytesIO(raw))


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def refused(path: Path, message: str, hint: str = "", kind: type[Exception] = DataError) -> None:
    with pytest.raises(kind) as caught:
        shards(path)
    assert message in caught.value.message, caught.value.message  # type: ignore[attr-defined]
    assert hint in caught.value.hint  # type: ignore[attr-defined]
    assert str(caught.value).isprintable()


def named(index: Index) -> dict[str, str]:
    return {key: index.classes[label] for key, label in zip(index.keys, index.labels.tolist(), strict=True)}


CLS: Members = {"0.jpg": "A", "0.cls": "1", "sub/1.png": "BB", "sub/1.cls": " 10\n", "2.JPEG": "", "2.cls": "9"}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_class_numbers(tmp_path, form):
    index = shards(tar(tmp_path / "a.tar", CLS, form=form))
    assert index.classes == ("1", "9", "10")
    assert named(index) == {"a.tar/0.jpg": "1", "a.tar/sub/1.png": "10", "a.tar/2.JPEG": "9"}
    assert [index.store.read(row) for row in (2, 0, 1)] == [b"", b"A", b"BB"]
    assert (index.name, index.said, index.ignored) == ("a", ("1 tar shard: labels in .cls.",), ())
    assert (index.parts == NO_PART).all()


def test_names_from_classes_txt(tmp_path):
    path = tar(tmp_path / "a.tar", CLS)
    (tmp_path / "classes.txt").write_text("\n".join(f"class {n}" for n in range(11)))
    index = shards(path)
    assert index.classes == ("class 1", "class 9", "class 10")
    assert index.said[0] == "1 tar shard: labels in .cls, names from classes.txt."
    (tmp_path / "classes.txt").write_text("one\ntwo\n")
    refused(path, "a.tar/sub/1.png: '10' is none of the class numbers 0 to 1")
    refused(tar(path, {"0.jpg": "", "0.cls": "0" * 5000}), "is none of the class numbers 0 to 1")


def test_class_names_and_json(tmp_path):
    index = shards(tar(tmp_path / "a.tar", {"0.jpg": "", "0.cls": "cat", "1.jpg": "", "1.cls": "dog"}))
    assert index.classes == ("cat", "dog")
    both = {"0.jpg": "", "0.json": '{"id": 7, "label": 3}', "1.jpg": "", "1.json": '{"label": "x", "class": 1}'}
    index = shards(tar(tmp_path / "b.tar", both))
    assert (named(index), index.said[0]) == ({"b.tar/0.jpg": "3", "b.tar/1.jpg": "x"}, "1 tar shard: labels in .json.")


def test_folders_and_parts_inside_a_tar(tmp_path):
    index = shards(tar(tmp_path / "a.tar", {"./dog/1.v2.jpg": "1", "./dog/1.v3.jpg": "2", "cat/1.jpg": "3"}))
    assert named(index) == {"a.tar/dog/1.v2.jpg": "dog", "a.tar/dog/1.v3.jpg": "dog", "a.tar/cat/1.jpg": "cat"}
    inside = {"p/train/dog/1.jpg": "1", "p/val/dog/2.jpg": "2", "p/train/cat/3.jpg": "3", "p/val/cat/3.jpg": "3"}
    index = shards(tar(tmp_path / "b.tar", inside))
    assert index.parts.tolist() == [0, 1, 0, 1]
    affixed = {name.replace("train/", "training_set/").replace("val/", "val2/"): text for name, text in inside.items()}
    assert shards(tar(tmp_path / "d.tar", affixed)).parts.tolist() == [0, 1, 0, 1]
    captions = {"dog/1.jpg": "1", "dog/1.json": '{"text": "a dog"}', "cat/1.jpg": "2", "cat/1.txt": "a cat"}
    index = shards(tar(tmp_path / "c.tar", captions))
    assert index.said == ("1 tar shard: labels by folder.",)
    assert sorted((one.key, one.reason) for one in index.ignored) == [
        ("c.tar/cat/1.txt", ".txt is not read"),
        ("c.tar/dog/1.json", "not the label of a picture"),
    ]


def test_shards_beside_pictures_are_read_where_that_is_asked_for(tmp_path):
    tar(tmp_path / "set" / "a.tar", some(0))
    make_folder(tmp_path / "set")
    assert "a.tar" not in "".join(open_source(str(tmp_path / "set")).keys)
    assert list(open_source(str(tmp_path / "set"), labels=Labels("shards")).keys) == ["a.tar/0.jpg", "a.tar/1.jpg"]
    assert len(open_source(str(tmp_path / "set" / "a.tar"), labels=Labels("shards"))) == 2


def some(first: int) -> Members:
    return {name: text for n in (first, first + 1) for name, text in ((f"{n}.jpg", f"{n}"), (f"{n}.cls", str(n % 2)))}


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train-2.tar", "train-10.tar", "val-0.tar", "test-0.tar"), {"train-2": 0, "val-0": 1, "test-0": 2}),
        (("train/0.tar", "train/1.tar", "Valid/0.tar"), {"train/0": 0, "Valid/0": 1}),
        (("trainset/0.tar", "test_set/0.tar"), {"trainset/0": 0, "test_set/0": 2}),
        (("imagenet-train-0.tar", "imagenet-validation-0.tar"), {"imagenet-train-0": 0, "imagenet-validation-0": 1}),
        (("a.tar", "b.tar"), {"a": NO_PART, "b": NO_PART}),
        (("train-0.tar", "train-1.tar"), {"train-0": NO_PART, "train-1": NO_PART}),
    ],
)
def test_a_folder_of_shards_and_its_parts(tmp_path, names, parts):
    for n, name in enumerate(names):
        tar(tmp_path / "set" / name, some(10 * n))
    (tmp_path / "set" / "README.md").write_text("read me")
    (tmp_path / "set" / "more").mkdir()
    (tmp_path / "set" / "classes.txt").write_text("even\nodd\n")
    index = open_source(str(tmp_path / "set"))
    assert index.classes == ("even", "odd")
    for stem, part in parts.items():
        assert {int(p) for key, p in zip(index.keys, index.parts, strict=True) if key.startswith(f"{stem}.tar/")} == {
            part
        }
    for row, key in enumerate(index.keys):
        assert index.store.read(row).decode() == Path(key).stem  # type: ignore[union-attr]
    assert [(one.key, one.reason) for one in index.ignored] == [("README.md", "not a shard"), ("more/", "not a shard")]
    if names[0] == "train-2.tar":
        assert [key.split("/")[0] for key in index.keys[2:6]] == ["train-2.tar"] * 2 + ["train-10.tar"] * 2


def test_what_is_no_shard(tmp_path):
    refused(tmp_path / "none.tar", "cannot be read: No such file", "", StorageError)
    refused(tmp_path, "holds no .tar file", "or one shard")
    for name in ("a.tar.gz", "a.tgz", "a.tar.zst"):
        refused(tmp_path / name, f"{name} is compressed", "gunzip")
    (tmp_path / "train-0.tar.xz").write_text("")
    refused(tmp_path, "train-0.tar.xz is compressed", "Unpack")
    (tmp_path / "set").mkdir()
    tar(tmp_path / "set" / "train-0.tar", some(0))
    tar(tmp_path / "set" / "extra.tar", some(2))
    refused(tmp_path / "set", "extra.tar belongs to no part", "train, val or test")
    (tmp_path / "set" / "extra.tar").rename(tmp_path / "set" / "train-1.tar")
    tar(tmp_path / "set" / "train-2.tar", {"dog/1.jpg": ""})
    refused(tmp_path / "set", "train-0.tar has its labels in .cls, and train-2.tar by folder")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "holds no pictures"),
        ({"0.txt": "x"}, "holds no pictures"),
        ({"0.jpg": "", "1.jpg": "", "1.cls": "1"}, "1 of 2 pictures in a.tar have no label, such as '0.jpg'"),
        ({"0.jpg": "", "1.jpg": ""}, "2 of 2 pictures in a.tar have no label"),
        ({"0.jpg": "", "0.png": "", "0.cls": "1"}, "a.tar holds several pictures for one .cls"),
        ({"0.jpg": "", "0.cls": "", "1.jpg": "", "1.cls": "1"}, "a.tar/0.jpg: the label is empty"),
        ({"0.jpg": "", "0.cls": b"\xff", "1.jpg": "", "1.cls": "1"}, "a.tar/0.cls is not UTF-8"),
        ({"0.jpg": "", "0.cls": "a\x1b[2J", "1.jpg": "", "1.cls": "1"}, "holds a control character"),
        ({"0.jpg": "", "0.cls": "1" * (1 << 21)}, "a.tar/0.cls has 2,097,152 bytes"),
        ({"0.jpg": "", "0.json": "{"}, "a.tar/0.json is not JSON"),
        ({"0.jpg": "", "0.json": "[" * 100_000}, "a.tar/0.json is not JSON"),
        ({"0.jpg": "", "0.json": '{"label": [1]}'}, "a.tar/0.jpg: the label is a list"),
        ({"../0.jpg": ""}, "a member that points outside: '../0.jpg'"),
        ({"/etc/0.jpg": ""}, "a member that points outside"),
        ({"x/../../0.jpg": ""}, "a member that points outside"),
        ({"..\\0.jpg": ""}, "a member that points outside"),
        ({"C:\\0.jpg": ""}, "a member that points outside"),
    ],
)
def test_faults_are_named(tmp_path, members, message):
    refused(tar(tmp_path / "a.tar", members), message)


def test_two_members_of_one_name(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("0.jpg", "0.cls", "./0.jpg"):
            add(archive, name, "1")
    refused(tmp_path / "a.tar", "a.tar holds two members called '0.jpg'")


def test_only_regular_members_count(tmp_path):
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    more = [info(f"{n}.jpg", kind, "/etc/passwd") for n, kind in enumerate(kinds, 10)]
    path = tar(tmp_path / "a.tar", {**CLS, "7.cls": "1"}, more=(info("sub", tarfile.DIRTYPE), *more))
    index = shards(path)
    assert len(index) == 3
    assert [(one.key, one.reason) for one in index.ignored] == [
        *((f"a.tar/{n}.jpg", "a link, a device or a sparse file") for n in range(10, 15)),
        ("a.tar/7.cls", "not the label of a picture"),
    ]


def test_archives_that_are_cut_or_damaged(tmp_path):
    whole = tar(tmp_path / "whole.tar", CLS).read_bytes()
    bad = tmp_path / "bad.tar"
    ends = (0, 100, 512, 513, 1024, 1500, 3 * 512 + 7, 6 * 512, 11 * 512)
    for end in ends:
        bad.write_bytes(whole[:end])
        refused(bad, "bad.tar is")
    bad.write_bytes(whole + whole)
    refused(bad, "bad.tar is damaged or cut short after")
    bad.write_bytes(whole[:1024] + b"x" * 512 + whole[1536:])
    refused(bad, "bad.tar is damaged or cut short after 1,024 bytes")
    bad.write_bytes(b"no" + whole)
    refused(bad, "bad.tar is not a plain, whole tar archive")
    bad.write_bytes(gzip.compress(whole))
    refused(bad, "bad.tar is packed by gzip.", "Unpack it")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [-512, -1024, 1 << 40, 1 << 62])
def test_lying_sizes_end_in_an_error(tmp_path, size):
    """A negative size sent Python's own tarfile in circles (CVE-2025-8194)."""
    raw = bytearray(tar(tmp_path / "a.tar", CLS).read_bytes())
    raw[124:136] = (b"\xff" if size < 0 else b"\x80") + struct.pack(">3xq", size)
    raw[148:156] = b"        "
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    (tmp_path / "a.tar").write_bytes(raw)
    refused(tmp_path / "a.tar", "a.tar is ")


def test_changed_bytes_never_end_in_another_error(tmp_path):
    whole = tar(tmp_path / "a.tar", CLS).read_bytes()[: 14 * 512]
    chance = np.random.default_rng(0)
    for _ in range(300):
        raw = bytearray(whole)
        for at in chance.integers(0, len(raw), 2):
            raw[at] = chance.integers(0, 256)
        (tmp_path / "b.tar").write_bytes(raw)
        with contextlib.suppress(DataError):
            index = shards(tmp_path / "b.tar")
            assert [len(index.store.read(row)) for row in range(len(index))] == index.store.sizes.tolist()  # type: ignore[attr-defined]


def test_a_shard_that_shrinks_after_listing(tmp_path):
    path = tar(tmp_path / "a.tar", CLS)
    index = shards(path)
    path.write_bytes(path.read_bytes()[:512])
    with pytest.raises(StorageError, match="is shorter than when it was listed"):
        index.store.read(0)
    path.unlink()
    with pytest.raises(StorageError, match="cannot be read: No such file"):
        index.store.read(0)


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Index, Index]:
    """The same pictures in the same order as a folder and as three shards."""
    root = make_folder(tmp_path / "pets")
    plain = folder(root)
    for n, rows in enumerate(np.array_split(np.arange(len(plain)), 3)):
        tar(tmp_path / "set" / f"{n}.tar", {plain.keys[int(row)]: plain.store.read(int(row)) for row in rows})  # type: ignore[misc]
    return plain, shards(tmp_path / "set")


def batches(index: Index, rows: np.ndarray, **options) -> list[tuple]:
    pictures = first_pass(index, Preprocess(size=12, channels=3), skip_bad=False, memory=0)
    loader = Loader(pictures=pictures, rows=rows, batch_size=5, device=torch.device("cpu"), seed=7, **options)
    return [
        (batch.images.numpy().tobytes(), batch.labels.tolist(), batch.rows.tolist(), batch.chance.tolist())
        for epoch in (1, 2)
        for batch in loader.epoch(epoch)
    ]


def test_the_same_batches_from_shards_as_from_the_folder(twins):
    plain, packed = twins
    assert packed.classes == plain.classes
    rows = np.arange(len(plain))
    assert batches(packed, rows) == batches(plain, rows) == batches(packed, rows, workers=3)


def test_two_processes_meet_each_row_once(twins):
    _, packed = twins
    rows = np.arange(len(packed))
    halves = [batches(packed, rows[rank::2]) for rank in (0, 1)]
    for epoch in (slice(0, 4), slice(4, 8)):
        met = [row for half in halves for batch in half[epoch] for row in batch[2]]
        assert sorted(met) == rows.tolist()


def test_many_threads_read_one_shard(twins):
    plain, packed = twins
    rows = np.random.default_rng(0).integers(0, len(plain), 500).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(packed.store.read, rows)) == [plain.store.read(row) for row in rows]


def test_json_with_the_names_webdataset_uses(tmp_path):
    members = {}
    for n in range(4):
        members |= {f"{n:03d}.png": "p", f"{n:03d}.json": json.dumps({"cls": n})}
    assert shards(tar(tmp_path / "a.tar", members)).labels.tolist() == [0, 1, 2, 3]


def test_hidden_members_are_passed_over_without_a_word(tmp_path):
    hidden = {"._0.jpg": "x", "._0.cls": "x", "__MACOSX/0.jpg": "x", ".git/1.jpg": "x", "Thumbs.db": "x"}
    index = shards(tar(tmp_path / "a.tar", {**CLS, **hidden}))
    assert named(index) == named(shards(tar(tmp_path / "b" / "a.tar", CLS)))
    assert index.ignored == ()
