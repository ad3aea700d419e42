"""Labels from text files and from file names: what is found by itself, what can be forced, and every refusal."""

import io
import os
import re
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from commands import tellapart, train
from pictures import draw, make_folder
from PIL import Image

from tellapart.data.catalogue import TORCHVISION_SETS
from tellapart.data.index import NO_PART
from tellapart.data.sources import open_source
from tellapart.data.sources.filename import GUESSES, LONGEST
from tellapart.data.sources.labels import AUTO, Labels, listed, pairs
from tellapart.data.sources.paired import MOST
from tellapart.errors import DataError, TellapartError, UsageError
from tellapart.names import LABELS
from tellapart.recipe import Recipe


def plant(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def names_only(root: Path, *names: str) -> Path:
    """Files with these names; none of the ways opens a picture."""
    return plant(root, dict.fromkeys(names, "x"))


def pictures_named(root: Path, *, classes: tuple[str, ...] = ("cat", "dog"), each: int = 8) -> Path:
    """Real pictures `cat.0.png` … side by side."""
    root.mkdir()
    for k, name in enumerate(classes):
        for n in range(each):
            Image.fromarray(draw(k, len(classes), (7, k, n), 12)).save(root / f"{name}.{n}.png")
    return root


def labels_of(source: Path, labels: Labels = AUTO) -> dict[str, str]:
    index = open_source(str(source), labels=labels)
    return {key: index.classes[k] for key, k in zip(index.keys, index.labels.tolist(), strict=True)}


def refused(
    source: object, message: str, hint: str = "", *, labels: Labels = AUTO, kind: type[TellapartError] = DataError
) -> None:
    with pytest.raises(kind) as caught:
        open_source(str(source), labels=labels)
    assert re.search(message, caught.value.message), caught.value.message
    assert hint in caught.value.hint, caught.value.hint


# --- one class --------------------------------------------------------------------------------------------------------


def packed(root: Path) -> Path:
    """Two pictures of one class, as a shard."""
    root.mkdir()
    with tarfile.open(root / "a.tar", "w") as out:
        for name in ("0.jpg", "0.cls", "1.jpg", "1.cls"):
            member, text = tarfile.TarInfo(name), b"ants" * name.endswith("cls")
            member.size = len(text)
            out.addfile(member, io.BytesIO(text))
    return root / "a.tar"


ALONE = {
    "folder": lambda at: names_only(at, "ants/1.jpg"),
    "parts": lambda at: names_only(at, "train/ants/1.jpg", "val/ants/2.jpg"),
    "table": lambda at: (
        plant(at, {"1.jpg": "", "2.jpg": "", "t.csv": "path,label\n1.jpg,ants\n2.jpg,ants\n"}) / "t.csv"
    ),
    "several": lambda at: plant(at, {"1.jpg": "", "t.csv": "path,label\n1.jpg,ants\n"}) / "t.csv",
    "shards": packed,
}


@pytest.mark.parametrize("kind", ALONE)
def test_one_class_is_too_few_to_train_on_and_enough_beside_others(tmp_path: Path, kind: str) -> None:
    source = ALONE[kind](tmp_path / "at")
    labels = Labels("table", several=";") if kind == "several" else AUTO
    refused(source, "There is only one class, 'ants', in", "Telling apart needs two or more", labels=labels)
    assert open_source(str(source), labels=labels, least=1).classes == ("ants",)


def test_a_folder_above_the_class_folders_is_guessed(tmp_path: Path) -> None:
    names_only(tmp_path, "set/ants/1.jpg", "set/bees/1.jpg")
    refused(tmp_path, "only one class, 'set'", "If 'set' itself holds the class folders, name that folder.")


def test_a_second_source_may_lack_all_classes_but_one(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", classes=("ants", "bees", "cats"), size=12)
    (tmp_path / "new").mkdir()
    shutil.copytree(tmp_path / "pets" / "bees", tmp_path / "new" / "bees")
    for n, one in enumerate((tmp_path / "new" / "bees").iterdir()):
        Image.fromarray(draw(1, 3, (9, n), 12)).save(one.with_suffix(".png"))
    done = train(tmp_path, "a", "pets", "--test-from", "new", "--epochs", "1")
    assert "The test part has no picture of ants, cats." in done.out + done.err, done.out + done.err
    done = tellapart(tmp_path, "test", "a", "new")
    assert (done.code, "n = " in done.out) == (0, True), done.out + done.err


# --- text files -------------------------------------------------------------------------------------------------------

ANTS = {f"ants_image/{n}.jpg": "x" for n in (1, 2)} | {"ants_label/1.txt": "ants", "ants_label/2.txt": "ants\n"}
BEES = {f"bees_image/{n}.jpg": "x" for n in (1, 2)} | {"bees_label/1.txt": "bees", "bees_label/2.txt": " bees "}


def test_a_folder_of_pictures_beside_a_folder_of_labels(tmp_path):
    root = plant(tmp_path / "set", ANTS | BEES)
    index = open_source(str(root))
    assert index.classes == ("ants", "bees")
    assert index.keys[:] == ["ants_image/1.jpg", "ants_image/2.jpg", "bees_image/1.jpg", "bees_image/2.jpg"]
    assert (index.labels.tolist(), index.name, index.ignored) == ([0, 0, 1, 1], "set", ())
    assert index.said == ("Labels: from 4 text files, one for each picture.",)
    assert (index.parts == NO_PART).all()
    assert index.store.read(0) == b"x"


@pytest.mark.parametrize(
    ("picture", "label"),
    [
        ("images/{}.jpg", "labels/{}.txt"),
        ("Images/{}.jpg", "Labels/{}.txt"),
        ("img/a/{}.png", "label/a/{}.txt"),
        ("photos/{}.jpg", "label/{}.txt"),
        ("{}.jpg", "{}.txt"),
    ],
)
def test_other_places_of_text_files(tmp_path, picture, label):
    files = {picture.format(n): "x" for n in "abcd"} | {label.format(n): f"kind {n < 'c'}" for n in "abcd"}
    found = labels_of(plant(tmp_path, files))
    assert found == {picture.format(n): f"kind {n < 'c'}" for n in "abcd"}


def test_part_folders_are_honoured(tmp_path):
    files = {f"{part}/{path}": text for part in ("train", "val") for path, text in (ANTS | BEES).items()}
    index = open_source(str(plant(tmp_path, files)))
    assert [len(index.rows(part)) for part in ("train", "validation", "test")] == [4, 4, 0]
    assert index.keys[0] == "train/ants_image/1.jpg"
    yolo = {f"images/{part}/{n}.jpg": "x" for part in ("train", "test") for n in "ab"}
    yolo |= {f"labels/{part}/{n}.txt": n for part in ("train", "test") for n in "ab"}
    index = open_source(str(plant(tmp_path / "yolo", yolo)))
    assert [len(index.rows(part)) for part in ("train", "validation", "test")] == [2, 0, 2]


def test_a_picture_without_a_label_is_named_and_the_command_fails(tmp_path):
    files = {**ANTS, **BEES}
    del files["bees_label/2.txt"]
    done = tellapart(tmp_path, "data", "show", str(plant(tmp_path / "set", files)))
    assert (done.code, done.out) == (3, "")
    assert "1 of 4 pictures" in done.err
    assert "have no label file: bees_image/2.jpg" in done.err
    assert "Add bees_label/2.txt with the class name in it" in done.err


def test_a_label_without_a_picture_is_named_and_counted(tmp_path):
    index = open_source(str(plant(tmp_path, ANTS | BEES | {"bees_label/9.txt": "bees", "notes.md": "x"})))
    assert [(one.key, one.reason) for one in index.ignored] == [
        ("bees_label/9.txt", "a text file without a picture of its name"),
        ("notes.md", ".md is not read"),
    ]
    assert index.said[0].endswith("one for each picture; 1 more have no picture.")
    assert len(index) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bees_label/1.txt is empty"),
        (" \n\n", "is empty"),
        ("bees\nants", "has 2 lines"),
        (b"\xff\xfeb", "is not UTF-8 text"),
        ("b" * (MOST + 1), "is longer than 4,096 bytes"),
        (b"\xc3" * (MOST + 1), "is longer than 4,096 bytes"),
    ],
)
def test_label_files_that_hold_no_one_class(tmp_path, text, message):
    refused(plant(tmp_path, ANTS | BEES | {"bees_label/1.txt": text}), message, "one line: the name of the class")


