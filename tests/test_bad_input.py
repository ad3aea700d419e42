"""What goes wrong in a person's hands: each mishap ends with its sentence and its exit code, and nothing is lost."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from pictures import make_folder
from PIL import Image
from safetensors.torch import load_file

from tellapart.errors import UsageError
from tellapart.training.losses import check_outputs

SMALL = ("--epochs", "1", "--batch-size", "4")
QUICK = ("digits", "--model", "linear", "--epochs", "1")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(at: Path, code: int, said: str, *words: str) -> Done:
    """The command ends with this code and sentence on stderr only, and leaves no half-written file."""
    done = tellapart(at, *words)
    assert said in done.err
    assert done.code == code
    assert "error: " in done.err
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err
    assert not list(at.rglob("*.tmp")) + list(at.rglob(".tmp-*"))
    return done


# --- pictures ---------------------------------------------------------------------------------------------------------


def no_folder(at: Path) -> None:
    (at / "else").mkdir()


def empty(at: Path) -> None:
    (at / "pets").mkdir()


def no_classes(at: Path) -> None:
    make_folder(at / "made", classes=("cat",))
    (at / "made/cat").rename(at / "pets")


def one_class(at: Path) -> None:
    make_folder(at / "pets", classes=("cat",))


def empty_in_validation(at: Path) -> None:
    make_folder(at / "pets", parts=("train", "val", "test"))
    for path in (at / "pets/val/dog").iterdir():
        path.unlink()


def text_among_pictures(at: Path) -> None:
    make_folder(at / "pets")
    (at / "pets/cat/note.png").write_text("not a picture")


def larger_batch(at: Path) -> None:
    make_folder(at / "pets", per_class=3)


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (no_folder, 3, "There is no folder"),
        (empty, 3, "holds no class folders and no pictures."),
        (no_classes, 3, "holds 12 pictures and no class folders. No class can be read from names such as"),
        (one_class, 3, "There is only one class, 'cat', in"),
        (empty_in_validation, 3, "Class 'dog' has no picture in the validation part (24 in all)."),
        (text_among_pictures, 3, "1 of 37 files is not a whole picture:\n  cat/note.png: "),
        (larger_batch, 2, "The batch of 4 is larger than the 3 training pictures."),
    ],
)
def test_pictures_that_cannot_be_trained_on(tmp_path: Path, make: Callable[[Path], None], code: int, said: str) -> None:
    make(tmp_path)
    before = files(tmp_path)
    refused(tmp_path, code, said, "train", "./pets", *SMALL, "--run", "a")
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) == set(before), "what is refused before it begins leaves no run behind"


def test_bad_files_may_be_skipped_and_are_then_named(tmp_path: Path) -> None:
    text_among_pictures(tmp_path)
    (tmp_path / "pets/dog/old.gif").write_text("GIF89a")
    done = train(tmp_path, "a", "pets", *SMALL, "--on-bad", "skip")
    assert "36 pictures of 3 classes" in done.err
    assert "note: left out: dog/old.gif: .gif is not read" in done.err
    assert "note: left out: cat/note.png: The bytes are not a picture that can be read." in done.err
    assert "left out: cat/note.png" in (done.run("a").folder / "log.txt").read_text()


def test_a_windows_path_finds_the_folder(tmp_path: Path) -> None:
    make_folder(tmp_path / "pics/train")
    assert "36 pictures of 3 classes" in train(tmp_path, "a", "pics\\train", *SMALL).err
    refused(tmp_path, 3, "There is no folder", "train", "pics\\nothing", *SMALL)


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A folder `pets` and a run `a` on it."""
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets")
    return train(at, "a", "pets", "--epochs", "12", "--batch-size", "8")


def test_pictures_of_classes_the_model_does_not_know_are_refused(pets: Done) -> None:
    make_folder(pets.at / "more", classes=("cat", "dgo", "fox"), per_class=2)
    done = refused(pets.at, 3, "The model does not know the class 'dgo'.", "test", "a", "more")
    assert "Did you mean 'dog'?" in done.err
    make_folder(pets.at / "many", classes=("cat", "emu", "gnu", "yak"), per_class=2)
    refused(pets.at, 3, "have 4 classes; the model does not know 'emu' and 2 more. It knows 3.", "test", "a", "many")


