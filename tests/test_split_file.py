"""The split as a file, folds, and pictures that would be learned and judged at once."""

import csv
import re
import shlex
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import tellapart, train
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import make_folder
from test_split_and_seal import given_parts, index_of

from tellapart.data import identity, split_file
from tellapart.data.split import divided, folded, leaking
from tellapart.errors import DataError, UsageError


def split(index, **changes):
    return divided(index, **{"validation": 0.2, "test": 0.2, "seed": 0, **changes})


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


# --- folds ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(3, 60), min_size=2, max_size=5),
    folds=st.integers(2, 7),
    seed=st.integers(0, 9),
)
def test_folds_hold_every_open_picture_once_and_every_class_evenly(counts, folds, seed):
    index = split(index_of(tuple(counts)), seed=seed, test=0.1)
    dealt = folded(index, folds, seed)
    assert ((dealt == -1) == (index.parts == 2)).all()
    for label in range(len(counts)):
        in_fold = np.bincount(dealt[(dealt >= 0) & (index.labels == label)], minlength=folds)
        assert in_fold.max() - in_fold.min() <= 1


def test_equal_pictures_and_groups_are_in_one_fold():
    digests = np.random.default_rng(0).integers(0, 256, (120, 16), np.uint8)
    digests[60:80] = digests[:20]
    groups = np.arange(120) // 3
    index = replace(split(index_of((60, 60), digests=digests)), groups=groups)
    for one, other in zip(range(20), range(60, 80), strict=True):
        if 2 not in (index.parts[one], index.parts[other]):
            dealt = folded(index, 4, 0)
            assert dealt[one] == dealt[other]
    index = replace(index_of((60, 60)), groups=groups)
    dealt = folded(split(index), 4, 0)
    assert all(len(set(dealt[3 * g : 3 * g + 3])) == 1 for g in range(40))


def test_adding_pictures_moves_few_others_between_folds():
    many = split(index_of((200, 200)), test=0.0)
    fewer = many.take(np.setdiff1d(np.arange(400), [3, 250]))
    before, after = folded(fewer, 5, 0), folded(many, 5, 0)[np.setdiff1d(np.arange(400), [3, 250])]
    assert (before != after).mean() < 0.1


def test_each_fold_validates_once_and_the_test_stays():
    index = index_of((40, 40))
    made = [split(index, folds=4, fold=fold) for fold in range(4)]
    assert len({identity.test_part(one) for one in made}) == 1
    validated = np.concatenate([one.rows("validation") for one in made])
    assert sorted([*validated, *made[0].rows("test")]) == list(range(80))


# --- leaks ------------------------------------------------------------------------------------------------------------


def test_what_is_judged_is_not_learned_and_the_test_stays_whole():
    index = given_parts(20, 5, 5)
    assert index.digests is not None
    digests = index.digests.copy()
    val, test = index.rows("validation"), index.rows("test")
    train = index.rows("train")
    digests[train[0]], digests[train[1]], digests[val[0]] = digests[test[0]], digests[val[1]], digests[test[1]]
    assert leaking(replace(index, digests=digests)).tolist() == sorted([train[0], train[1], val[0]])
    assert not len(leaking(index))
    assert not len(leaking(replace(index, digests=None)))


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    root = make_folder(tmp_path / "pets", parts=("train", "val", "test"))
    shutil.copy(root / "test" / "cat" / "00.png", root / "train" / "cat" / "copy.png")
    shutil.copy(root / "val" / "dog" / "01.png", root / "train" / "dog" / "copy.png")
    return root


def test_training_leaves_copies_out_by_name_and_keeps_them_when_told(leaky, tmp_path):
    words = ("pets", "--epochs", "1", "--batch-size", "8")
    done = train(tmp_path, "a", *words)
    for name in ("cat", "dog"):
        why = "train: its pixels are those of a picture that is judged"
        assert f"left out: train/{name}/copy.png: {why}" in done.err
    assert done.run("a").status()["counts"] == {"train": 36, "validation": 36, "test": 36}
    kept = train(tmp_path, "b", *words, "--set", "data.leaks=keep")
    assert kept.run("b").status()["counts"]["train"] == 38
    assert "1 picture with equal pixels in train and test" in kept.err
    assert done.run("a").status()["test_part"] == kept.run("b").status()["test_part"]