def test_label_files_as_other_systems_write_them(tmp_path):
    files = ANTS | BEES | {"bees_label/1.txt": b"\xef\xbb\xbfbees\r\n", "bees_label/2.txt": "b" * MOST}
    assert labels_of(plant(tmp_path, files))["bees_image/1.jpg"] == "bees"


def test_a_class_name_that_cannot_be_printed(tmp_path):
    refused(
        plant(tmp_path, ANTS | BEES | {"bees_label/1.txt": "a\x1b[31m"}),
        r"bees_image/1.jpg: the label 'a\\x1b\[31m' holds a control",
    )


def test_class_folders_with_texts_in_them_stay_class_folders(tmp_path):
    files = {f"{name}/{n}{end}": "x" for name in ("ants", "label") for n in (1, 2) for end in (".jpg", ".txt")}
    index = open_source(str(plant(tmp_path, files)))
    assert index.classes == ("ants", "label")
    assert index.said == ("Labels: from the names of the class folders.",)
    both = {f"{name}/{n}.jpg": "x" for name in ("image", "label") for n in (1, 2)}
    assert open_source(str(plant(tmp_path / "two", both))).classes == ("image", "label")


def test_paired_by_force(tmp_path):
    refused(names_only(tmp_path, "cat/1.jpg", "dog/1.jpg"), "2 of 2 pictures", labels=Labels("paired"))
    refused(names_only(tmp_path / "no", "a.csv"), "holds no pictures", labels=Labels("paired"))


