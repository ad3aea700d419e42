"""Parquet files as sources: paths or bytes, row groups read in any order and by several threads, and their faults."""

import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pictures import draw
from PIL import Image

from tellapart.data.decode import decode
from tellapart.data.index import NO_PART
from tellapart.data.pictures import first_pass
from tellapart.data.sources.table import table
from tellapart.errors import DataError, StorageError, UsageError
from tellapart.preprocess import Preprocess

pa = pytest.importorskip("pyarrow", reason="Parquet is read with pyarrow: pip install 'tellapart[parquet]'")
pq = pytest.importorskip("pyarrow.parquet")

N = 25
PIXELS = [draw(n % 2, 2, (n,), 8) for n in range(N)]


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write(path: Path, columns: dict, *, names: list[str] | None = None, group: int = 4) -> Path:
    """A Parquet file with row groups of four; `names`: what the numbers in `label` stand for, as Hugging Face notes."""
    made = pa.table(columns)
    if names is not None:
        note = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        made = made.replace_schema_metadata({"huggingface": json.dumps(note)})
    pq.write_table(made, path, row_group_size=group)
    return path


def with_bytes(path: Path, **more: list) -> Path:
    pictures = [{"bytes": png(pixels), "path": None} for pixels in PIXELS]
    columns = {"image": pictures, "label": [n % 2 for n in range(N)], **more}
    return write(path, columns, names=["zebra", "ant"])


def test_pictures_in_row_groups_as_hugging_face_writes_them(tmp_path):
    index = table(with_bytes(tmp_path / "cats.parquet"), {})
    assert index.classes == ("zebra", "ant")  # the order of the numbers is kept
    assert index.labels.tolist() == [n % 2 for n in range(N)]
    assert index.keys[7] == "cats.parquet/000007"
    assert (index.parts == NO_PART).all()
    assert index.said == (
        "cats.parquet: pictures from 'image', label from 'label' (guessed; --columns says otherwise).",
    )
    for row in [24, 0, 23, 1, *range(N)]:
        assert (decode(index.store.read(row)) == PIXELS[row]).all()


def test_many_threads_read_the_same_store(tmp_path):
    index = table(with_bytes(tmp_path / "cats.parquet"), {})
    rows = np.random.default_rng(0).integers(0, N, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(index.store.read, rows))
    assert found == [png(PIXELS[row]) for row in rows]
    made = first_pass(index, Preprocess(size=8, channels=3), skip_bad=False, memory=0, threads=4)
    assert (made.pixels.gather(np.array([20, 3])) == np.stack([PIXELS[20], PIXELS[3]])).all()


def test_a_plain_binary_column_parts_and_groups(tmp_path):
    columns = {
        "photo": [png(pixels) for pixels in PIXELS],
        "breed": pa.array(["b", "a"] * 12 + ["b"]).dictionary_encode(),
        "split": ["train", "val", "test", None, "train"] * 5,
        "patient": [n // 3 for n in range(N)],
    }
    index = table(write(tmp_path / "x.parquet", columns), {})
    assert (index.classes, index.labels.tolist()) == (("a", "b"), [1, 0] * 12 + [1])
    assert index.parts.tolist() == [0, 1, 2, NO_PART, 0] * 5
    assert index.groups is not None
    assert index.groups.tolist() == [n // 3 for n in range(N)]
    assert index.store.read(24) == columns["photo"][24]


def test_paths_in_a_parquet_file(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.png").write_text(str(n))
    path = write(tmp_path / "x.parquet", {"file": ["0.png", "1.png", "2.png"], "label": [1, 0, 1]}, names=["no", "yes"])
    index = table(path, {})
    assert (index.classes, index.labels.tolist(), index.keys[:]) == (
        ("no", "yes"),
        [1, 0, 1],
        ["0.png", "1.png", "2.png"],
    )
    write(path, {"file": ["0.png", "9.png"], "label": ["a", "b"]})
    with pytest.raises(DataError, match=r"1 of 2 pictures that x.parquet names are not there: row 2: '9.png'"):
        table(path, {})


def test_names_without_a_picture_are_said(tmp_path):
    index = table(write(tmp_path / "x.parquet", {"image": [b"a", b"b"], "label": [0, 2]}, names=["a", "b", "c"]), {})
    assert (index.classes, index.labels.tolist()) == (("a", "c"), [0, 1])
    assert index.said[1] == "1 of 3 class names have no picture: b."


@pytest.mark.parametrize(
    ("columns", "names", "message"),
    [
        ({"image": [b"a", b"b"], "label": [0, -1]}, ["a", "b"], r"x.parquet, row 2, column 'label': '-1' is none of"),
        ({"image": [b"a", b"b"], "label": [0, 2]}, ["a", "b"], "'2' is none of the class numbers 0 to 1"),
        ({"image": [b"a", b"b"], "label": ["a", None]}, None, "x.parquet, row 2, column 'label': the label is empty"),
        ({"image": [b"a", b"b"], "label": [0.0, 1.0]}, None, r"x.parquet, row 1 is float: '0.0'"),
        ({"image": [b"a", b"b"], "label": [[0], [1]]}, None, r"x.parquet, row 1, column 'label': the label is a list"),
        ({"image": [b"a"], "mask": [b"b"], "label": [0]}, None, "holds bytes in the columns 'image', 'mask'"),
        ({"image": [b"a"], "kind": [0]}, None, "can be told to be the label"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, None, "names no picture"),
    ],
)
def test_faults(tmp_path, columns, names, message):
    with pytest.raises(DataError, match=message):
        table(write(tmp_path / "x.parquet", columns, names=names), {})


def test_one_of_two_columns_of_bytes_is_chosen(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": [b"a", b"c"], "mask": [b"b", b"d"], "label": [0, 1]})
    index = table(path, {"path": "mask"})
    assert [index.store.read(row) for row in (0, 1)] == [b"b", b"d"]


def test_a_row_without_bytes_is_named_by_the_first_pass(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": [png(PIXELS[0]), None], "label": [0, 1]})
    with pytest.raises(DataError, match=r"x.parquet/000001: x.parquet, row 2 holds no bytes of a picture"):
        first_pass(table(path, {}), Preprocess(size=8, channels=3), skip_bad=False, memory=1 << 20)


def test_damage_is_an_error_of_ours(tmp_path):
    whole = with_bytes(tmp_path / "x.parquet").read_bytes()
    for raw in (b"", b"PAR1", whole[:-9], whole[:400], b"no parquet at all"):
        (tmp_path / "bad.parquet").write_bytes(raw)
        with pytest.raises(DataError, match=r"bad.parquet is (no whole Parquet file|damaged)"):
            table(tmp_path / "bad.parquet", {})
    with pytest.raises(StorageError, match="cannot be read: No such file"):
        table(tmp_path / "none.parquet", {})


def test_changed_bytes_never_end_in_another_error(tmp_path):
    whole = with_bytes(tmp_path / "x.parquet").read_bytes()
    chance = np.random.default_rng(1)
    for _ in range(150):
        raw = bytearray(whole)
        for at in chance.integers(0, len(raw), 3):
            raw[at] = chance.integers(0, 256)
        (tmp_path / "bad.parquet").write_bytes(raw)
        try:
            index = table(tmp_path / "bad.parquet", {})
            read = [index.store.read(row) for row in range(len(index))]
        except (DataError, StorageError):
            continue
        assert len(read) == len(index)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = with_bytes(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"x.parquet is a Parquet file.*tellapart\[parquet\]"):
        table(path, {})
