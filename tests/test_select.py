"""Choosing among what was found: renamed, merged and dropped classes, limits, and parts from a second source."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import tellapart, train
from hypothesis import given
from hypothesis import strategies as st
from pictures import make_folder

from tellapart.data.index import NO_PART, ArrayStore, Ignored, Index, Strings
from tellapart.data.select import (
    absent,
    chosen,
    empty_classes,
    joined,
    limited_per_class,
    refuse_empty,
    refuse_untrained,
    relabelled,
    stacked,
)
from tellapart.data.split import grouped
from tellapart.errors import DataError, UsageError
from tellapart.names import PARTS
from tellapart.recipe import Recipe
from tellapart.workflow.data import found

CLASSES = ("ant", "bee", "cat", "dog")


def index_of(labels: list[int], *, parts: list[int] | None = None, classes=CLASSES, name: str = "set") -> Index:
    """One picture of one pixel a row, whose value is the row."""
    n = len(labels)
    return Index(
        name=name,
        classes=classes,
        keys=Strings.of(f"{classes[k]}/{row}.png" for row, k in enumerate(labels)),
        labels=np.array(labels, np.int64),
        parts=np.full(n, NO_PART, np.uint8) if parts is None else np.array(parts, np.uint8),
        store=ArrayStore(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)),
        said=(f"from {name}",),
    )


def named(index: Index) -> list[tuple[str, str, int, int]]:
    """Key, class, part and pixel of every row."""
    return [
        (
            index.keys[row],
            index.classes[index.labels[row]],
            int(index.parts[row]),
            int(np.ravel(index.store.read(row))[0]),
        )  # type: ignore[arg-type]
        for row in range(len(index))
    ]


SMALL = index_of([0, 1, 2, 3, 0, 1])


def test_classes_are_renamed_and_merged():
    index = relabelled(SMALL, "ant=insect, bee=insect")
    assert index.classes == ("insect", "cat", "dog")
    assert index.labels.tolist() == [0, 0, 1, 2, 0, 0]
    assert index.said == ("from set", "Classes renamed: ant is now insect, bee is now insect.")
    assert relabelled(SMALL, "bee=ant").classes == ("ant", "cat", "dog")
    assert relabelled(SMALL, "ant=bee,bee=ant").classes == ("bee", "ant", "cat", "dog")
    assert named(relabelled(SMALL, "ant=bee,bee=ant"))[0][1] == "bee"


def test_a_new_name_may_be_that_of_a_class_that_is_renamed_and_accents_are_one_however_they_are_written():
    assert relabelled(SMALL, "ant=Bee,bee=wasp").classes == ("Bee", "wasp", "cat", "dog")
    assert relabelled(SMALL, "ant=ANT").classes == ("ANT", "bee", "cat", "dog")
    schema = replace(SMALL, classes=("a", "A", "cat", "dog"))  # a schema may mean it so
    assert relabelled(schema, "cat=fox").classes == ("a", "A", "fox", "dog")
    accents = replace(SMALL, classes=("caf\u00e9", "bee", "cat", "dog"))
    assert relabelled(accents, "cafe\u0301=bee").classes == ("bee", "cat", "dog")
    assert relabelled(SMALL, "ant=cafe\u0301").classes[0] == "caf\u00e9"
    assert chosen(accents, exclude="cafe\u0301").classes == ("bee", "cat", "dog")


def test_names_that_go_round_are_said_to_be_given_all_at_once():
    assert (
        relabelled(SMALL, "ant=bee,bee=ant").said[-1] == "Classes renamed, all at once: ant is now bee, bee is now ant."
    )
    chain = relabelled(SMALL, "ant=bee,bee=cat")
    assert (chain.classes, chain.labels.tolist()) == (("bee", "cat", "dog"), [0, 1, 1, 2, 0, 1])
    assert "all at once" in chain.said[-1]
    for apart in ("ant=bee", "ant=bee,bee=bee", "ant=x,bee=x"):
        assert "all at once" not in relabelled(SMALL, apart).said[-1]


def test_a_class_without_pictures_is_refused_where_it_lacks_unless_it_is_left_out():
    stray = [
        Ignored(key=key, reason="not read") for key in ("x/ant/1.gif", "\u00e9lan/1.heic", "train/\u00e9lan/2.heic")
    ]
    index = replace(SMALL, classes=(*SMALL.classes, "\u00e9lan"), ignored=tuple(stray))
    (lacking,) = empty_classes(index)
    assert (lacking[:2], [one.key for one in lacking[2]]) == (
        ("\u00e9lan", ""),
        ["\u00e9lan/1.heic", "train/\u00e9lan/2.heic"],
    )
    with pytest.raises(
        DataError, match=r"^Class '\u00e9lan' has no picture; not read there: .*2\.heic\. .*--exclude '\u00e9lan'"
    ):
        refuse_empty(index)
    refuse_empty(chosen(index, exclude="\u00e9lan"))
    refuse_empty(relabelled(index, "\u00e9lan=ant"))
    parted = replace(index, parts=np.array([0, 0, 0, 0, 1, 1], np.uint8))
    assert {one[:2] for one in empty_classes(parted)} >= {
        ("\u00e9lan", "train"),
        ("cat", "validation"),
        ("dog", "validation"),
    }
    assert [one[:2] for one in empty_classes(parted, ["validation"])] == [("\u00e9lan", "train")]
    assert [len(files) for *_, files in empty_classes(parted, ["validation"])] == [1]
    half = replace(parted, parts=np.array([0, 0, 0, 255, 1, 1], np.uint8))
    assert [one[:2] for one in empty_classes(half)] == [("\u00e9lan", "")]


def test_nothing_asked_changes_nothing():
    assert relabelled(SMALL, "") is chosen(SMALL) is limited_per_class(SMALL, None, 0) is SMALL
    assert chosen(SMALL, include="dog,cat,bee,ant") is SMALL
    refuse_untrained(SMALL, "--test-from")


def test_classes_are_left_out_and_counted():
    index = chosen(SMALL, exclude="ant, dog")
    assert [row[:2] for row in named(index)] == [("bee/1.png", "bee"), ("cat/2.png", "cat"), ("bee/5.png", "bee")]
    assert (index.classes, index.said[-1]) == (("bee", "cat"), "Classes left out: ant (2), dog (1).")
    assert named(chosen(SMALL, include="bee,cat")) == named(index)
    assert chosen(SMALL, include="bee,cat,dog", exclude="dog").classes == ("bee", "cat")


@pytest.mark.parametrize(
    ("call", "message", "hint", "kind"),
    [
        (lambda i: relabelled(i, "ants=x"), "--label-map: there is no class 'ants'", "Did you mean 'ant'?", UsageError),
        (lambda i: relabelled(i, "ant"), "--label-map: 'ant' is not of the form a=b", "a=x,b=y", UsageError),
        (lambda i: relabelled(i, "ant=x,bee=x,cat=x,dog=x"), "1 class is left: x", "two or more", DataError),
        (lambda i: relabelled(i, "ant=Bee"), "'Bee' and 'bee', which differ only by", "'ant=bee'", UsageError),
        (lambda i: relabelled(i, "ant=x,bee=X"), "'x' and 'X', which differ only by", "'ant=X'", UsageError),
        (lambda i: relabelled(i, "ant=a\nb"), "holds a control character", "on one line", UsageError),
        (lambda i: relabelled(i, "ant=x=y"), "'ant=x=y' is not of the form a=b", "a=x,b=y", UsageError),
        (lambda i: chosen(i, include='"a\rb"'), "holds a control character", "on one line", UsageError),
        (lambda i: chosen(i, include="a" * 200_000), "or is too long", "on one line", UsageError),
        (lambda i: chosen(i, include="ant;bee"), "there is no class 'ant;bee'", "commas: ant,bee", UsageError),
        (lambda i: chosen(i, include="bes,cat"), "--include: there is no class 'bes'", "'bee'", UsageError),
        (lambda i: chosen(i, exclude="zz"), "--exclude: there is no class 'zz'", "ant, bee", UsageError),
        (lambda i: chosen(i, include="ant"), "1 class is left: ant", "two or more", DataError),
        (lambda i: chosen(i, exclude="ant,bee,cat,dog"), "No class is left", "two or more", DataError),
    ],
)
def test_choices_that_cannot_be(call, message, hint, kind):
    with pytest.raises(kind) as caught:
        call(SMALL)
    assert message in caught.value.message
    assert hint in caught.value.hint


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2, NO_PART])), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_no_class_of_a_part_has_more_than_the_limit_and_none_loses_more_than_it_must(rows, most, seed):
    index = index_of([k for k, _ in rows], parts=[part for _, part in rows])
    left = limited_per_class(index, most, seed)
    before, after = (Counter(zip(one.labels.tolist(), one.parts.tolist(), strict=True)) for one in (index, left))
    assert after == {unit: min(count, most) for unit, count in before.items()}
    assert set(named(left)) <= set(named(index))
    assert [row[3] for row in named(left)] == sorted(row[3] for row in named(left))
    assert named(left) == named(limited_per_class(index, most, seed))


def test_the_limit_is_by_chance_not_by_order():
    index = index_of([0, 1] * 50)
    kept = [row[3] for row in named(limited_per_class(index, 10, 0))]
    assert kept != [row[3] for row in named(limited_per_class(index, 10, 1))]
    assert max(kept) > 60


# --- a second source --------------------------------------------------------------------------------------------------


def test_a_second_source_is_the_test_part_with_classes_by_name():
    other = index_of([1, 0, 1], classes=("dog", "ant"), name="other")
    both = joined(SMALL, other, "test")
    assert both.classes == CLASSES
    assert named(both)[:6] == named(SMALL)
    assert named(both)[6:] == [
        ("test-from/ant/0.png", "ant", 2, 0),
        ("test-from/dog/1.png", "dog", 2, 1),
        ("test-from/ant/2.png", "ant", 2, 2),
    ]
    assert both.said == (
        "from set",
        "test: from other",
        "The test part: 3 pictures, all of other.",
    )
    assert absent(both, ["test"]) == ["The test part has no picture of bee, cat."]
    refuse_untrained(both, "--test-from")


def test_of_a_second_source_with_that_part_only_the_part_is_taken():
    other = index_of([0, 1, 2, 3], parts=[0, 1, 2, 2], name="other")
    assert [row[3] for row in named(joined(SMALL, other, "test"))[6:]] == [2, 3]
    assert [row[3] for row in named(joined(SMALL, other, "validation"))[6:]] == [1]
    assert [row[3] for row in named(joined(SMALL, replace(other, parts=other.parts * 0), "test"))[6:]] == [0, 1, 2, 3]


def test_a_part_that_is_there_already_is_refused():
    with pytest.raises(UsageError) as caught:
        joined(index_of([0, 1, 2], parts=[0, 2, 2]), SMALL, "test")
    assert caught.value.message == "set brings a test part of its own (2 pictures)."
    assert caught.value.hint == "Leave --test-from out."


def test_a_class_that_was_never_trained_is_refused_with_every_way_out():
    other = index_of([0, 1, 1], classes=("ant", "bees"), name="other")
    both = joined(SMALL, other, "test")
    with pytest.raises(DataError) as caught:
        refuse_untrained(both, "--test-from")
    assert caught.value.message == "--test-from brings classes that have no training picture: bees."
    for word in ("Add training pictures", "--exclude 'bees'", "--label-map 'bees=…'"):
        assert word in caught.value.hint
    refuse_untrained(chosen(both, exclude="bees"), "--test-from")
    refuse_untrained(relabelled(both, "bees=bee"), "--test-from")


def test_a_part_that_was_brought_and_of_which_nothing_is_left_is_not_made_from_other_pictures():
    other = index_of([0, 1, 1], classes=("wasp", "bees"), name="other")
    both = joined(SMALL, other, "test")
    with pytest.raises(DataError) as caught:
        refuse_untrained(both, "--test-from")
    assert "--exclude 'wasp,bees'" in caught.value.hint
    with pytest.raises(DataError, match="Nothing is left of the pictures that --test-from brings"):
        absent(chosen(both, exclude="wasp,bees"), ["test"])


def test_groups_and_ignored_files_of_two_sources_stay_apart():
    first = replace(SMALL, groups=np.array([4, 4, 0, 0, 1, 1]))
    second = replace(index_of([0, 1]), ignored=(Ignored(key="x.txt", reason="no"),))
    both = stacked(first, second, prefix="new/")
    assert both.groups is not None
    assert both.groups.tolist() == [4, 4, 0, 0, 1, 1, 5, 6]
    turned = stacked(second, first).groups
    assert turned is not None
    assert turned.tolist() == [0, 1, 6, 6, 2, 2, 3, 3]
    assert both.ignored[0].key == "new/x.txt"
    assert stacked(SMALL, second).groups is None


# --- groups -----------------------------------------------------------------------------------------------------------


def test_groups_by_folder_are_those_below_the_class():
    keys = ["train/ant/p1/1.png", "train/bee/p1/2.png", "train/bee/p2/x/3.png", "train/bee/p2/y/4.png"]
    index = replace(index_of([0, 1, 1, 1], parts=[0] * 4), keys=Strings.of(keys))
    groups = grouped(index, "folder").groups
    assert groups is not None
    assert groups.tolist() == [0, 0, 1, 2]
    with pytest.raises(DataError, match=r"--group-by folder: ant/0\.png lies in no folder below its class"):
        grouped(SMALL, "folder")
    brought = replace(SMALL, groups=np.arange(6))
    assert grouped(brought, "") is brought
    assert grouped(brought, "^(ant|...)").groups is not brought.groups


# --- through the recipe and the commands ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets", per_class=8)
    make_folder(at / "more", classes=("dog", "cat"), per_class=4)
    return at


def test_data_show_shows_what_is_chosen(pets):
    words = ("--test-from", "more", "--label-map", "fox=dog", "--limit-per-class", "5", "--group-by", r"\d+")
    done = tellapart(pets, "data", "show", "pets", *words)
    assert re.search(r"class +unplaced +test\n +0  cat +5 +4\n +1  dog +5 +4\n", done.out), done.out + done.err
    assert re.search(
        r"Groups: \d; the pictures of one group stay in one part, where the data bring no parts\.", done.out
    )
    assert tellapart(pets, "data", "show", "pets", "--exclude", "cat,dog").code == 3
    listing = tellapart(pets, "data", "show", "pets", "--exclude", "cat", "--list").out.splitlines()
    assert listing[0] == "dog/00.png\tdog"
    assert len(listing) == 16


def test_order_of_choosing_join_then_map_then_leave_out_then_limit(pets):
    values = {
        "data.source": str(pets / "pets"),
        "data.validation_from": str(pets / "more"),
        "data.label_map": "fox=dog",
        "data.exclude": "",
        "data.limit": 6,
        "data.limit_per_class": 2,
    }
    index = found(Recipe.from_values(values))
    assert index.classes == ("cat", "dog")
    assert index.counts("validation").tolist() == [2, 2]
    assert len(index) == 8


def test_training_with_a_second_source_as_test_keeps_it_sealed_and_whole(pets):
    words = ("--exclude", "fox", "--test-from", "more", "--epochs", "1", "--batch-size", "4")
    done = train(pets, "second", "pets", *words)
    assert "The test part: 8 pictures, all of more." in done.err
    assert re.search(r"test accuracy .* n = 8\)", tellapart(pets, "test", "second").out)
    rows = (pets / "runs" / "second" / "split.csv").read_text(encoding="utf-8").splitlines()[1:]
    parts = Counter(row.split(",")[2] for row in rows)
    assert (parts["test"], sum(parts.values())) == (8, 24)
    assert all(("test-from/" in row) == (",test," in row) for row in rows)
    assert set(parts) == set(PARTS)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--test-from", "nothere"), 2, "Unknown data set 'nothere'"),
        (("--test-from", "digits"), 3, "--test-from brings classes that have no training picture: 0, 1, 2"),
        (("--test-from", "more", "--set", "data.split=new"), 2, "data.split = new makes every part anew"),
        (("--label-map", "cat"), 2, "--label-map: 'cat' is not of the form a=b"),
        (("--limit-per-class", "0"), 2, "data.limit_per_class: expected a whole number, at least 1"),
        (("--labels", "folder"), 2, "Did you mean 'folders'?"),
        (("--group-by", "folder"), 3, "lies in no folder below its class"),
    ],
)
def test_what_train_refuses_and_leaves_no_run(pets, words, code, said):
    done = tellapart(pets, "train", "pets", *words, "--run", "never")
    assert (done.code, said in done.err) == (code, True), done.err
    assert not (pets / "runs" / "never").exists()