# --- file names -------------------------------------------------------------------------------------------------------

LABEL = r"(?P<label>[^._]+)"


def test_the_pattern_gives_the_class(tmp_path):
    root = names_only(tmp_path, "cat.1.jpg", "cat.2.jpg", "sub/dog_1.PNG", "sub/dog_2.png", "notes.txt")
    assert labels_of(root, Labels("filename", LABEL)) == labels_of(root, Labels(pattern=LABEL)) == {
        "cat.1.jpg": "cat",
        "cat.2.jpg": "cat",
        "sub/dog_1.PNG": "dog",
        "sub/dog_2.png": "dog",
    }  # fmt: skip
    index = open_source(str(root), labels=Labels(pattern=LABEL))
    assert index.said == (f"Labels: from the file names, by {LABEL}",)
    assert [one.key for one in index.ignored] == ["notes.txt"]


def test_a_pattern_with_a_slash_sees_the_path_and_may_name_groups(tmp_path):
    root = names_only(tmp_path, *(f"p{p}/{c}/{n}.jpg" for p in (1, 2) for c in ("a", "b") for n in (1, 2)))
    index = open_source(str(root), labels=Labels(pattern=r"(?P<group>p\d)/(?P<label>\w)/"))
    assert index.classes == ("a", "b")
    assert index.groups is not None
    assert index.keys[:4] == ["p1/a/1.jpg", "p1/a/2.jpg", "p2/a/1.jpg", "p2/a/2.jpg"]
    assert index.groups.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_parts_of_pictures_without_class_folders(tmp_path):
    names = [f"{part}/{c}{n}.jpg" for part in ("train", "test") for c in "ab" for n in (1, 2)]
    index = open_source(str(names_only(tmp_path, *names)), labels=Labels(pattern=r"^(?P<label>\w)"))
    assert [len(index.rows(part)) for part in ("train", "validation", "test")] == [4, 0, 4]
    refused(names_only(tmp_path, "b9.jpg"), "1 pictures lie outside .* such as b9.jpg", labels=Labels(pattern=LABEL))
    alone = names_only(tmp_path / "alone", "train/a1.jpg", "train/b1.jpg")
    assert (open_source(str(alone), labels=Labels(pattern=r"^(?P<label>\w)")).parts == NO_PART).all()
    odd = names_only(tmp_path / "odd", "val/a1.jpg", "test/b1.jpg")
    refused(odd, r"no train/ folder", labels=Labels(pattern=r"^(?P<label>\w)"))


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("cat.001.jpg|cat.002.jpg|dog.001.jpg|dog.002.jpg", ["cat", "dog"]),
        ("cat_1.png|cat_12.png|dog_1.png|dog_2.png", ["cat", "dog"]),
        ("golden_retriever_1.jpg|golden_retriever_2.jpg|pug_1.jpg|pug_2.jpg", ["golden_retriever", "pug"]),
        ("3_007.png|3_008.png|4_001.png|4_002.png", ["3", "4"]),
        ("n01440764_1.JPEG|n01440764_2.JPEG|n02102040_1.JPEG|n02102040_7.JPEG", ["n01440764", "n02102040"]),
        ("IMG_cat-1.jpg|IMG_cat-2.jpg|IMG_dog-1.jpg|IMG_dog-2.jpg", ["cat", "dog"]),
        ("0007_cat.jpg|0008_cat.jpg|0009_dog.jpg|0010_dog.jpg", ["cat", "dog"]),
        ("cat_left_a.jpg|cat_right_b.jpg|dog_left_c.jpg|dog_x.jpg", ["cat", "dog"]),
        ("a1b-cat.jpg|f00-cat.jpg|77c-dog.jpg|x1-dog.jpg", ["cat", "dog"]),
        ("cat (1).jpg|cat (2).jpg|dog (1).jpg|dog (2).jpg", ["cat", "dog"]),
    ],
)
def test_a_likely_pattern_is_shown_and_confirming_it_works(tmp_path, names, classes):
    root = names_only(tmp_path, *names.split("|"))
    with pytest.raises(DataError) as asked:
        open_source(str(root))
    assert f"of 2 classes: {classes[0]} (2), {classes[1]} (2)." in asked.value.message
    confirmed = re.fullmatch(r"If that is right, add: --labels filename --pattern '(.*)'", asked.value.hint)
    assert confirmed
    assert sorted(set(labels_of(root, Labels("filename", confirmed[1])).values())) == classes


