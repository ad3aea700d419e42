"""Exit 0 means that the result is real: the file that was written is opened, is finite, and scores what was trained."""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import tellapart

from tellapart.models.bundle import Bundle, load_bundle, save_bundle
from tellapart.workflow import final, fitting

WORDS = ("digits", "--limit", "120", "--epochs", "2", "--batch-size", "16", "--set", "model.width=4", "--run", "a")
Ending = Callable[[Path], object]


def changed(change: Callable[[str, torch.Tensor], torch.Tensor]) -> Ending:
    """The file with other tensors, whole in every other respect."""

    def end(path: Path) -> None:
        bundle = load_bundle(path)
        save_bundle(replace(bundle, state={name: change(name, t.clone()) for name, t in bundle.state.items()}), path)

    return end


def with_header(**values: Any) -> Ending:
    """The file with other words in its header; without its digest, for what is wrong is to be seen by itself."""

    def end(path: Path) -> None:
        raw = path.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8 : 8 + length])
        words = {**json.loads(header["__metadata__"]["tellapart"]), **values}
        words.pop("digest", None)
        header["__metadata__"]["tellapart"] = json.dumps(words)
        new = json.dumps(header).encode()
        new += b" " * (-len(new) % 8)
        path.write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + length :])

    return end


def first(value: float) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """A change of one number of the first weights."""

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name.endswith("conv1.weight") and ".0." in name:
            tensor.view(-1)[0] = value
        return tensor

    return change


def floats(change: Callable[[torch.Tensor], torch.Tensor]) -> Ending:
    """A change of all weights."""
    return changed(lambda _, tensor: change(tensor) if tensor.is_floating_point() else tensor)


ENDINGS: dict[str, Ending] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "text": lambda path: path.write_text("the weights"),
    "NaN": changed(first(math.nan)),
    "infinite": changed(first(math.inf)),
    "half precision": floats(lambda t: t.half()),
    "double precision": floats(lambda t: t.double()),
    "all zero": floats(torch.zeros_like),
    "negated": floats(torch.neg),
    "one weight": changed(first(30.0)),
    "shifted": floats(lambda t: t + 0.05),
    "weights of a first epoch": floats(lambda t: t * 0.5),
    "other classes": with_header(classes=["a"] * 10),
    "fewer classes": with_header(classes=["a", "b"]),
    "another format": with_header(format=99),
    "no preprocessing": with_header(preprocess={}),
    "another network": with_header(architecture={}),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_broken_ending_is_not_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    save = fitting._save_model

    def broken(run: Any, *words: Any) -> None:
        save(run, *words)
        ENDINGS[name](run.bundle)

    monkeypatch.setattr(fitting, "_save_model", broken)
    done = tellapart(tmp_path, "train", *WORDS)
    assert done.code == 4, done.err
    assert any(words in done.err for words in (str(done.run("a").bundle), " this file ", "The saved model has the "))
    assert done.run("a").status()["state"] == "failed"
    assert "`tellapart resume a` goes on from here." in done.err
    assert not (tmp_path / "runs/openings.jsonl").exists()
    monkeypatch.undo()
    assert tellapart(tmp_path, "resume", "a").code == 0  # the checkpoints were untouched


@pytest.mark.parametrize("name", ["short", "NaN", "one weight", "negated"])
def test_a_file_that_breaks_when_its_scores_are_added_is_not_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def broken(bundle: Bundle, path: Path) -> None:
        save_bundle(bundle, path)
        ENDINGS[name](path)

    monkeypatch.setattr(final, "save_bundle", broken)
    done = tellapart(tmp_path, "train", *WORDS)
    assert done.code == 4, done.err
    assert done.run("a").status()["state"] == "failed"


def test_an_ending_that_is_not_broken_is_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENDINGS, "none", floats(lambda t: t))
    save = fitting._save_model
    monkeypatch.setattr(fitting, "_save_model", lambda run, *w: (save(run, *w), ENDINGS["none"](run.bundle))[0])
    done = tellapart(tmp_path, "train", *WORDS)
    assert (done.code, done.run("a").status()["state"]) == (0, "finished")
