"""A folder of class folders: order, parts, what is ignored and named, and the words of every refusal."""

import os
import re
import unicodedata
from pathlib import Path

import pytest

from tellapart.data.index import NO_PART
from tellapart.data.select import refuse_empty
from tellapart.data.sources.folder import folder
from tellapart.data.sources.table import table
from tellapart.errors import DataError, StorageError


def plant(root: Path, *paths: str) -> Path:
    """Make files (a name that ends in `/` is a folder), each holding its own path."""
    for path in paths:
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path)
    return root


def refused(root: Path, message: str, hint: str = "", kind: type[Exception] = DataError) -> None:
    with pytest.raises(kind) as caught:
        folder(root)
    assert re.search(message, caught.value.message), caught.value.message  # type: ignore[attr-defined]
    assert hint in caught.value.hint  # type: ignore[attr-defined]


PARTED = ("train/ants/1.jpg", "train/bees/1.jpg", "val/ants/2.jpg", "val/bees/2.jpg")


def test_flat_folder_in_natural_order(tmp_path):
    plant(tmp_path, *(f"class{c}/img{n}.png" for c in (10, 2) for n in (10, 9, 1)))
    index = folder(tmp_path)
    assert index.classes == ("class2", "class10")
    assert index.keys[:] == [f"class{c}/img{n}.png" for c in (2, 10) for n in (1, 9, 10)]
    assert index.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (index.parts == NO_PART).all()
    assert (index.name, index.ignored, index.said) == (tmp_path.name, (), ())
    assert index.store.read(5) == b"class10/img10.png"


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("training", "valid", "testing"),
        ("Train", "validation", "TEST"),
        ("train", "dev", "test"),
        ("training_set", "Validation-Set", "test_set"),
        ("Train_data", "val data", "Test_data"),
        ("train_images", "val_imgs", "test_images"),
        ("seg_train", "seg_val", "seg_test"),
        ("train2017", "val2017", "test2017"),
        ("trainset", "split1_valid", "dataset_testing"),
    ],
)
def test_parts_by_their_usual_names(tmp_path, names):
    plant(tmp_path, *(f"{part}/{name}/{part}-{name}.jpg" for part in names for name in ("bees", "ants")))
    index = folder(tmp_path)
    assert index.classes == ("ants", "bees")
    assert index.parts.tolist() == [0, 0, 1, 1, 2, 2]
    assert index.labels.tolist() == [0, 1] * 3
    assert index.keys[:] == [f"{part}/{name}/{part}-{name}.jpg" for part in names for name in ("ants", "bees")]
    assert index.said == (f"Parts as given: {names[0]}/ is train, {names[1]}/ is validation, {names[2]}/ is test.",)


def test_taken_rows_still_find_their_files(tmp_path):
    index = folder(plant(tmp_path, *PARTED))
    chosen = index.take(index.rows("validation"))
    assert [chosen.store.read(row) for row in range(2)] == [b"val/ants/2.jpg", b"val/bees/2.jpg"]


def test_only_train_is_split_anew(tmp_path):
    index = folder(plant(tmp_path, "train/a/1.jpg", "train/b/1.jpg"))
    assert index.classes == ("a", "b")
    assert (index.parts == NO_PART).all()
    assert index.said == ("Only train/ is there, without another part: its pictures are split anew.",)


def test_a_class_may_be_called_train(tmp_path):
    assert folder(plant(tmp_path / "1", "train/1.jpg", "bus/1.jpg", "test/2.jpg")).classes == ("bus", "test", "train")
    assert folder(plant(tmp_path / "2", "train/steam/1.jpg", "bus/red/1.jpg")).classes == ("bus", "train")


def test_folders_inside_a_class_belong_to_it(tmp_path):
    index = folder(plant(tmp_path, "a/x/y/1.jpg", "a/2.jpg", "b/z/3.jpg"))
    assert index.keys[:] == ["a/2.jpg", "a/x/y/1.jpg", "b/z/3.jpg"]
    assert index.labels.tolist() == [0, 0, 1]


def test_extensions_in_any_case_and_litter_without_a_word(tmp_path):
    pictures = [
        f"a/{n}{ext}"
        for n, ext in enumerate((".jpg", ".JPEG", ".png", ".ppm", ".pgm", ".pbm", ".bmp", ".tif", ".TIFF", ".webp"))
    ]
    plant(
        tmp_path,
        *pictures,
        "b/1.jpg",
        "a/.DS_Store",
        "a/._0.jpg",
        "b/Thumbs.db",
        "b/desktop.ini",
        ".git/x/1.jpg",
        "__MACOSX/a/1.jpg",
        "a/.ipynb_checkpoints/1.jpg",
        "README.md",
    )
    index = folder(tmp_path)
    assert index.keys[:10] == pictures
    assert (len(index), index.classes, index.ignored) == (11, ("a", "b"), ())