@pytest.mark.parametrize(
    "names", ["IMG_0001.jpg IMG_0002.jpg", "a1.jpg b1.jpg", "x7f3.jpg 99ab.jpg", "cat.1.jpg dog.1.jpg"]
)
def test_no_likely_pattern_says_where_labels_can_be(tmp_path, names):
    refused(names_only(tmp_path, *names.split()), "drawn into the pixels, or kept elsewhere, cannot be read", "CSV")


def test_pictures_in_folders_are_not_said_to_have_none(tmp_path):
    root = make_folder(tmp_path / "pets")
    hint = "Leave --labels out, and the folders name the classes."
    refused(root, r"holds 36 pictures in folders\. No class can be read", hint, labels=Labels("filename"))


def test_every_guess_is_a_pattern_of_its_own():
    assert all("label" in re.compile(guess).groupindex for guess in GUESSES)
    assert len(set(GUESSES)) == len(GUESSES)


@pytest.mark.parametrize(
    ("pattern", "message", "kind"),
    [
        ("(", "is not a regular expression: missing", UsageError),
        ("abc", "has no group called label", UsageError),
        ("(?P<label>a)" + "x" * LONGEST, "has 212 letters; at most 200", UsageError),
        ("(?P<label>zebra)", r"finds no label in 2 of 2 names, such as cat.1.jpg, dog.1.jpg\.", DataError),
        (r"(?P<label>x*)", "finds no label in 2 of 2", DataError),
        (r"(?P<group>z)?(?P<label>\w+)", "finds no label in 2 of 2", DataError),
        (r"(?P<label>.jpg)", "only one class", DataError),
    ],
)
def test_patterns_that_cannot_be(tmp_path, pattern, message, kind):
    refused(names_only(tmp_path, "cat.1.jpg", "dog.1.jpg"), message, labels=Labels("filename", pattern), kind=kind)


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be there")
def test_hostile_names_can_be_printed(tmp_path):
    (tmp_path / os.fsdecode(b"a\n\xff.1.jpg")).write_text("x")
    names_only(tmp_path, "b.1.jpg")
    refused(tmp_path, r"such as a\n\\udcff\.1\.jpg|no class|No class")
    refused(tmp_path, r"^a\n\\udcff.1.jpg: .* holds a control character", labels=Labels(pattern=LABEL.replace("_", "")))


def test_classes_that_differ_by_case_only(tmp_path):
    refused(names_only(tmp_path, "Cat.1.jpg", "cat.2.jpg"), "'Cat' and 'cat' differ only", labels=Labels(pattern=LABEL))


# --- which way, and what does not go together -------------------------------------------------------------------------


def test_the_ways_are_those_of_the_recipe():
    assert {LABELS[0]} | {"folders", "paired", "filename", "table", "shards"} == set(LABELS)
    assert Recipe().data.labels == Labels().way == "auto"


def test_what_does_not_go_together_is_refused(tmp_path):
    names_only(tmp_path, "in/cat/1.jpg", "in/dog/1.jpg", "a.csv", "b.tar", "c.zip")
    refused(
        tmp_path / "in",
        "--labels table does not go with .* a folder",
        "such as labels.csv",
        labels=Labels("table"),
        kind=UsageError,
    )
    refused(tmp_path / "a.csv", "--labels folders does not go .* a table", labels=Labels("folders"), kind=UsageError)
    refused(tmp_path / "b.tar", "--labels paired does not go .* an archive", labels=Labels("paired"), kind=UsageError)
    refused(tmp_path / "a.csv", "--pattern goes with --labels filename", labels=Labels(pattern=LABEL), kind=UsageError)
    refused(tmp_path / "in", "--columns goes with --labels table", labels=Labels(columns="label=x"), kind=UsageError)
    refused("digits", "--labels folders is not for 'digits'", labels=Labels("folders"), kind=UsageError)
    refused("digits", "--pattern goes with --labels filename", labels=Labels(pattern=LABEL), kind=UsageError)
    refused(tmp_path / "c.zip", "is an archive, not a folder")
    refused(tmp_path / "none.csv", "There is no file")
    refused("none.csv", "There is no file none.csv")
    refused(tmp_path / "none", "There is no folder", labels=Labels(pattern=LABEL))
    with pytest.raises(UsageError, match=r"and '.*a.csv' is a file"):
        open_source(str(tmp_path / "a.csv"), root="x")


