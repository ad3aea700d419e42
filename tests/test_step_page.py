"""docs/step.md: its Python gives what it prints, and what it says of the debugger and of the worked run is so."""

import bdb
import doctest
import inspect
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from commands import tellapart, train

from tellapart.data.sources import SOURCES, cifar
from tellapart.training import fit

PAGE = Path(__file__).parent.parent / "docs" / "step.md"


def test_its_python_gives_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    text = re.sub(r"^```.*", "", PAGE.read_text(encoding="utf-8"), flags=re.M)
    page = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    found = doctest.DocTestRunner().run(page)
    assert found.failed == 0, capsys.readouterr().out
    assert found.attempted > 50


class Debugger(bdb.Bdb):
    """Stops at one line of the loop, and looks at what is there."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        assert self.set_break(inspect.getfile(fit), line) is None

    def user_line(self, frame: FrameType) -> None:
        if self.break_here(frame):
            here = frame.f_locals
            self.seen.append((tuple(here["pixels"].shape), tuple(here["logits"].shape)))
        self.set_continue()


def test_a_debugger_stops_inside_the_loop(tmp_path: Path) -> None:
    lines, first = inspect.getsourcelines(fit)
    (line,) = (first + n + (first == 0) for n, text in enumerate(lines) if text.lstrip().startswith("part_loss = "))
    debugger, before = Debugger(line), sys.gettrace()
    try:
        done = debugger.runcall(tellapart, tmp_path, "train", "digits", "--model", "mlp:16", "--debug")
    finally:
        sys.settrace(before)
        debugger.clear_all_breaks()
    assert done is not None
    assert done.code == 0, done.err
    assert debugger.seen == [((64, 1, 8, 8), (64, 10))] * 2


def test_the_worked_run_falls_as_in_the_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what, chance = replace(cifar.CIFAR10, rows=(30,) * 6), np.random.default_rng(0)
    colours = chance.integers(40, 216, (10, 3), np.uint8)
    (tmp_path / what.binary_folder).mkdir()
    for file in what.binary_files:
        pictures = (np.repeat(colours[n % 10], 1024).astype(int) + chance.integers(-40, 40, 3072) for n in range(30))
        raw = b"".join(bytes([n % 10]) + picture.astype(np.uint8).tobytes() for n, picture in enumerate(pictures))
        (tmp_path / what.binary_folder / file).write_bytes(raw)
    monkeypatch.setitem(SOURCES, "cifar10", lambda root: cifar.read(root, what))
    words = ("--recipe", "cifar10-quick", "--batch-size", "1", "--epochs", "3", "--root", str(tmp_path), "--no-test")
    records = [record for _, record in train(tmp_path, "a", *words).run("a").records()]
    first, second, third = (record["train_loss"] for record in records if record["kind"] == "epoch")
    assert math.log(10) + 0.3 > first > second > third


def test_a_linear_classifier_of_cifar_has_30730_parameters(tmp_path: Path) -> None:
    told = tellapart(tmp_path, "model", "check", "linear", "--size", "32", "--channels", "3")
    assert (told.code, "30,730 parameters" in told.out) == (0, True), told.out
    done = train(tmp_path, "a", "digits", "--model", "linear", "--epochs", "1", "--no-test")
    assert "network: linear, 650 parameters" in done.err