def test_a_network_with_too_few_outputs_is_refused_with_both_shapes() -> None:
    check_outputs(torch.zeros(4, 3), batch=4, num_classes=3)
    with pytest.raises(UsageError, match=r"gives \(4, 2\) for 4 pictures; expected \(4, 3\)"):
        check_outputs(torch.zeros(4, 2), batch=4, num_classes=3)


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("--model resnet81", "Unknown model 'resnet81'.", "Did you mean 'resnet18'?"),
        ("--optimizer adan", "optim.name: expected one of sgd, adam,", "Did you mean 'adam'?"),
        ("--set optim.mometum=1", "Unknown recipe key 'optim.mometum'.", "Did you mean 'optim.momentum'?"),
        ("--set optim.momentum=x", "expected a number, at least 0, at most 0.9999. Received: 'x'.", ""),
        ("--set optim.lr", "--set takes SECTION.KEY=VALUE. Received: 'optim.lr'.", "--set optim.momentum=0.8"),
        ("--epochs -1", "train.epochs: expected a whole number, at least 0, or auto. Received: '-1'.", ""),
        ("--recipe none.toml", "There is no recipe file 'none.toml'", "cifar10-quick"),
        ("--recipe bad.toml", "Unknown recipe key 'train.epoch'.", "Did you mean 'train.epochs'?"),
        ("--device npu", "The device 'npu' is not on this machine.", "Choose one of: auto, "),
        ("--batch-size 5000", "The batch of 5000 is larger than the 1259 training pictures.", "--batch-size 314"),
        ("--set train.accumulate=100", "is larger than the 1259 training pictures.", ""),
        ("--run a/b", "'a/b' cannot be the name of a run.", "Use letters, digits"),
    ],
)
def test_a_setting_that_cannot_be_is_an_error_with_the_way_out(
    tmp_path: Path, words: str, said: str, hint: str
) -> None:
    (tmp_path / "bad.toml").write_text("[train]\nepoch = 3\n")
    assert hint in refused(tmp_path, 2, said, "train", "digits", *words.split()).err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_without_a_gpu_lists_what_there_is(tmp_path: Path) -> None:
    done = refused(tmp_path, 2, "The device 'cuda' is not on this machine.", "train", "digits", "--device", "cuda")
    assert "Choose one of: auto, " in done.err
    assert not (tmp_path / "runs").exists()


def test_a_typed_data_set_name_and_run_name_get_the_nearest(pets: Done) -> None:
    assert "Did you mean 'digits'?" in refused(pets.at, 2, "Unknown data set 'digts'", "train", "digts").err
    train(pets.at, "first", *QUICK, "--no-test")
    for verb in (("predict", "frist", "pets"), ("test", "frist"), ("board", "frist", "--dry-run")):
        assert "Did you mean 'first'?" in refused(pets.at, 2, "There is no run 'frist'.", *verb).err


def test_what_is_no_regular_file_is_said_to_be_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        said = f"There is no run '{name}': that is neither the folder of one nor a regular file."
        refused(tmp_path, 2, said, "verify", name)
    assert "neither" not in refused(tmp_path, 2, "There is no run 'nothing'.", "verify", "nothing").err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Unknown data set 'nothing'"):
        tellapart(tmp_path, "--debug", "train", "nothing")


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["small", "linear", "mlp:16"])
def test_a_diverging_rate_stops_and_keeps_the_last_finite_weights(tmp_path: Path, model: str) -> None:
    words = ("train", "digits", "--model", model, "--lr", "1e6", "--run", "a")
    done = refused(tmp_path, 5, "The training diverged at step 2: the loss is", *words)
    assert "Try a lower learning rate" in done.err
    assert done.run("a").status()["state"] == "diverged"
    assert not (tmp_path / "runs/openings.jsonl").exists()
    kept = load_file(done.run("a").bundle)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.values())
    assert str(done.run("a").bundle) in done.err


# --- predicting -------------------------------------------------------------------------------------------------------


