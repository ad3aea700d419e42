"""Pictures with several classes each as data: cells that name several, their split, identity and seal, and choosing."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from marked import SHAPES, make_marked
from test_split_and_seal import index_of

from tellapart.data import identity, split_file
from tellapart.data.index import NONE, Index, with_marks
from tellapart.data.select import chosen, joined, limited, limited_per_class, relabelled
from tellapart.data.sources import open_source
from tellapart.data.sources.labels import Labels
from tellapart.data.sources.table import table
from tellapart.data.split import divided, folded, twins
from tellapart.errors import DataError, UsageError

CELLS = ["cat;dog", "", "dog", "cat", " dog ; cat;", "dog;dog", "fox"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for n in range(len(CELLS)):
        (tmp_path / f"{n}.png").write_text(f"{n}")
    return tmp_path


def csv_of(here: Path, cells: Sequence[str], header: str = "path,labels") -> Path:
    path = here / "labels.csv"
    path.write_text("\n".join([header, *(f'{n}.png,"{cell}"' for n, cell in enumerate(cells))]) + "\n")
    return path


def called(index: Index) -> list[str]:
    return [index.called(row) for row in range(len(index))]


MEANT = ["cat + dog", NONE, "dog", "cat", "cat + dog", "dog", "fox"]


def test_a_cell_names_several_classes_one_or_none(here: Path) -> None:
    index = table(csv_of(here, CELLS), {}, several=";")
    assert (index.classes, called(index)) == (("cat", "dog", "fox"), MEANT)
    assert index.counts().tolist() == [3, 4, 1]
    assert index.labels.tolist() == [0, 3, 1, 0, 0, 1, 2]  # the rarest of each; 3 is none
    said = " ".join(index.said)
    assert (
        "Each picture may have several classes, or none (multi-label): 2 of 7 pictures have several classes, 1" in said
    )
    assert "1 labels name a class twice: it counts once." in said
    assert "Is ';' the sign" not in said


def test_every_kind_of_table_says_the_same(here: Path) -> None:
    from pyarrow import Table
    from pyarrow.parquet import write_table

    lists = [["cat", "dog"], [], ["dog"], ["cat"], ["dog", "cat"], ["dog", "dog"], ["fox"]]
    rows = [{"path": f"{n}.png", "tags": cell} for n, cell in enumerate(lists)]
    (here / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (here / "b.jsonl").write_text("\n".join(json.dumps({**row, "tags": c}) for row, c in zip(rows, CELLS, strict=True)))
    (here / "c.tsv").write_text("\n".join(["path\ttags", *(f"{n}.png\t{c}" for n, c in enumerate(CELLS))]))
    write_table(Table.from_pylist(rows), here / "d.parquet")
    for name in ("a.jsonl", "b.jsonl", "c.tsv", "d.parquet"):
        assert called(table(here / name, {}, several=";")) == MEANT, name


def test_no_label_at_all_is_none_of_the_classes_and_counted(here: Path) -> None:
    from pyarrow import Table
    from pyarrow.parquet import write_table

    lists = [["cat", "dog"], None, ["dog"], ["cat"], [], ["dog"], ["fox"]]
    rows = [{"path": f"{n}.png", "tags": cell} for n, cell in enumerate(lists)]
    (here / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (here / "b.jsonl").write_text("\n".join(json.dumps({k: v for k, v in r.items() if v is not None}) for r in rows))
    write_table(Table.from_pylist(rows), here / "c.parquet")
    for name in ("a.jsonl", "b.jsonl", "c.parquet"):
        index = table(here / name, {}, several=";")
        assert called(index) == ["cat + dog", NONE, "dog", "cat", NONE, "dog", "fox"]
        assert "several classes, 2 none (1 for want of a label: an empty cell, or null)." in " ".join(index.said), name
        assert "have the class" not in " ".join(index.said)


def test_a_class_that_is_called_as_nothing_is_said(here: Path) -> None:
    index = table(csv_of(here, ["cat;dog", "null", "dog", "cat", "NaN", "null", "fox"]), {}, several=";")
    said = "2 pictures have the class 'null'; a cell for none of the classes is empty."
    assert said in index.said
    assert "1 picture has the class 'NaN'; a cell for none of the classes is empty." in index.said
    assert index.classes == ("cat", "dog", "fox", "NaN", "null")  # a class may be called so


def test_class_numbers_of_a_schema_become_names(here: Path) -> None:
    from pyarrow import Table
    from pyarrow.parquet import write_table

    note = {"info": {"features": {"label": {"feature": {"names": ["ant", "bee", "wasp"], "_type": "ClassLabel"}}}}}
    rows = Table.from_pylist([{"path": f"{n}.png", "label": cell} for n, cell in enumerate([[0, 2], [], [2]])])
    write_table(rows.replace_schema_metadata({"huggingface": json.dumps(note)}), here / "e.parquet")
    index = table(here / "e.parquet", {}, several=";")
    assert (called(index), index.classes) == (["ant + wasp", NONE, "wasp"], ("ant", "wasp"))
    with pytest.raises(DataError, match=r"row 1.*label is a list") as caught:
        table(here / "e.parquet", {})
    assert "--several" in caught.value.hint


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["", "", ""], "No label names a class."),
        (["cat", "Cat;dog", ""], "The classes 'Cat' and 'cat' differ"),
        (["cat;d\x07g", "cat", "dog"], "holds a control character"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_by_line(here: Path, cells: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        table(csv_of(here, cells), {}, several=";")
    assert message in caught.value.message
    assert str(caught.value).isprintable()


def test_another_sign_is_asked_for_and_a_wrong_one_is_said(here: Path) -> None:
    spaced = csv_of(here, [cell.replace(";", " ") for cell in CELLS])
    assert called(table(spaced, {}, several=" ")) == MEANT
    wrong = table(csv_of(here, CELLS[:4]), {}, several="|")
    assert "Is '|' the sign between them? No label holds it." in wrong.said


def test_labels_that_look_like_lists_are_said_with_the_flag(here: Path) -> None:
    listed = [["cat;dog", "dog", "cat"], ["cat,dog", "dog", "cat"], ["a|b", "b|c", "a|c", "b"]]
    for cells in listed:
        sign = next(sign for sign in ";|," if sign in cells[0])
        assert f"--several '{sign}' reads them so." in " ".join(table(csv_of(here, cells), {}).said)
        assert "--several" not in " ".join(table(csv_of(here, cells), {}, several=sign).said)
    words = ["a", "b", "a b", "b a", "a a", "b b", "a b a"]
    assert "--several ' '" in " ".join(table(csv_of(here, words), {}).said)


def test_names_that_hold_a_sign_are_no_lists(here: Path) -> None:
    """The clean twin: as in ImageNet, and names of two words."""
    for cells in (["tench, Tinca tinca", "cock", "hen"], ["red square", "red disc", "blue square", "blue disc"]):
        assert "--several" not in " ".join(table(csv_of(here, cells), {}).said)


def test_the_setting_is_for_tables(here: Path, class_folder: Path) -> None:
    with pytest.raises(UsageError, match="--several goes with --labels table"):
        open_source(str(class_folder), labels=Labels(several=";"))
    with pytest.raises(UsageError, match="--several goes with --labels table"):
        open_source("digits", labels=Labels(several=";"))


def marked_index(n: int, shares: Sequence[float], *, seed: int = 0, **columns) -> Index:
    chance = np.random.default_rng(seed)
    marks = (chance.random((n, len(shares))) < shares).astype(np.int8)
    return with_marks(index_of((n,), **columns), tuple(f"c{k}" for k in range(len(shares))), marks)


def test_every_class_and_pictures_of_none_are_spread_evenly_over_the_parts() -> None:
    for seed in range(4):
        index = marked_index(1000, (0.5, 0.2, 0.05, 0.01), seed=seed)
        placed = divided(index, validation=0.2, test=0.1, seed=seed)
        assert placed.marks is not None
        none = placed.labels == 4
        assert none.sum() == (placed.marks.sum(axis=1) == 0).sum()
        for part, share in (("validation", 0.2), ("test", 0.1)):
            here_, whole = placed.counts(part), index.counts()
            assert np.abs(here_ - share * whole).max() <= 2 + 0.02 * whole.max(), (part, here_, whole)
            assert abs(none[placed.rows(part)].sum() - share * none.sum()) <= 2 + 0.02 * none.sum()
            assert (here_ > 0).all()


def test_folds_spread_rare_classes_and_each_picture_is_in_one() -> None:
    index = marked_index(400, (0.5, 0.1, 0.03), seed=2)
    dealt = folded(index, 4, seed=1)
    assert index.marks is not None
    for fold in range(4):
        counts = index.marks[dealt == fold].sum(axis=0)
        assert (np.abs(counts - index.counts() / 4) <= 2 + 0.05 * index.counts()).all()
    assert np.bincount(dealt).max() - np.bincount(dealt).min() <= 8


def test_groups_stay_together_and_equal_pictures_too() -> None:
    groups = np.repeat(np.arange(100), 4)
    placed = divided(marked_index(400, (0.4, 0.2), groups=groups), validation=0.2, test=0.2, seed=0)
    assert all(len(set(placed.parts[groups == group])) == 1 for group in range(100))


def test_many_equal_pictures_of_no_class_go_to_training() -> None:
    index = marked_index(400, (0.4, 0.2))
    assert index.digests is not None
    none, digests = index.labels == 2, index.digests.copy()
    digests[none] = 0
    placed = divided(replace(index, digests=digests), validation=0.2, test=0.1, seed=0)
    assert set(placed.parts[none].tolist()) == {0}
    assert abs(placed.counts("validation") - 0.2 * index.counts()).max() <= 4


def test_adding_pictures_moves_few_others() -> None:
    index = marked_index(600, (0.5, 0.2, 0.05))
    before = divided(index.take(np.arange(590)), validation=0.2, test=0.1, seed=0).parts
    after = divided(index, validation=0.2, test=0.1, seed=0).parts[:590]
    assert (before != after).mean() < 0.1


def test_identities_know_the_marks() -> None:
    index = marked_index(50, (0.5, 0.5))
    assert index.marks is not None
    other = index.marks.copy()
    other[0] = 1 - other[0]
    for of in (identity.content, identity.split):
        assert of(index) != of(with_marks(index, index.classes, other))
        turned = with_marks(index, index.classes[::-1], index.marks[:, ::-1])
        assert of(index) == of(turned.take(np.arange(50)))
    one_each = with_marks(index, index.classes, np.eye(2, dtype=np.int8)[np.arange(50) % 2])
    plain = replace(one_each, marks=None)
    assert identity.content(one_each) != identity.content(plain)


def test_equal_pictures_with_other_marks_are_said() -> None:
    index = marked_index(20, (0.5, 0.5))
    assert index.digests is not None
    assert index.marks is not None
    digests, marks = index.digests.copy(), index.marks.copy()
    digests[1], marks[:2] = digests[0], [[1, 0], [1, 1]]
    doubled = replace(with_marks(index, index.classes, marks), digests=digests)
    assert twins(doubled) == ["1 picture with equal pixels under more than one class"]
    marks[1] = marks[0]
    assert twins(replace(with_marks(index, index.classes, marks), digests=digests)) == []


def test_the_split_file_names_all_classes_and_is_read_back(tmp_path: Path) -> None:
    placed = divided(marked_index(60, (0.5, 0.3)), validation=0.2, test=0.1, seed=0)
    (tmp_path / "split.csv").write_text(split_file.text_of(placed))
    assert "c0 + c1" in split_file.text_of(placed)
    assert NONE in split_file.text_of(placed)
    again = split_file.read(tmp_path / "split.csv", replace(placed, parts=np.zeros(60, np.uint8)))
    assert identity.split(again) == identity.split(placed)
    assert "another class" not in " ".join(again.said)


def test_classes_are_merged_left_out_and_joined_in_the_marks(here: Path) -> None:
    index = table(csv_of(here, CELLS), {}, several=";")
    merged = relabelled(index, "dog=pet,cat=pet")
    assert (merged.classes, called(merged)[0], called(merged)[6]) == (("pet", "fox"), "pet", "fox")
    assert merged.counts().tolist() == [5, 1]
    without = chosen(index, exclude="cat")
    assert (len(without), called(without)) == (7, ["dog", NONE, "dog", NONE, "dog", "dog", "fox"])
    assert "Their pictures stay, without these classes." in without.said
    second = replace(relabelled(index, "cat=owl"), keys=index.keys)
    both = joined(index, second, "validation")
    assert called(both)[7:] == [name.replace("cat + dog", "dog + owl").replace("cat", "owl") for name in MEANT]
    assert both.counts("validation")[both.classes.index("owl")] == 3
    plain = replace(index, marks=None, labels=np.zeros(7, np.int64))
    with pytest.raises(DataError, match=r"may have several classes .multi-label., in labels it has one"):
        joined(index, plain, "test")


def test_a_limit_keeps_shares_and_one_by_class_is_refused() -> None:
    index = marked_index(400, (0.5, 0.1))
    few = limited(index, 100, 0)
    assert np.abs(few.counts() - index.counts() / 4).max() <= 4
    with pytest.raises(UsageError, match="--limit-per-class needs one class for each picture"):
        limited_per_class(index, 10, 0)
    assert limited_per_class(index, None, 0) is index


def test_marks_of_sealed_pictures_are_hidden_until_the_opening(tmp_path: Path) -> None:
    from tellapart.data.pictures import first_pass
    from tellapart.data.seal import SEALED_LABEL, open_test, sealed
    from tellapart.preprocess import Preprocess

    path, _ = make_marked(tmp_path, 40)
    index = divided(table(path, {}, several=";"), validation=0.2, test=0.2, seed=0)
    to = Preprocess(size=16, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    closed = sealed(first_pass(index, to, skip_bad=False, memory=1 << 30))
    rows = index.rows("test")
    assert closed.index.marks is not None
    assert index.marks is not None
    assert (closed.index.marks[rows] == SEALED_LABEL).all()
    assert (closed.index.labels[rows] == SEALED_LABEL).all()
    others = np.setdiff1d(np.arange(40), rows)
    assert (closed.index.marks[others] == index.marks[others]).all()
    opened = open_test(closed).index.marks
    assert opened is not None
    assert (opened == index.marks).all()


def test_the_example_has_what_the_tests_need(tmp_path: Path) -> None:
    path, marks = make_marked(tmp_path, 60)
    index = table(path, {}, several=";")
    assert index.marks is not None
    assert (index.classes, (index.marks == marks).all()) == (SHAPES, True)
