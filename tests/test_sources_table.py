"""Tables and lists as sources: every format and every fault, against naive readings, and small CSVs by the thousand."""

import contextlib
import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tellapart.data.index import NO_PART
from tellapart.data.pictures import first_pass
from tellapart.data.sources.roles import roles_of
from tellapart.data.sources.table import table
from tellapart.errors import DataError, StorageError, TellapartError, UsageError
from tellapart.preprocess import Preprocess

ROWS = [("img/1.png", "cat"), ("img/2.png", "dog"), ("img/10.png", "cat"), ("3.jpg", "10"), ("4.JPG", "9")]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the pictures of `ROWS`; each file holds its own path."""
    for name, _ in ROWS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def write(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return folder / name


def rows(*extra: str, header: str = "path,label") -> str:
    return "\n".join([header, *(",".join(row) for row in ROWS), *extra]) + "\n"


def refused(path: Path, message: str, hint: str = "", kind: type[TellapartError] = DataError, **columns: str) -> None:
    with pytest.raises(kind) as caught:
        table(path, columns)
    assert message in caught.value.message, caught.value.message
    assert hint in caught.value.hint, caught.value.hint
    assert str(caught.value).isprintable()


def test_folders_like_parts_that_no_column_names_are_said(tmp_path):
    for part in ("train", "val"):
        for n in range(2):
            (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / part / f"{n}.png").write_text("x")
    rows = [(f"set/{part}/{n}.png", "ab"[n]) for part in ("train", "val") for n in range(2)]
    text = "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows)
    said = (
        "The pictures lie in train/ and val/, but no column says their part: they are split anew. A column split keeps"
    )
    assert any(one.startswith(said) for one in table(write(tmp_path, text), {}).said)
    kept = "path,label,split\n" + "".join(f"{path},{label},{path.split('/')[1]}\n" for path, label in rows)
    for other in (kept, text.replace("val/", "train/").replace("train/0.png,a", "train/0.png,a", 1)):
        assert not any("split anew" in one and "lie in" in one for one in table(write(tmp_path, other), {}).said)


def as_expected(path: Path, **columns: str) -> None:
    index = table(path, columns)
    assert index.classes == ("9", "10", "cat", "dog")
    assert list(zip(index.keys, [index.classes[n] for n in index.labels], strict=True)) == ROWS
    assert [index.store.read(row) for row in range(5)] == [name.encode() for name, _ in ROWS]
    assert (index.parts == NO_PART).all()
    assert (index.groups, index.ignored, index.name) == (None, (), path.stem)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", rows()),
        ("a.csv", "\ufeff" + rows()),
        ("a.csv", rows().replace("\n", "\r\n")),
        ("a.csv", rows().replace(",", ";")),
        ("a.csv", rows().replace(",", "\t")),
        ("a.csv", rows().replace(",", " | ")),
        ("a.csv", "\n\n" + rows() + "\n"),
        ("a.csv", rows().replace("img/1.png,cat", '"img/1.png", "cat"'.replace(", ", ","))),
        ("a.csv", rows().replace("cat", " cat ")),
        ("a.csv", rows().replace("/", "\\")),
        ("a.csv", rows().replace("img/1.png", "./img//x/../1.png")),
        ("A.CSV", rows()),
        ("a.tsv", rows().replace(",", "\t")),
        ("a.csv", rows(header="Image,Class")),
        ("a.csv", rows(header="ID,BREED")),
        ("a.csv", "".join(f"{n},{line}\n" for n, line in enumerate(rows(header="file name,Category").splitlines()))),
        ("a.jsonl", "\n".join(json.dumps({"more": [1], "path": p, "label": t}) for p, t in ROWS)),
        ("a.ndjson", "\n\n".join(json.dumps({"file": p, "target": int(t) if t.isdigit() else t}) for p, t in ROWS)),
        ("a.txt", "\n".join("\t".join(row) for row in ROWS)),
        ("a.list", "\r\n".join(" ".join(row) for row in ROWS)),
    ],
)
def test_every_way_of_writing_the_same_table(here, name, text):
    as_expected(write(here, text, name))


def test_absolute_paths_below_the_folder_are_read(here):
    as_expected(write(here, "path,label\n" + "".join(f"{here.resolve() / p},{t}\n" for p, t in ROWS)))


def test_a_list_of_paths_takes_the_folder_as_the_class(tmp_path):
    for name in ("cats/1.png", "my dogs/a b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    index = table(write(tmp_path, "cats/1.png\nmy dogs/a b.png\n", "list.txt"), {})
    assert (index.classes, index.labels.tolist()) == (("cats", "my dogs"), [0, 1])
    assert index.said == ("list.txt: a list of pictures, the class of each is its folder's name.",)
    refused(write(tmp_path, "cats/1.png\ncats/1.png cat\n", "list.txt"), "list.txt, line 2 holds a path and a class")
    (tmp_path / "1.png").write_text("1.png")
    refused(
        write(tmp_path, "./1.png\ncats/1.png\n", "list.txt"), "list.txt, line 1, column 'folder': the label is empty"
    )


@pytest.mark.parametrize(
    ("keys", "classes", "how"),
    [
        (
            "deep/cat/s1/1.png deep/cat/s2/1.png deep/dog/s1/1.png deep/dog/s2/1.png",
            "cat cat dog dog",
            "topmost folder",
        ),
        ("cat/s1/1.png cat/2.png dog/s1/deeper/1.png", "cat cat dog", "topmost folder"),
        ("set/train/cat/1.png set/test_set/cat/1.png set/train/dog/s1/1.png", "cat cat dog", "topmost folder"),
        ("train/x/cat/1.png test/x/cat/1.png test/x/dog/1.png", "cat cat dog", "folder"),
        ("train/cat/1.png train/dog/1.png", "cat dog", "folder"),
        ("set/cat/1.png set/cat/2.png", "cat cat", "folder"),
        ("cat/train/1.png cat/test/1.png", "cat cat", "topmost folder"),
    ],
)
def test_a_list_of_paths_has_the_classes_that_its_folder_has(tmp_path, keys, classes, how):
    for key in keys.split():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_text("x")
    for lines in (keys.split(), [f"./{key}" for key in keys.split()]):
        index = table(write(tmp_path, "\n".join(lines), "list.txt"), {})
        assert [index.classes[label] for label in index.labels] == classes.split()
        assert index.said[0] == f"list.txt: a list of pictures, the class of each is its {how}'s name."


def test_a_picture_beside_the_class_folders_of_a_list_is_refused(tmp_path):
    for key in ("set/cat/1.png", "set/dog/1.png", "set/1.png"):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_text("x")
    text = "set/cat/1.png\nset/dog/1.png\nset/1.png\n"
    refused(
        write(tmp_path, text, "list.txt"), "list.txt, line 3, column 'topmost folder': the label is empty", "Give it"
    )


def test_parts_and_groups(here):
    text = rows(header="path,label,Fold,patient")
    cells = [("train", "p1"), ("VAL", "p2"), ("testing", "p1"), ("", ""), ("training", "")]
    lines = text.splitlines()
    both = [lines[0], *(f"{line},{part},{who}" for line, (part, who) in zip(lines[1:], cells, strict=True))]
    path = write(here, "\n".join(both))
    index = table(path, {})
    assert index.parts.tolist() == [0, 1, 2, NO_PART, 0]
    assert index.groups is not None
    groups = index.groups.tolist()
    assert groups[0] == groups[2]
    assert len(set(groups)) == 4
    assert index.said == (
        "labels.csv: path from 'path', label from 'label', split from 'Fold', group from 'patient' "
        "(guessed; --columns says otherwise).",
        "Parts as given: 2 train, 1 validation, 1 test, 1 not placed.",
        "2 groups of pictures are named; 2 pictures have none and stand alone.",
    )
    plain = table(path, {"split": "", "group": ""})
    assert (plain.groups, set(plain.parts.tolist())) == (None, {NO_PART})
    asked = table(path, {"path": "path", "label": "label", "group": "Fold", "split": ""})
    assert asked.groups is not None
    assert asked.said[0] == "labels.csv: path from 'path', label from 'label', group from 'Fold'."


def test_one_part_alone_is_split_anew(here):
    text = "\n".join(f"{line},{'split' if n == 0 else 'train'}" for n, line in enumerate(rows().splitlines()))
    index = table(write(here, text), {})
    assert (index.parts == NO_PART).all()
    assert index.said[1] == "Only the part train is there: its pictures are split anew."


def test_as_in_dog_breed_pictures_lie_in_train_and_ids_have_no_extension(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    for name in ("train/000bec180eb18c7604dcecc8fe0dba07.jpg", "train/v1.5.jpg", "test/x.jpg", "top.jpg"):
        (tmp_path / name).write_text(name)
    breeds = "id,breed\n000bec180eb18c7604dcecc8fe0dba07,boston_bull\nv1.5,dingo\ntop,dingo\n"
    index = table(write(tmp_path, breeds), {})
    assert index.keys[:] == ["train/000bec180eb18c7604dcecc8fe0dba07.jpg", "train/v1.5.jpg", "top.jpg"]
    assert index.said[1:] == ("Pictures found in train/: 2.",)
    (tmp_path / "train" / "0.jpg").write_text("no row")
    (tmp_path / "train" / "._0.jpg").write_text("litter")
    said = "1 picture in the same folders without a row: not read."
    assert table(tmp_path / "labels.csv", {}).said[2:] == (said,)
    (tmp_path / "test" / "v1.5.jpg").write_text("twin")
    refused(tmp_path / "labels.csv", "line 3, column 'id': 'v1.5' may mean train/v1.5.jpg and test/v1.5.jpg")
    (tmp_path / "top.png").write_text("twin")
    refused(write(tmp_path, breeds.replace("v1.5", "x")), "column 'id': 'top' may mean top.", "and the extension")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "No column of labels.csv can be told to be the path. Its columns are: none.", "--columns"),
        ("path,label\n", "labels.csv names no picture", "row for each picture"),
        ("a,b\n1,2\n", "Its columns are: 'a', 'b'.", '--columns "path=…,label=…"'),
        ("path\nimg/1.png\n", "No column of labels.csv can be told to be the label", "--columns"),
        ("img/1.png,cat\nimg/2.png,dog\n", "told to be the path", "first line is a picture already"),
        (rows(header="path,label").replace("path,label", "path,file"), "'path' and 'file'", "--columns"),
        ("path,label,class\n", "The columns 'label' and 'class' of labels.csv may each be the label", "label=label"),
        ("path,label,patient,video\n", "may each be the group", "group=patient"),
        ("path,path,label\n", "The columns 'path' and 'path'", ""),
        (rows("img/1.png"), "labels.csv, line 7 has 1 cells; the header has 2", "double quotes"),
        (rows("a,b,c"), "labels.csv, line 7 has 3 cells", ""),
        (rows('"img/1.png,cat'), "labels.csv, line 7 cannot be cut into cells", "left open"),
        (rows().replace("\n", "\r"), "labels.csv, line 1 cannot be cut into cells", ""),
        (rows("img/\0.png,cat"), "labels.csv, line 7 holds a zero byte", "UTF-16"),
        (rows().encode("utf-16"), "labels.csv, line 1 holds a zero byte", "UTF-8"),
        (rows("b\xe4r.png,cat").encode("latin-1"), "labels.csv, line 7 is not UTF-8", "Save"),
        (rows("x" * (1 << 20)), "labels.csv, line 7 has more than", "line ends"),
        (rows("x.png,", "y.png,").replace("x.png,", "img/1.png,"), "labels.csv, line 7, column 'label'", ""),
        (rows(",cat"), "labels.csv, line 7, column 'path': the path is empty", "remove the row"),
        (rows("img/1.png,dog"), "line 7, column 'label': img/1.png is 'dog' here, and 'cat' in line 2", "one row"),
        (rows("img/11.png,cat", "a.png,cat", "b.png,cat", "c.png,cat"), "4 of 9 pictures", "were looked for in"),
        (rows("img/11.png,cat", "a.png,cat"), "line 7: 'img/11.png', line 8: 'a.png'.", ""),
        (rows("img/,cat"), "line 7: 'img/'", ""),
        (rows(".,cat"), "line 7: '.'", ""),
        (rows("../x.png,cat"), "line 7, column 'path': '../x.png' leaves the table's folder", "all its pictures"),
        (rows("img/../../x.png,cat"), "leaves the table's folder", ""),
        (rows("..\\x.png,cat"), "leaves the table's folder", ""),
        (rows("/etc/passwd.png,cat"), "'/etc/passwd.png' leaves", ""),
        (rows("C:\\pictures\\x.png,cat"), "leaves the table's folder", ""),
        (rows("https://example.org/1.png,cat"), "is an address on the net", "Download"),
        (rows("labels.csv,cat").replace("3.jpg,10\n", 'x.png,"a\nb"\n'), "'x.png'", ""),
        (rows().replace("3.jpg,10", '3.jpg,"a\nb"'), "the label 'a\\nb' holds a control character", "Repair"),
    ],
)
def test_faults_are_named_with_their_line(here, text, message, hint):
    refused(write(here, text), message, hint)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "labels.jsonl, line 2 is not JSON"),
        ("[" * 100_000, "labels.jsonl, line 2 is not JSON"),
        ("[1]", "labels.jsonl, line 2 is not a JSON object"),
        ('{"path": "3.jpg", "label": ["a", "b"]}', "labels.jsonl, line 2, column 'label': the label is a list"),
        ('{"path": "3.jpg", "label": 1.5}', "labels.jsonl, line 2, 'label' is float"),
        ('{"path": "3.jpg", "label": true}', "labels.jsonl, line 2, 'label' is bool"),
        ('{"path": "3.jpg", "label": null}', "labels.jsonl, line 2, column 'label': the label is empty"),
        ('{"path": "3.jpg"}', "labels.jsonl, line 2, column 'label': the label is empty"),
        ('{"path": "\\ud800.jpg", "label": "x"}', "holds a character that no file name has"),
        ('{"path": "\\u0000.jpg", "label": "x"}', "holds a character that no file name has"),
        ('{"path": "3.jpg", "label": "\\ud800"}', "holds a control character"),
    ],
)
def test_faults_of_json_lines(here, line, message):
    refused(write(here, '{"path": "img/1.png", "label": "cat"}\n' + line, "labels.jsonl"), message)


def test_columns_that_do_not_exist(here):
    path = write(here, rows())
    refused(path, "has no column 'labl' for the label", "Did you mean 'label'?", UsageError, label="labl")
    refused(path, "A table has no role 'lable'.", "Did you mean 'label'?", UsageError, lable="label")
    with pytest.raises(DataError, match=r"The column .label. of .* stands for two things"):
        table(path, {"path": "label", "label": "label"})
    refused(path, "can be told to be the label", "", label="")
    refused(here / "x.xlsx", "is not a table that can be read", ".parquet", UsageError)
    refused(here / "no.csv", "cannot be read: No such file", "", StorageError)


def test_files_that_are_no_pictures_and_rows_that_come_twice_are_named(here):
    write(here, "no picture", "notes.txt")
    index = table(write(here, rows("img/1.png,cat", "./img/1.png,cat", "notes.txt,cat", "labels.csv,dog")), {})
    assert len(index) == 5
    assert [(one.key, one.reason) for one in index.ignored] == [
        ("img/1.png", "named again in line 7 (first: 2)"),
        ("img/1.png", "named again in line 8 (first: 2)"),
        ("notes.txt", ".txt is not read"),
        ("labels.csv", ".csv is not read"),
    ]
    refused(write(here, "path,label\nnotes.txt,cat\n"), "names no picture that is read: notes.txt is none")


def test_a_part_or_group_that_differs_is_refused(here):
    text = rows(header="path,label,split").replace("\n", ",\n").replace("split,", "split")
    refused(write(here, text + "img/1.png,cat,test\n"), "column 'split': img/1.png is 'test' here, and '' in line 2")
    refused(write(here, text.replace("dog,", "dog,tset")), "line 3, column 'split': 'tset' is not the name", "")


def test_labels_that_differ_by_case_are_refused_and_accents_are_one_class(here):
    text = rows().replace("10\n", "Cats\n").replace(",9", ",caf\u00e9").replace("dog", "cafe\u0301")
    index = table(write(here, text), {})
    assert index.classes == ("caf\u00e9", "cat", "Cats")
    assert index.labels.tolist() == [1, 0, 1, 2, 0]
    assert len(index.said) == 1
    refused(
        write(here, text.replace("Cats", "Cat")),
        "line 2, column 'label' (and 1 more): The classes 'Cat' and 'cat' differ only by upper",
        "one spelling",
    )


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_stay_inside(here, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "1.png").write_text("outside")
    (here / "link.png").symlink_to(here / "3.jpg")
    path = write(here, rows("link.png,cat"))
    (here / "unused.png").symlink_to(outside / "1.png")
    assert len(table(path, {})) == 6
    refused(write(here, rows("unused.png,cat")), "line 7, column 'path': 'unused.png' leaves the table's folder", "")
    (here / "away").symlink_to(outside)
    refused(write(here, rows("away/1.png,cat")), "'away' leaves the table's folder", "")
    (here / "loop.png").symlink_to(here / "loop.png")
    refused(write(here, rows("loop.png,cat")), "1 of 6 pictures", "")


def test_a_folder_that_cannot_be_read_is_a_storage_error(here, monkeypatch):
    def denied(path: str):
        raise PermissionError(13, "Permission denied")

    path = write(here, rows())
    monkeypatch.setattr(os, "scandir", denied)
    refused(path, "cannot be read: Permission denied", "permissions", StorageError)


def test_sure_names_go_before_weak_ones():
    header = ["id", "name", "Image Path", "label", "split", "fold"]
    roles = roles_of(header, {}, where="t")
    assert roles == {"path": "Image Path", "label": "label", "split": "split"}


CELLS = st.sampled_from(
    ["img/1.png", "3.jpg", "3", "", "cat", "dog", "../3.jpg", "x.png", "\ufeff", '"', "\0", "\r", "é;"]
)
TEXTS = st.one_of(
    st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=5).map(
        lambda lines: "path,label,split\n" + "\n".join(",".join(line) for line in lines)
    ),
    st.lists(st.tuples(st.sampled_from(ROWS), st.sampled_from(["train", "test", ""])), max_size=6).map(
        lambda lines: "path,label,split\n" + "\n".join(f"{p},{t},{s}" for (p, t), s in lines)
    ),
    st.text(max_size=60),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, name=st.sampled_from(["f.csv", "f.jsonl", "f.txt"]))
def test_any_text_is_an_index_or_an_error_of_ours(here, text, name):
    path = write(here, text.encode("utf-8", "surrogatepass"), name)
    with contextlib.suppress(DataError, StorageError):
        index = table(path, {})
        if name == "f.csv":
            assert plainly(text, index.classes) == set(zip(index.keys, index.labels.tolist(), strict=True))


def plainly(text: str, classes: tuple[str, ...]) -> set[tuple[str, int]]:
    """What a careless person would read: path and label of every row, by the csv module's own dictionaries."""
    lines = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    found = {(row["path"].strip(), classes.index(row["label"].strip())) for row in lines}
    return {("3.jpg" if path == "3" else path, label) for path, label in found}


def test_pixels_arrive(tmp_path):
    for n in range(4):
        Image.fromarray(np.full((4, 4, 3), 50 * n, np.uint8)).save(tmp_path / f"{n}.png")
    path = write(tmp_path, "path,label\n" + "".join(f"{n}.png,{'ab'[n % 2]}\n" for n in range(4)))
    pictures = first_pass(table(path, {}), Preprocess(size=4, channels=1), skip_bad=False, memory=1 << 20)
    assert pictures.pixels.gather(np.arange(4))[:, 0, 0, 0].tolist() == [0, 50, 100, 150]