def test_a_broken_file_is_named_and_the_others_are_answered(pets: Done) -> None:
    cut = pets.at / "cut.png"
    cut.write_bytes((pets.at / "pets/dog/00.png").read_bytes()[:100])
    done = tellapart(pets.at, "predict", "a", "pets/cat/00.png", "cut.png", "pets/fox/00.png")
    assert done.code == 3
    lines = done.out.splitlines()
    assert lines[0].startswith("pets/cat/00.png  cat (0) ")
    assert lines[1] == "cut.png  cannot be read: Image file is truncated."
    assert lines[2].startswith("pets/fox/00.png  fox (2) ")
    assert json.loads(tellapart(pets.at, "predict", "a", "cut.png", "--json").out)["predictions"][0]["error"]


def test_a_missing_picture_is_refused(pets: Done) -> None:
    refused(pets.at, 2, "There is no file or folder 'gone.png'.", "predict", "a", "pets/cat/00.png", "gone.png")
    refused(pets.at, 2, "There is no file or folder ''.", "predict", "a", "")


def test_an_opaque_picture_is_the_same_with_and_without_alpha(pets: Done) -> None:
    pixels = np.asarray(Image.open(pets.at / "pets/dog/03.png"))
    alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(pets.at / "rgba.png")
    done = tellapart(pets.at, "predict", "a", "rgba.png", "pets/dog/03.png")
    first, second = (line.split("  ", 1)[1] for line in done.out.splitlines())
    assert first == second
    assert first.startswith("dog (1) ")


class Planted:
    """A pickle that leaves a file behind when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch executed",)


def rewritten(raw: bytes, **changes: object) -> bytes:
    """A model file with another entry in its header; without its digest, for the entry is to be refused by itself."""
    length = struct.unpack("<Q", raw[:8])[0]
    outer = json.loads(raw[8 : 8 + length])
    inner = json.loads(outer["__metadata__"]["tellapart"]) | changes
    inner.pop("digest", None)
    outer["__metadata__"]["tellapart"] = json.dumps(inner)
    text = json.dumps(outer).encode()
    return struct.pack("<Q", len(text)) + text + raw[8 + length :]


SQUARE = {"channels": 3, "fit": "crop", "filter": "bilinear", "short": 0, "mean": [0.5] * 3, "std": [0.5] * 3}
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "truncated header": lambda raw: raw[:600],
    "truncated weights": lambda raw: raw[:-8],
    "empty": lambda raw: b"",
    "noise": lambda raw: bytes(range(256)) * 20,
    "header of huge length": lambda raw: struct.pack("<Q", 2**62) + raw[8:],
    "header longer than the file": lambda raw: struct.pack("<Q", 60 * 2**20) + raw[8:],
    "deeply nested": lambda raw: struct.pack("<Q", 10**5) + b"[" * 10**5,
    "pickle": lambda raw: pickle.dumps(Planted()),
    "pickle behind the weights": lambda raw: raw + pickle.dumps(Planted()),
    "unknown format": lambda raw: rewritten(raw, format=99),
    "unknown network": lambda raw: rewritten(raw, architecture={"name": "os.system"}),
    "too few classes": lambda raw: rewritten(raw, classes=["cat", "dog"]),
    "classes that are no names": lambda raw: rewritten(raw, classes=[1, 2, 3]),
    "another square than the network's": lambda raw: rewritten(raw, preprocess={**SQUARE, "size": 64}),
    "huge square": lambda raw: rewritten(raw, preprocess={**SQUARE, "size": 10**9}),
    "temperature of zero": lambda raw: rewritten(raw, temperature=0.0),
    "temperature that is no number": lambda raw: rewritten(raw, temperature="hot"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_model_file_is_a_sentence_and_runs_no_code(pets: Done, tmp_path: Path, how: str) -> None:
    (tmp_path / "m.safetensors").write_bytes(BROKEN[how](pets.run("a").bundle.read_bytes()))
    done = refused(tmp_path, 4, "", "predict", "m.safetensors", str(pets.at / "pets/cat/00.png"))
    assert done.out == ""
    assert not (tmp_path / "executed").exists()