def test_clean_data_lose_nothing(tmp_path):
    make_folder(tmp_path / "pets", parts=("train", "val", "test"))
    assert "left out" not in train(tmp_path, "a", "pets", "--epochs", "1", "--batch-size", "8").err


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(class_folder: Path, tmp_path: Path) -> Path:
    done = tellapart(tmp_path, "split", str(class_folder), "--out", "split.csv", "--folds", "3")
    assert "train with it: tellapart train" in done.err
    assert "fold 2" in done.out
    return tmp_path / "split.csv"


@pytest.mark.parametrize("folds", [(), ("--folds", "2")])
def test_the_command_that_a_split_ends_with_trains_on_its_pictures(class_folder: Path, tmp_path: Path, folds) -> None:
    words = ("--limit", "30", "--set", "data.exclude=fox", "--out", "my split.csv", *folds)
    done = tellapart(tmp_path, "split", str(class_folder), *words)
    command = done.err.splitlines()[-1].removeprefix("train with it: tellapart ")
    assert command.endswith(f"--exclude fox --limit 30 --split 'my split.csv'{' --folds 2' * bool(folds)}")
    more = ("--epochs", "1", "--batch-size", "4", "--model", "linear", "--run", "a")
    trained = tellapart(tmp_path, *shlex.split(command), *more)
    assert trained.code == 0, trained.err
    assert ("2 folds" in trained.out) == bool(folds)


def test_a_run_on_a_split_file_has_its_parts_and_resumes_without_the_file(class_folder, written, tmp_path):
    words = (str(class_folder), "--epochs", "2", "--batch-size", "8", "--split", str(written))
    done = train(tmp_path, "a", *words, "--no-test", "--set", "train.max_steps=2").run("a")
    assert {row["key"]: row["part"] for row in rows_of(written)} == {
        row["key"]: row["part"] for row in rows_of(done.folder / "split.csv")
    }
    written.unlink()
    assert tellapart(tmp_path, "test", "a").code == 0


def test_the_fold_named_validates(class_folder, written, tmp_path):
    words = ("--epochs", "1", "--batch-size", "8", "--split", str(written))
    fold = ("--set", "data.folds=3", "--set", "data.fold=1")
    run = train(tmp_path, "a", str(class_folder), *words, *fold).run("a")
    expected = {row["key"] for row in rows_of(written) if row["fold"] == "1"}
    assert {row["key"] for row in rows_of(run.folder / "split.csv") if row["part"] == "validation"} == expected


def test_the_split_of_a_run_can_be_given_to_another(leaky, tmp_path):
    words = (str(leaky), "--epochs", "1", "--batch-size", "8")
    first = train(tmp_path, "a", *words).run("a")
    again = train(tmp_path, "b", *words, "--split", str(first.folder / "split.csv"))
    assert again.run("b").status()["split"] == first.status()["split"]
    assert "left out: train/cat/copy.png: left out by split.csv" in again.err


def index_and_file(tmp_path: Path, **changes) -> tuple:
    index = split(index_of((10, 10)), **changes)
    path = tmp_path / "s.csv"
    path.write_text(split_file.text_of(index))
    return index, path


