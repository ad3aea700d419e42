"""Faults planted in whole trainings: each brings its sentence, on the screen and into the run, and its twin none."""

import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from commands import Done, tellapart, train
from numpy.typing import NDArray
from pictures import draw, make_folder
from PIL import Image

from tellapart.data.pictures import MemoryPixels

WORDS = ("--epochs", "6", "--batch-size", "32", "--no-test")
FAULTS = (
    "diverged",
    "not converging",
    "not finite",
    "label noise suspected",
    "leak",
    "loader-bound",
    "tiny validation part",
    "never found",
)
"""What a run calls the faults; a line that begins so says it on the screen."""
LEFT_OUT = "its pixels are those of a picture that is judged"
"""What is said of each picture that would leak and is left out."""


def said(done: Done, name: str) -> set[str]:
    """Which faults the run keeps: all of them are on the screen, with all they say, and no others are."""
    found = {one["label"]: one["text"] for one in done.run(name).status()["diagnosis"] if one["label"] in FAULTS}
    screen = done.out + done.err
    assert all(text in screen for text in found.values()), screen
    assert all(f"{label}: " not in screen for label in FAULTS if label not in found), screen
    return set(found)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures `pets`, 200 of each of three classes: the clean twin of all faults."""
    folder = tmp_path_factory.mktemp("faults")
    make_folder(folder / "pets", per_class=200)
    return folder


def test_a_clean_training_brings_none_of_the_sentences(at: Path) -> None:
    done = train(at, "clean", "pets", *WORDS)
    assert said(done, "clean") == set()
    assert LEFT_OUT not in done.err


def test_a_learning_rate_that_is_too_high_is_said(at: Path) -> None:
    done = tellapart(at, "train", "pets", *WORDS, "--lr", "1e6", "--run", "wild")
    assert done.code == 5, done.err
    assert said(done, "wild") == {"diverged"}
    assert "hint: Try a lower learning rate, such as --lr with a tenth of this one." in done.err


def test_label_noise_is_said(at: Path) -> None:
    shutil.copytree(at / "pets", at / "wrong")
    chance = random.Random(1)
    for path in sorted((at / "wrong").rglob("*.png")):
        if chance.random() < 0.3:
            other = chance.choice([one for one in ("cat", "dog", "fox") if one != path.parent.name])
            path.rename(at / "wrong" / other / f"{path.parent.name}-{path.name}")
    assert said(train(at, "noisy", "wrong", *WORDS), "noisy") == {"label noise suspected"}


def test_a_leak_across_the_split_is_left_out_and_named_or_if_it_is_kept_is_said(at: Path) -> None:
    folder, keep = make_folder(at / "leaky", per_class=60, parts=("train", "val", "test")), ("--set", "data.leaks=keep")
    words = ("leaky", *WORDS, "--batch-size", "16")
    assert said(train(at, "tight", *words, *keep), "tight") == set()
    for n in range(7):
        shutil.copy(folder / f"val/cat/{n:02}.png", folder / f"train/cat/copy-{n}.png")
    left = train(at, "left", *words)
    assert left.err.count("note: left out: train/cat/copy-") == 5
    assert (left.run("left").folder / "log.txt").read_text().count(f": train: {LEFT_OUT}") >= 7
    assert said(left, "left") == set()
    kept = train(at, "kept", *words, *keep)
    assert said(kept, "kept") == {"leak"}
    assert "leak: 7 pictures have the pixels of one that is judged, so its numbers flatter" in kept.out
    assert LEFT_OUT not in kept.err


def test_a_starved_loader_is_said(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gather = MemoryPixels.gather

    def slowly(self: MemoryPixels, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        time.sleep(0.06)
        return gather(self, rows)

    monkeypatch.setattr(MemoryPixels, "gather", slowly)
    assert said(train(at, "starved", "pets", *WORDS, "--epochs", "3"), "starved") == {"loader-bound"}


def test_a_tiny_validation_part_is_said(at: Path) -> None:
    make_folder(at / "few", per_class=24)
    words = ("few", "--epochs", "12", "--batch-size", "8", "--no-test")
    assert said(train(at, "few", *words), "few") == {"tiny validation part"}


def test_a_class_that_collapsed_is_said(at: Path) -> None:
    for name in ("alike", "apart"):
        shutil.copytree(at / "pets", at / name)
        (at / name / "wolf").mkdir()
        for n in range(50):
            pixels = draw(1, 3, (9, n), 12)  # as a dog is, or with the bar upright
            Image.fromarray(pixels if name == "alike" else np.rot90(pixels)).save(at / name / "wolf" / f"{n}.png")
        done = train(at, f"wolf-{name}", name, *WORDS)
        assert said(done, f"wolf-{name}") == ({"never found"} if name == "alike" else set())