def test_other_files_are_named(tmp_path):
    plant(
        tmp_path,
        *PARTED,
        "train/ants/imageNotFound.gif",
        "train/ants/deep/notes",
        "loose.jpg",
        "val/loose.png",
        "annotations/a.xml",
    )
    assert [(entry.key, entry.reason) for entry in folder(tmp_path).ignored] == [
        ("annotations/", "a folder beside the parts train, val"),
        ("loose.jpg", "a picture beside the parts train, val"),
        ("train/ants/deep/notes", "a file without extension is not read"),
        ("train/ants/imageNotFound.gif", ".gif is not read"),
        ("val/loose.png", "a picture outside the class folders"),
    ]


def test_empty_files_are_kept_for_decoding_to_report(tmp_path):
    plant(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a/0.jpg").write_bytes(b"")
    index = folder(tmp_path)
    assert index.keys[0] == "a/0.jpg"
    assert index.store.read(0) == b""


def tree(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    return {
        str(path): (path.stat().st_mode, path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    } | {
        str(path): (path.stat().st_mode, path.stat().st_mtime_ns, path.stat().st_ino, b"")
        for path in root.rglob("*")
        if path.is_dir()
    }


def test_reading_opens_for_reading_only_and_changes_nothing(tmp_path, monkeypatch):
    plant(tmp_path, *PARTED)
    before, flags, real = tree(tmp_path), [], os.open

    def watched(path, flag, *args, **more):
        flags.append(flag)
        return real(path, flag, *args, **more)

    index = folder(tmp_path)
    monkeypatch.setattr(os, "open", watched)
    for row in range(len(index)):
        index.store.read(row)
    monkeypatch.undo()
    assert len(flags) == 4
    assert all(flag & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) == 0 for flag in flags)
    assert tree(tmp_path) == before


def test_a_file_that_went_away_is_a_storage_error(tmp_path):
    index = folder(plant(tmp_path, *PARTED))
    (tmp_path / "train/bees/1.jpg").unlink()
    with pytest.raises(StorageError, match=r"train/bees/1\.jpg below .* cannot be read: No such file"):
        index.store.read(1)


# what cannot be read as classes


def test_missing_folder_file_and_empty_folder(tmp_path):
    plant(tmp_path, "flowers/", "picture.jpg")
    refused(tmp_path / "flower", "There is no folder .*flower", f"Did you mean '{tmp_path / 'flowers'}'?")
    refused(tmp_path / "x/y", "There is no folder .*y", "x is not there either.")
    refused(tmp_path / "picture.jpg", "picture.jpg is a file, not a folder", "Name the folder that holds")
    refused(tmp_path / "flowers", "holds no class folders and no pictures", "flowers/train/daisy/1.jpg")


def test_pictures_without_class_folders(tmp_path):
    plant(tmp_path, "1.jpg", "2.jpg", "flat/train/1.jpg", "flat/test/1.jpg")
    for path in (tmp_path / "flat/train", tmp_path / "flat"):
        refused(
            path,
            r"train holds pictures directly \(1\) and no class folders, so none has a class",
            "Put each picture in a folder named after its class. For example: flowers/daisy/1.jpg",
        )


def test_a_test_folder_without_classes(tmp_path):
    plant(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg")
    refused(tmp_path, r"test holds pictures directly \(1\) and no class folders")


def test_class_empty_in_one_part(tmp_path):
    for root in (plant(tmp_path / "1", *PARTED, "test/ants/1.jpg", "test/bees/"), tmp_path / "2"):
        plant(root, *PARTED, "test/ants/1.jpg")
        index = folder(root)
        assert [index.counts(part).tolist() for part in ("train", "validation", "test")] == [[1, 1], [1, 1], [1, 0]]
        with pytest.raises(
            DataError, match=r"^Class 'bees' has no picture in the test part \(2 in all\)\. .*--exclude 'bees'$"
        ):
            refuse_empty(index)
        refuse_empty(index, ["test"])
    with pytest.raises(DataError, match=r"^Class 'b' has no picture; not read there: b/1\.gif, b/2\.gif\. "):
        refuse_empty(folder(plant(tmp_path / "3", "a/1.jpg", "b/1.gif", "b/2.gif")))


def test_a_part_without_any_picture_is_refused_and_not_made_from_another(tmp_path):
    refused(
        plant(tmp_path / "1", *PARTED[:2], "val/ants/1.gif", "val/bees/"),
        "^val/ holds class folders and no pictures; not read are val/ants/1.gif",
        "Read are .jpg",
    )
    refused(plant(tmp_path / "2", "a/", "b/"), "2 holds class folders and no pictures")


def test_class_that_training_does_not_have(tmp_path):
    refused(
        plant(tmp_path, *PARTED, "val/wasps/1.jpg"),
        "^val/ has the class 'wasps', which train/ does not have.$",
        "train/ has 'ants', 'bees'.",
    )


def test_names_that_differ_by_case(tmp_path):
    plant(tmp_path, "train/Ants/1.jpg", "train/bees/1.jpg", "val/ants/1.jpg", "val/bees/1.jpg")
    refused(tmp_path, "^The classes 'Ants' and 'ants' differ only by upper and lower case.$", "one spelling")


def test_names_that_differ_by_normalisation(tmp_path):
    composed, apart = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    plant(tmp_path, f"train/{composed}/1.jpg", "train/b/1.jpg", f"val/{apart}/1.jpg", "val/b/1.jpg")
    refused(tmp_path, r"^The classes '\\xe9' and 'e\\u0301' differ only by how an accent is encoded", "one spelling")


def test_class_names_are_composed(tmp_path):
    apart = unicodedata.normalize("NFD", "é")
    assert folder(plant(tmp_path, f"{apart}/1.jpg", "b/1.jpg")).classes == ("b", unicodedata.normalize("NFC", "é"))


def test_unclear_parts(tmp_path):
    refused(
        plant(tmp_path / "1", *PARTED, "valid/ants/1.jpg"),
        "^val/ and valid/ are both the validation part.$",
        "Keep one",
    )
    refused(
        plant(tmp_path / "2", "val/a/1.jpg", "test/a/1.jpg"),
        r"has test/ and val/ and no train/ folder",
        "Add the folder",
    )
    refused(
        plant(tmp_path / "3", "train/a/1.jpg", "train/b/1.jpg", "validaton/a/1.jpg", "validaton/b/1.jpg"),
        "^train/ and validaton/ hold the same class folders, but validaton/ is not a part's name.$",
        "Call it one of",
    )


def test_folders_called_like_parts_with_the_same_folders_in_them_are_not_taken_for_classes(tmp_path):
    for first, second in (("train-old", "other"), ("my train pictures", "my holdout"), ("valid_a", "b")):
        root = plant(tmp_path / first, *(f"{top}/{name}/1.jpg" for top in (first, second) for name in ("ants", "bees")))
        refused(
            root, f"^{second}/ and {first}/ hold the same class folders, but {first}/ is not a part's", "Call it one of"
        )


def test_classes_whose_folders_are_called_alike_stay_classes_and_that_is_said(tmp_path):
    for classes in (("cat", "dog"), ("valley", "devil"), ("trolley", "contest")):
        root = plant(tmp_path / classes[0], *(f"{one}/{eye}/1.jpg" for one in classes for eye in ("left", "right")))
        index = folder(root)
        assert (index.classes, index.labels.tolist()) == (tuple(sorted(classes)), [0, 0, 1, 1])
        named = ", ".join(sorted(classes))
        assert index.said == (f"The classes are {named}, and not the folders of the same names in them (left, right).",)
    apart = plant(tmp_path / "apart", "cat/s1/1.jpg", "cat/s2/1.jpg", "dog/s2/1.jpg", "dog/s3/1.jpg")
    beside = plant(
        tmp_path / "beside",
        *(f"{one}/{n}" for one in ("train station", "bus") for n in ("1.jpg", "a/1.jpg", "b/1.jpg")),
    )
    assert [folder(root).said for root in (apart, beside)] == [(), ()]
    assert folder(beside).classes == ("bus", "train station")


def test_parts_below_the_classes_are_said_to_be_split_anew(tmp_path):
    root = plant(tmp_path, *(f"{one}/{part}/1.jpg" for one in ("cat", "dog") for part in ("train", "val_set", "test")))
    index = folder(root)
    assert index.classes == ("cat", "dog")
    assert (index.parts == NO_PART).all()
    said = "The pictures lie in test/ and train/ and val_set/ below their classes: they are split anew. Parts above"
    assert index.said[0].startswith(said)
    (root / "all.txt").write_text("\n".join(index.keys))
    listed = table(root / "all.txt", {})
    assert (listed.classes, listed.labels.tolist()) == (index.classes, index.labels.tolist())
    assert any(one.startswith("The pictures lie in test/ and train/ and val_set/, but no") for one in listed.said)