def test_a_split_reads_back_with_one_identity_with_and_without_groups(tmp_path):
    index, path = index_and_file(tmp_path)
    assert identity.split(split_file.read(path, index)) == identity.split(index)
    grouped = replace(index, groups=np.arange(20) // 2 + 5)
    path.write_text(split_file.text_of(grouped))
    once = split_file.read(path, index)
    path.write_text(split_file.text_of(once))
    assert identity.split(split_file.read(path, index)) == identity.split(once)
    assert once.groups is not None
    assert Counter(once.groups.tolist()) == Counter(dict.fromkeys(range(10), 2))


def test_renamed_pictures_are_found_by_their_pixels(tmp_path):
    index, path = index_and_file(tmp_path)
    renamed = replace(index, keys=type(index.keys).of(f"other/{n}" for n in range(20)))
    assert split_file.read(path, renamed).parts.tolist() == index.parts.tolist()


def test_rows_may_be_edited_emptied_and_put_out(tmp_path):
    index, path = index_and_file(tmp_path)
    rows = rows_of(path)
    rows[0]["part"], rows[1]["part"], rows[2]["part"] = "test", "", "out"
    made = split_file.read(write_rows(path, rows), index)
    assert (made.parts[0], made.parts[1], len(made)) == (2, 255, 19)
    assert [(one.key, one.reason) for one in made.ignored] == [(index.keys[2], "left out by s.csv")]
    by_hand = [{"key": key, "part": "train"} for key in index.keys]
    assert not split_file.read(write_rows(path, by_hand), index).parts.any()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: rows[0].update(part="tset"), r"line 2: there is no part 'tset'\. Did you mean 'test'\?"),
        (lambda rows: rows.pop(3), r"does not name 1 of the 20 pictures"),
        (lambda rows: rows[4].update(digest="00" * 16), r"is not the picture that .* was made with"),
        (lambda rows: rows[5].update(digest=rows[0]["digest"], part="test"), "an equal picture in"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, edit, message):
    index, path = index_and_file(tmp_path)
    rows = rows_of(path)
    rows[0]["part"] = "train"
    edit(rows)
    with pytest.raises(DataError, match=message):
        split_file.read(write_rows(path, rows), index)


@pytest.mark.parametrize("text", ["key,part\ra.png,train\rb.png,test\r", f"key,part\n{'a' * 200_000},train\n"])
def test_a_file_that_no_reader_of_csv_takes_is_refused_in_words(tmp_path, text):
    index, path = index_and_file(tmp_path)
    path.write_bytes(text.encode())
    with pytest.raises(DataError, match=r"cannot be read as CSV: .*line end of another system"):
        split_file.read(path, index)


@pytest.mark.parametrize(
    ("flag", "lacks"), [("--test-from", "no validation picture"), ("--validation-from", "Class 'cat'")]
)
def test_the_same_pictures_as_a_second_source_are_said_to_be_the_cause(tmp_path, flag, lacks):
    make_folder(tmp_path / "pets")
    done = tellapart(tmp_path, "train", "pets", flag, "pets", "--epochs", "1")
    assert done.code == 3
    assert lacks in done.err
    assert "36 of 72 pictures left, for they have the pixels of ones that are judged" in done.err
    assert f"Does {flag} bring the same pictures as the source?" in done.err


def test_no_split_no_folds_no_number(tmp_path):
    index, path = index_and_file(tmp_path)
    with pytest.raises(UsageError, match="has no column 'fold'"):
        split_file.read(path, index, fold=0)
    rows = [{**row, "fold": "x"} for row in rows_of(path)]
    with pytest.raises(DataError, match="the fold 'x' is not a number"):
        split_file.read(write_rows(path, rows), index, fold=0)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is not a split: its first line is 'a,b'"):
        split_file.read(path, index)


def test_more_folds_than_there_are_groups_are_refused_and_nothing_is_written(class_folder: Path, tmp_path: Path):
    words = ("split", str(class_folder), "--group-by", r"([0-9])\.png", "--out", "split.csv", "--folds")
    done = tellapart(tmp_path, *words, "20")
    assert done.code == 3, done.err
    found = re.search(r"Only ([2-9]) of 20 folds can be filled: .*\n.*--folds \1, or fewer", done.err)
    assert found, done.err
    assert not (tmp_path / "split.csv").exists()
    assert tellapart(tmp_path, *words, "2").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--split", "gone.csv"), "there is no file 'gone.csv'"),
        (("--set", "data.folds=1"), "Two folds or more"),
        (("--set", "data.folds=3", "--set", "data.fold=3"), "counted from 0"),
    ],
)
def test_a_split_that_cannot_be_is_refused(tmp_path, words, message):
    done = tellapart(tmp_path, "split", "digits", *words)
    assert done.code == 2
    assert message in done.err


def test_an_overlay_is_not_for_a_split(tmp_path):
    done = tellapart(tmp_path, "split", "digits", "--set", "data.overlay=o.csv")
    assert (done.code, "data.overlay says nothing here" in done.err) == (2, True)
