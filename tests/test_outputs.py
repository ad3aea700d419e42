"""What a person names for an output never replaces what is something else."""

from pathlib import Path

import pytest
from commands import tellapart
from pictures import make_folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    make_folder(tmp_path / "pets", classes=("cat", "dog"))
    lines = [f"pets/{one.parent.name}/{one.name},{one.parent.name}\n" for one in (tmp_path / "pets").rglob("*.png")]
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(lines), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "check labels.csv --only files --quarantine labels.csv",
        "check labels.csv --only files --html labels.csv",
        "check labels.csv --only files --html {picture}",
        "split labels.csv --out labels.csv",
        "split pets --out {picture}",
        "data show pets --export {picture}",
        "data show pets --export labels.csv",
        "data show pets --out {picture}",
    ],
)
def test_a_picture_or_a_table_of_the_person_is_not_replaced(here: Path, words: str) -> None:
    picture = next((here / "pets").rglob("*.png")).relative_to(here)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    done = tellapart(here, *words.format(picture=picture).split())
    assert done.code in (2, 4), done
    assert " exists, and " in done.err
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


def test_a_check_writes_into_no_second_source(here: Path) -> None:
    make_folder(here / "more", classes=("cat", "dog"), per_class=3)
    done = tellapart(here, *["check", "pets", "--test-from", "more", "--only", "files", "--html", "more/page.html"])
    assert (done.code, "more/page.html lies in the folder that is checked" in done.err) == (2, True)


def test_an_edited_split_is_kept_and_the_same_split_is_written_again(here: Path) -> None:
    for _ in range(2):
        assert tellapart(here, *["split", "pets", "--out", "split.csv"]).code == 0
    edited = (here / "split.csv").read_text(encoding="utf-8").replace(",train,", ",test,", 1)
    (here / "split.csv").write_text(edited, encoding="utf-8")
    done = tellapart(here, *["split", "pets", "--out", "split.csv"])
    assert (done.code, "it may have been edited" in done.err) == (2, True)
    assert (here / "split.csv").read_text(encoding="utf-8") == edited


def test_what_was_made_before_is_made_anew(here: Path) -> None:
    for words in ("check pets --only files --html page.html --quarantine bad.csv", "data show pets --export all.npy"):
        for _ in range(2):
            assert tellapart(here, *words.split()).code == 0
