"""Splits, overlays and groups over the life of a run: what left stays out, and no claim is false."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import tellapart, train
from pictures import make_folder
from test_split_and_seal import index_of
from test_split_file import rows_of, split, write_rows

from tellapart.data import identity, split_file
from tellapart.data.index import NO_PART
from tellapart.data.split import divided, torn
from tellapart.errors import DataError

QUICK = ("--epochs", "1", "--no-test")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    make_folder(tmp_path / "pets")
    assert tellapart(tmp_path, "split", "pets", "--out", "s.csv").code == 0
    return tmp_path


def decided(at: Path, decision: str) -> str:
    """The key of the first training picture, about which `o.csv` decides."""
    one = next(row for row in rows_of(at / "s.csv") if row["part"] == "train")
    (at / "o.csv").write_text(f"key,digest,decision\n{one['key']},{one['digest']},{decision}\n")
    return one["key"]


def test_a_picture_that_a_split_file_leaves_out_stays_out_of_its_run(pets):
    rows = rows_of(pets / "s.csv")
    rows[0]["part"] = "out"
    write_rows(pets / "s.csv", rows)
    done = train(pets, "r", "pets", "--split", "s.csv", *QUICK)
    own = rows_of(done.run("r").folder / "split.csv")
    assert [row["key"] for row in own if row["part"] == "out"] == [rows[0]["key"]]
    assert tellapart(pets, "test", "r").code == 0
    assert tellapart(pets, "split", "pets", "--split", "s.csv", "--out", "again.csv").code == 0
    assert sorted(row["part"] for row in rows_of(pets / "again.csv")) == sorted(row["part"] for row in own)


@pytest.mark.parametrize("words", [(), ("--split", "s.csv")])
def test_an_overlay_belongs_to_its_run_whatever_becomes_of_the_file(pets, words):
    key = decided(pets, "drop")
    run = train(pets, "r", "pets", "--overlay", "o.csv", *words, *QUICK).run("r")
    (pets / "o.csv").unlink()
    assert [row["part"] for row in rows_of(run.folder / "split.csv") if row["key"] == key] == ["out"]
    assert tellapart(pets, "test", "r").code == 0


def test_names_that_are_not_utf8_come_back_from_a_split_file(pets):
    source = next((pets / "pets" / "cat").iterdir())
    strange = Path(str(pets / "pets" / "cat" / "br\udcfe\r\nken.png"))
    try:
        source.rename(strange)
    except OSError:
        pytest.skip("no such names on this disk")
    assert tellapart(pets, "split", "pets", "--out", "h.csv").code == 0
    train(pets, "r", "pets", "--split", "h.csv", *QUICK)
    assert tellapart(pets, "test", "r").code == 0


def test_the_identity_of_a_split_does_not_rest_on_the_numbers_of_its_groups():
    index = replace(split(index_of((20, 20))), groups=np.arange(40) // 4)
    other = replace(index, groups=7 * (9 - np.arange(40) // 4))
    assert identity.split(index) == identity.split(other)
    assert identity.split(index) != identity.split(replace(index, groups=np.arange(40) // 5))
    assert identity.split(index) != identity.split(replace(index, groups=None))


def test_folds_leave_the_test_part_as_it_is_without_them():
    index = index_of((40, 30, 20))
    plain = split(index)
    for fold in range(4):
        assert ((split(index, folds=4, fold=fold).parts == 2) == (plain.parts == 2)).all()


def test_a_split_file_and_the_setting_deal_the_same_folds(pets):
    assert tellapart(pets, "split", "pets", "--folds", "3", "--out", "f.csv").code == 0
    fold = ("--set", "data.folds=3", "--set", "data.fold=1")
    by_file = train(pets, "file", "pets", "--split", "f.csv", *fold, *QUICK).run("file")
    by_setting = train(pets, "setting", "pets", *fold, *QUICK).run("setting")
    assert "Fold 1 of 0 to 2 is validation." in (by_setting.folder / "log.txt").read_text()
    parts = [{row["key"]: row["part"] for row in rows_of(run.folder / "split.csv")} for run in (by_file, by_setting)]
    assert parts[0] == parts[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--split", "f.csv", "--set", "data.folds=2"), "f.csv deals 3 folds, and data.folds is 2."),
        (("--split", "f.csv", "--set", "data.folds=9", "--set", "data.fold=7"), "deals 3 folds, and data.folds is 9."),
        (("--set", "data.fold=2"), "data.folds is 0 and data.fold is 2."),
    ],
)
def test_a_fold_that_is_not_dealt_is_refused(pets, words, message):
    assert tellapart(pets, "split", "pets", "--folds", "3", "--out", "f.csv").code == 0
    done = tellapart(pets, "train", "pets", *words)
    assert (done.code, message in done.err) == (2, True), done.err


def test_a_line_for_the_same_picture_twice_is_refused(pets):
    rows = rows_of(pets / "s.csv")
    write_rows(pets / "s.csv", [*rows, {**rows[0], "part": "test", "digest": ""}])
    with pytest.raises(DataError, match=r"line 38: cat/00.png stands there twice\."):
        split_file.read(pets / "s.csv", index_of((2, 2)))


def test_a_row_without_a_part_goes_where_its_group_is_and_torn_groups_are_said(tmp_path):
    index = replace(index_of((12, 12)), groups=np.tile(np.arange(6), 4))
    parts = np.tile(np.array([0, 0, 0, 0, 1, 2], np.uint8), 4)
    empty = parts.copy()
    empty[[4, 11]] = NO_PART
    placed = divided(replace(index, parts=empty), validation=0.2, test=0.2, seed=0)
    assert (placed.parts == parts).all()
    assert not len(torn(placed))
    moved = parts.copy()
    moved[5] = 0
    assert torn(replace(index, parts=moved)).tolist() == [5]


def test_a_run_says_that_its_groups_are_torn_only_when_they_are(pets):
    rows = [
        {"path": f"pets/{row['key']}", "label": row["class"], "patient": n % 6}
        for n, row in enumerate(rows_of(pets / "s.csv"))
    ]
    for name, parts in (("torn", [0, 1, 0, 2]), ("whole", [0, 0, 0, 0, 1, 2])):
        words = [{**row, "split": ("train", "val", "test")[parts[n % len(parts)]]} for n, row in enumerate(rows)]
        write_rows(pets / f"{name}.csv", words)
    said = "note: 3 groups with pictures in more than one part"
    assert said in train(pets, "torn", "torn.csv", *QUICK).err
    assert "more than one part" not in train(pets, "whole", "whole.csv", *QUICK).err


def test_a_part_from_elsewhere_may_lack_a_class_and_that_is_said(pets):
    make_folder(pets / "more", classes=("cat", "dog"), per_class=4, size=14)
    done = train(pets, "r", "pets", "--test-from", "more", "--epochs", "1")
    assert "The test part has no picture of fox." in done.err
    assert "– (no picture)" in done.out
    assert "nan" not in done.out


@pytest.mark.parametrize("words", [("--split", "s.csv"), ("--overlay", "o.csv")])
def test_flags_that_would_do_nothing_are_refused(pets, words):
    assert tellapart(pets, "check", "pets", "--overlay", "o.csv").code == 2
    done = tellapart(pets, "data", "show", "pets", *words)
    assert done.code == 2
    assert f"{words[0]} says nothing here" in done.err


def test_a_column_that_is_there_can_be_left_out(pets):
    rows = [{"path": f"pets/{row['key']}", "label": row["class"], "split": "odd"} for row in rows_of(pets / "s.csv")]
    write_rows(pets / "t.csv", rows)
    refused = tellapart(pets, "data", "show", "t.csv")
    assert 'leave the column out with --columns "split="' in refused.err
    assert "unplaced" in tellapart(pets, "data", "show", "t.csv", "--columns", "split=").out
    assert "not of the form a=b" in tellapart(pets, "data", "show", "pets", "--label-map", "cat=").err


@pytest.mark.parametrize("flag", ["--model", "--epochs", "--overlay", "--augment"])
def test_split_takes_no_flag_that_a_split_does_not_rest_on(pets, flag):
    assert f"There is no flag {flag}" in tellapart(pets, "split", "pets", flag, "x").err


def test_a_run_finds_its_pictures_from_any_folder(tmp_path):
    make_folder(tmp_path / "pets")
    made = train(tmp_path, "a", "pets", "--epochs", "1", "--batch-size", "8", "--no-test").run("a")
    (tmp_path / "elsewhere").mkdir()
    done = tellapart(tmp_path / "elsewhere", "test", "a", "--runs", str(made.folder.parent))
    assert done.code == 0, done.err


def test_classes_of_a_split_file_change_no_label_and_that_is_said(tmp_path):
    make_folder(tmp_path / "pets")
    assert tellapart(tmp_path, "split", "pets", "--out", "s.csv").code == 0
    same = tellapart(tmp_path, "data", "batch", "pets", "--split", "s.csv")
    text = (tmp_path / "s.csv").read_text()
    (tmp_path / "s.csv").write_text(text.replace(",cat,", ",dog,"))
    words = ("pets", "--split", "s.csv", "--epochs", "1", "--batch-size", "8")
    assert "12 pictures have another class there, which is not taken: --overlay" in train(tmp_path, "a", *words).err
    (tmp_path / "s.csv").write_text(text)
    assert "another class" not in train(tmp_path, "b", *words).err + same.err


def test_a_class_that_the_label_map_made_is_not_called_absent(tmp_path):
    make_folder(tmp_path / "pets")
    make_folder(tmp_path / "two", classes=("cat", "dog", "wolf"))
    done = tellapart(tmp_path, "data", "show", "pets", "--test-from", "two", "--label-map", "wolf=fox")
    assert "has no picture of" not in done.out
    done = tellapart(tmp_path, "data", "show", "pets", "--test-from", "two", "--label-map", "wolf=dog")
    assert "The test part has no picture of fox." in done.out
