"""torch or onnxruntime for many pictures: the faster that answers alike, the same one to the end of a file."""

import csv
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from commands import Done, tellapart, train
from pictures import make_folder

from tellapart.workflow import engines


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Done:
    pytest.importorskip("onnxscript", reason="pip install 'tellapart[onnx]'")
    pytest.importorskip("onnxruntime", reason="pip install 'tellapart[onnx]'")
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets", per_class=30)
    done = train(at, "a", "pets", "--epochs", "3", "--batch-size", "8", "--no-test")
    (at / "pets/cat/00.png").write_bytes(b"no picture")
    return done


def answered(pets: Done, out: str, *words: str) -> tuple[list[list[str]], str]:
    done = tellapart(pets.at, "predict", "a", "pets", "--out", out, "--device", "cpu", *words)
    assert done.code == 3, done.err
    with (pets.at / out).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file)), done.err


def alike(ours: list[list[str]], theirs: list[list[str]]) -> bool:
    """The same but for the last digits of the numbers."""
    numbers = [abs(float(a) - float(b)) for x, y in zip(ours[1:], theirs[1:], strict=True) for a, b in _shares(x, y)]
    return [(x[:2], x[4]) for x in ours] == [(y[:2], y[4]) for y in theirs] and 0 < max(numbers) < 1e-4


def _shares(ours: list[str], theirs: list[str]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in zip(ours[5:], theirs[5:], strict=True) if a or b]


def test_both_answer_alike_and_a_file_stays_with_its_engine(pets: Done) -> None:
    ours, said = answered(pets, "torch.csv", "--engine", "torch")
    theirs, _ = answered(pets, "onnx.csv", "--engine", "onnxruntime")
    assert "computed by" not in said
    assert alike(ours, theirs)
    seen, _ = answered(pets, "seen.csv", "--engine", "onnxruntime", "--views", "mirror,shift")
    assert alike(answered(pets, "views.csv", "--views", "mirror,shift")[0], seen)
    whole = (pets.at / "onnx.csv").read_bytes()
    done = tellapart(pets.at, "predict", "a", "pets", "--out", "onnx.csv", "--engine", "torch")
    assert (done.code, "onnx.csv is there already, and is of another engine." in done.err) == (2, True)
    (pets.at / "onnx.csv").write_bytes(whole[:-200])
    _, said = answered(pets, "onnx.csv")
    assert said.startswith("computed by onnxruntime, as it was begun\nonnx.csv has 64 pictures already\n")
    assert (pets.at / "onnx.csv").read_bytes() == whole


def test_auto_takes_the_faster_one_where_the_work_is_large(pets: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, said = answered(pets, "few.csv")
    assert "computed by" not in said
    monkeypatch.setattr(engines, "LEAST", 64)
    monkeypatch.setattr(engines, "WORTH", 0.0)
    monkeypatch.setattr(engines, "GAIN", 1e9)
    ours, said = answered(pets, "slower.csv")
    assert (ours, said.startswith("computed by torch: 63 of these pictures take it ")) == (plain, True), said
    monkeypatch.setattr(engines, "GAIN", 0.0)
    theirs, said = answered(pets, "faster.csv")
    assert said.startswith("computed by onnxruntime: 63 of these pictures take it ")
    assert alike(plain, theirs)
    monkeypatch.setattr(engines, "OFF", 0.0)
    ours, said = answered(pets, "other.csv")
    assert (ours, "; their answers differ\n" in said) == (plain, True)


def test_auto_asks_nothing_of_little_work(pets: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    """More pictures than there are would be needed; or so many that none are looked for; or none can be read."""
    monkeypatch.setattr(engines, "LEAST", 20)
    for name, value in (("WORTH", 1e3), ("MOST", 0)):
        with monkeypatch.context() as patch:
            patch.setattr(engines, name, value)
            rows, said = answered(pets, f"{name}.csv")
        assert (len(rows), "computed by" in said) == (91, False)
    (pets.at / "broken").mkdir()
    for n in range(30):
        (pets.at / f"broken/{n}.png").write_bytes(b"no picture")
    done = tellapart(pets.at, "predict", "a", "broken", "--out", "broken.csv")
    assert (done.code, done.out) == (
        3,
        "broken.csv: 30 pictures: 0 answered, 0 unknown, 0 unsure, 30 unreadable\n",
    )


def test_auto_waits_for_no_list(pets: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LEAST", 1)
    monkeypatch.setattr(engines, "WORTH", 0.0)
    monkeypatch.setattr(engines, "GAIN", 0.0)
    read, write = os.pipe()
    with os.fdopen(read) as list_:
        monkeypatch.setattr(sys, "stdin", list_)
        feeding = threading.Thread(target=feed, args=(write, pets.at / "list.csv"))
        feeding.start()
        done = tellapart(pets.at, "predict", "a", "-", "--out", "list.csv", "--device", "cpu")
        feeding.join()
    assert (done.code, "computed by" in done.err) == (0, False)
    assert "list.csv: 5,000 pictures: " in done.out


def feed(write: int, answers: Path) -> None:
    """A list of which the end comes when there are answers, or never."""
    with os.fdopen(write, "wb") as list_:
        list_.write(b"pets/cat/01.png\n" * 5_000)
        list_.flush()
        while not (answers.exists() and answers.stat().st_size > 10_000):
            time.sleep(0.01)


def test_a_network_that_cannot_be_made_over_is_computed_by_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which answer a picture gets depends on its pixels: no exporter can write that down."""
    pytest.importorskip("onnxscript", reason="pip install 'tellapart[onnx]'")
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, channels, num_classes):\n"
        "        super().__init__()\n"
        "        self.head = torch.nn.Linear(channels, num_classes)\n"
        "    def forward(self, images):\n"
        "        mean = images.mean((2, 3))\n"
        "        return self.head(mean) if float(mean.sum()) > 0 else self.head(-mean)\n"
    )
    make_folder(tmp_path / "pets", per_class=12)
    train(tmp_path, "a", "pets", "--model", "net.py:Net", "--epochs", "1", "--no-test")
    words = ("--code", "net.py", "predict", "a", "pets", "--device", "cpu")
    for more in ((), ("--out", "a.csv")):
        done = tellapart(tmp_path, *words, *more, "--engine", "onnxruntime")
        assert (done.code, "error: This network cannot be exported: " in done.err) == (2, True)
    assert not (tmp_path / "a.csv").exists()
    for name, value in (("LEAST", 20), ("WORTH", 0.0)):
        monkeypatch.setattr(engines, name, value)
    done = tellapart(tmp_path, *words, "--out", "a.csv")
    assert (done.code, "computed by torch, for onnxruntime cannot: This network " in done.err) == (0, True)


def test_without_onnxruntime_the_extra_is_named_and_auto_is_torch(pets: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    words = ("predict", "a", "pets/dog", "--out", "none.csv", "--device", "cpu")
    done = tellapart(pets.at, *words, "--engine", "onnxruntime")
    assert (done.code, "This needs onnxruntime, which is not installed." in done.err) == (2, True)
    assert "tellapart[onnx]" in done.err
    assert not list(pets.at.glob("none*"))
    assert tellapart(pets.at, *words).code == 0