def test_pairs_and_lists():
    assert pairs("a=b, c = d e", flag="--x") == {"a": "b", "c": "d e"}
    assert listed('"a,b", c,,') == ["a,b", "c"]
    for text, why in (("a", "'a' is not of the form"), ("=b", "not of the form"), ("a=1,a=2", "'a=2' comes twice")):
        with pytest.raises(UsageError, match=why):
            pairs(text, flag="--x")


def test_training_testing_and_a_batch_by_file_names(tmp_path):
    pictures_named(tmp_path / "flat")
    words = ("--labels", "filename", "--pattern", LABEL)
    assert tellapart(tmp_path, "data", "show", "flat").code == 3
    shown = tellapart(tmp_path, "data", "show", "flat", *words)
    assert re.search(r"0  cat +8\n +1  dog +8", shown.out)
    done = train(tmp_path, "named", "flat", *words, "--epochs", "1", "--batch-size", "4", "--limit-per-class", "7")
    assert "14 pictures of 2 classes" in done.err
    recipe = (tmp_path / "runs" / "named" / "recipe.toml").read_text(encoding="utf-8")
    assert 'labels = "filename"  # --labels' in recipe
    judged = tellapart(tmp_path, "test", "named", "flat", "--pattern", "(?P<label>.)", "--label-map", "c=cat,d=dog")
    assert (judged.code, "accuracy on flat" in judged.out) == (0, True), judged.err
    wrong = tellapart(tmp_path, "test", "named", "--pattern", LABEL)
    assert (wrong.code, "how labels are read are for other pictures" in wrong.err) == (2, True)
    batch = tellapart(tmp_path, "data", "batch", "flat", *words, "--exclude", "", "--batch-size", "4")
    assert "(4, 12, 12, 3) torch.uint8" in batch.out, batch.err


# --- torchvision ------------------------------------------------------------------------------------------------------


def test_every_set_of_torchvision_that_is_listed_can_be_driven():
    import inspect

    from torchvision import datasets

    for name in TORCHVISION_SETS:
        takes = inspect.signature(getattr(datasets, name)).parameters
        needed = [one for one, p in takes.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        assert needed == ["root"], name
    assert list(TORCHVISION_SETS) == sorted(TORCHVISION_SETS)


def test_a_set_of_torchvision_with_its_parts(tmp_path):
    make_folder(
        tmp_path / "rendered-sst2", classes=("negative", "positive"), per_class=3, parts=("train", "valid", "test")
    )
    index = open_source("torchvision:RenderedSST2", root=str(tmp_path))
    assert (index.name, index.classes, len(index)) == ("RenderedSST2", ("negative", "positive"), 18)
    assert [index.counts(part).tolist() for part in ("train", "validation", "test")] == [[3, 3]] * 3
    there = tmp_path / "rendered-sst2" / "valid" / "positive"
    pixels = [np.asarray(Image.open(path)) for path in sorted(there.iterdir())]
    rows = index.rows("validation")[-3:]
    assert sorted(p.tobytes() for p in pixels) == sorted(np.asarray(index.store.read(int(r))).tobytes() for r in rows)
    assert len(set(index.keys)) == 18


def test_a_set_of_torchvision_without_parts_and_one_that_is_not_there(tmp_path):
    make_folder(tmp_path / "eurosat" / "2750", classes=("a", "b"), per_class=2)
    index = open_source("torchvision:EuroSAT", root=str(tmp_path))
    assert (index.parts == NO_PART).all()
    for name, hint in (("CIFAR10", "CIFAR10('"), ("FER2013", "Put its files there")):
        with pytest.raises(DataError, match=f"torchvision:{name} cannot be read below") as caught:
            open_source(f"torchvision:{name}", root=str(tmp_path))
        assert hint in caught.value.hint
    with pytest.raises(UsageError, match=r"Unknown data set of torchvision 'CIFAR'\. Did you mean"):
        open_source("torchvision:CIFAR")
    assert list(tmp_path.iterdir()) == [tmp_path / "eurosat"]


def test_the_list_names_the_sets_of_torchvision(tmp_path):
    assert "torchvision:NAME, with NAME one of CIFAR10, " in tellapart(tmp_path, "data", "list").out
    assert '"torchvision": [' in tellapart(tmp_path, "data", "list", "--json").out
