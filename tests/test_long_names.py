"""Class names of 100,000 letters: what is shown loses their middle, what is stored and what programs get does not."""

import csv
import json
from pathlib import Path

import pytest
from commands import Done, tellapart, train
from pictures import make_folder

LETTERS = 100_000
NAMES = {"cat": "x" * LETTERS, "dog": "x" * (LETTERS + 1), "fox": "a fox " * (LETTERS // 6)}
SHOWN = "x" * 38 + "…" + "x" * 39
LINE = 2_000
"""Letters of a line with several names."""


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Done:
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets", classes=tuple(NAMES), size=24, per_class=30)
    with (at / "labels.csv").open("w", newline="") as file:
        every = sorted((at / "pets").rglob("*.png"))
        csv.writer(file).writerows([("path", "label"), *((str(p), NAMES[p.parent.name]) for p in every)])
    train(at, "b", "labels.csv", "--epochs", "1", "--no-test", "--seed", "3")
    return train(at, "a", "labels.csv", "--epochs", "1")  # so that it errs, and names of classes are in its mistakes


def longest(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)


def test_training_and_its_report_show_both_ends(pets: Done) -> None:
    assert longest(pets.out + pets.err) < LINE
    numbers = [line[:1] for line in pets.out.splitlines() if line[2:].startswith(SHOWN)]
    assert sorted(numbers) in (["0", "1"], ["1", "2"])  # two that would look alike
    assert tellapart(pets.at, "report", "a").code == 0
    assert (pets.run("a").folder / "report.html").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    "words",
    [
        ("test", "a", "--mistakes", "m.png"),
        ("predict", "a", "pets/dog/00.png"),
        ("verify", "a"),
        ("why", "a", "pets/dog/00.png"),
        ("compare", "a", "b"),
        ("data", "show", "labels.csv"),
        ("split", "labels.csv", "--out", "s.csv"),
    ],
    ids=lambda words: words[0],
)
def test_no_line_of_a_verb_is_as_long_as_a_name(pets: Done, words: tuple[str, ...]) -> None:
    done = tellapart(pets.at, *words)
    assert done.code == 0, done.err[:1000]
    assert longest(done.out + done.err) < LINE
    assert "…" in done.out


def test_programs_and_files_get_the_whole_name(pets: Done) -> None:
    done = tellapart(pets.at, "predict", "a", str(Path("pets", "dog", "00.png")), "--json")
    assert {one["class"] for one in json.loads(done.out)["predictions"][0]["top"]} == {
        name.strip() for name in NAMES.values()
    }
    assert (pets.run("a").folder / "split.csv").stat().st_size > 60 * LETTERS
