"""The passport of a model: golden samples that are replayed anywhere, and the card that says what it is."""

import base64
import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from pictures import make_folder
from PIL import Image

from tellapart.data.decode import decode
from tellapart.data.identity import digest
from tellapart.data.square import fitted
from tellapart.models.bundle import Bundle, load_bundle, save_bundle
from tellapart.recipe import Recipe
from tellapart.shipping import goldens
from tellapart.training.fit import Epoch
from tellapart.workflow.events import Said
from tellapart.workflow.train import Asking
from tellapart.workflow.train import train as begin

HOSTILE = "<script>alert(1)</script>|`x`\n# head [a](http://b.c) **"


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run `a` on six classes, one of them with a hostile name, whose test is opened."""
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets", classes=("cat", "dog", "fox", "gnu", "hen"), size=20)
    return train(at, "a", "pets", "--epochs", "6", "--batch-size", "8", "--label-map", f"hen={HOSTILE.splitlines()[0]}")


def bundle_of(pets: Done) -> Bundle:
    return load_bundle(pets.run("a").bundle)


def test_a_model_carries_pictures_of_validation_with_what_comes_out_for_them(pets: Done) -> None:
    bundle = bundle_of(pets)
    assert len(bundle.goldens) == 4
    assert len({one.name for one in bundle.goldens}) == 4
    network = bundle.module()
    for one in bundle.goldens:
        pixels = decode(one.file)
        square = fitted(pixels, bundle.preprocess)
        assert (one.pixels, one.square) == tuple(hashlib.sha256(a.tobytes()).hexdigest() for a in (pixels, square))
        mean, std = (np.array(v, np.float32) for v in (bundle.preprocess.mean, bundle.preprocess.std))
        given = torch.from_numpy(((square / np.float32(255) - mean) / std).astype(np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            shares = (network(given)[0] / bundle.temperature).softmax(0)
        assert np.abs(shares.numpy() - one.shares).max() < 1e-6
        assert bundle.classes[int(shares.argmax())] == one.name


def test_the_samples_are_pictures_of_validation_and_not_of_the_test(tmp_path: Path) -> None:
    done = train(tmp_path, "a", "digits", "--limit", "300", "--epochs", "1", "--no-test")
    rows = (done.run("a").folder / "split.csv").read_text().splitlines()
    for one in load_bundle(done.run("a").bundle).goldens:
        mark = digest(decode(one.file)).hex()
        assert [",validation," in row for row in rows if mark in row] == [True]


def test_verify_replays_them_and_names_the_stage_that_differs(pets: Done) -> None:
    path = pets.run("a").bundle
    done = tellapart(pets.at, "verify", "a")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "a is read whole and gives the same answers here, on all 4 golden samples"
    first, *rest = (whole := load_bundle(path)).goldens
    other, _ = rest[0], rest[1]
    answer: dict[str, Any] = {"shares": other.shares, "said": other.said}
    planted = {
        "its decoded pixels are others: the decoder differs": replace(first, pixels="0" * 64, **answer),
        "the square made of it is another: resizing or colour differ": replace(first, square="0" * 64, **answer),
        "the network computes otherwise": replace(first, **answer),
    }
    for words, golden in planted.items():
        save_bundle(replace(whole, goldens=(golden, *rest)), pets.at / "planted.safetensors")
        done = tellapart(pets.at, "verify", "planted.safetensors")
        assert done.code == 1
        assert f"{first.name} instead of {other.name}, probabilities off by " in done.out
        assert done.out.splitlines()[0].endswith(words)
        assert done.out.endswith(
            "planted.safetensors answers 1 of 4 golden samples otherwise here than where it was made\n"
        )


def test_names_of_classes_in_another_order_are_caught(pets: Done) -> None:
    whole = load_bundle(pets.run("a").bundle)
    assert all(golden.said == whole.classes[int(np.argmax(golden.shares))] for golden in whole.goldens)
    save_bundle(replace(whole, classes=whole.classes[::-1]), pets.at / "planted.safetensors")
    done = tellapart(pets.at, "verify", "planted.safetensors")
    assert done.code == 1
    assert done.out.splitlines()[0].endswith("the names of the classes are others")
    older = tuple(replace(golden, said="") for golden in whole.goldens)
    save_bundle(replace(whole, goldens=older), pets.at / "older.safetensors")
    assert tellapart(pets.at, "verify", "older.safetensors").code == 0


def test_the_card_tells_no_path_of_the_machine(pets: Done) -> None:
    whole = bundle_of(pets)
    recipe = re.sub("(?m)^weights = .*$", 'weights = "/home/somebody/secret/body.pth"', whole.origin["recipe"], count=1)
    assert "somebody" in recipe
    save_bundle(replace(whole, origin={**whole.origin, "recipe": recipe}), pets.at / "planted.safetensors")
    text = tellapart(pets.at, "model", "card", "planted.safetensors").out
    assert "somebody" not in text
    assert "- `model.weights` = body.pth" in text


def test_another_resize_or_other_weights_are_caught(pets: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, device = bundle_of(pets), torch.device("cpu")
    assert all(one.sound for one in goldens.replayed(bundle, device=device))
    other = {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in bundle.state.items()}
    lost = goldens.replayed(replace(bundle, state=other), device=device)
    assert not all(one.sound for one in lost)
    assert all(one.pixels and one.square for one in lost)
    blind = goldens.replayed(replace(bundle, preprocess=replace(bundle.preprocess, filter="nearest")), device=device)
    if bundle.preprocess.size < 20:
        assert not any(one.square for one in blind)
    monkeypatch.setattr(goldens, "decode", lambda raw: decode(raw)[:, :, ::-1])
    turned = goldens.replayed(bundle, device=device)
    assert not any(one.pixels for one in turned)


def test_no_flipped_bit_goes_unseen(pets: Done) -> None:
    whole = pets.run("a").bundle.read_bytes()
    behind = 8 + int.from_bytes(whole[:8], "little")
    places = [behind, len(whole) - 1, (behind + len(whole)) // 2, whole.index(b"mean") + 12, whole.index(b"cat")]
    for place in places:  # the least bit of a weight, of the mean, of a name
        changed = bytearray(whole)
        changed[place] ^= 1
        (pets.at / "flipped.safetensors").write_bytes(changed)
        done = tellapart(pets.at, "verify", "flipped.safetensors")
        assert done.code == 4, place
        assert "changed after it was written: its digest is another." in done.err, place


def test_a_file_from_before_digests_is_read(pets: Done) -> None:
    whole = pets.run("a").bundle.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    said = json.loads(header["__metadata__"]["tellapart"])
    del said["digest"]
    header["__metadata__"]["tellapart"] = json.dumps(said)
    text = json.dumps(header).encode()
    (pets.at / "old.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    assert tellapart(pets.at, "verify", "old.safetensors").code == 0


def test_a_sample_that_is_no_picture_any_more_is_named(pets: Done) -> None:
    bundle = bundle_of(pets)
    broken = replace(
        bundle, goldens=(replace(bundle.goldens[0], file=bundle.goldens[0].file[:60]), *bundle.goldens[1:])
    )
    save_bundle(broken, pets.at / "broken.safetensors")
    done = tellapart(pets.at, "verify", "broken.safetensors")
    assert (done.code, "instead of" in done.out, "the decoder differs" in done.out) == (1, True, True)


def test_large_pictures_are_made_small_and_a_training_may_leave_them_out(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", size=600, per_class=8)
    words = ("pets", "--epochs", "1", "--set", "input.size=16")
    for one in load_bundle(train(tmp_path, "a", *words).run("a").bundle).goldens:
        assert max(Image.open(io.BytesIO(one.file)).size) == goldens.SIDE
    none = train(tmp_path, "b", *words, "--set", "train.goldens=0")
    assert load_bundle(none.run("b").bundle).goldens == ()
    done = tellapart(tmp_path, "verify", "b")
    assert (done.code, "b carries no golden samples, so nothing is proved" in done.out) == (1, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"file": "!!"},
        {"file": base64.b64encode(b"no picture").decode()},
        {"shares": [1.0]},
        {"shares": [float("nan")] * 5},
        {"file": "A" * (6 * 1024**2)},
        {"shares": "word"},
        {"name": None, "file": 5},
    ],
)
def test_a_broken_sample_is_refused_in_a_sentence(pets: Done, wrong: dict[str, Any]) -> None:
    bundle = bundle_of(pets)
    values = {**bundle.goldens[0].to_json(), **wrong}

    class Odd:
        def to_json(self) -> dict[str, Any]:
            return values

    save_bundle(replace(bundle, goldens=(Odd(),)), pets.at / "odd.safetensors")  # type: ignore[arg-type]
    done = tellapart(pets.at, "verify", "odd.safetensors")
    assert (done.code, "lacks a part of its header" in done.err) == (4, True)
    assert "Traceback" not in done.err


def test_the_card_says_what_it_is_how_good_and_what_is_not_known(pets: Done) -> None:
    text = tellapart(pets.at, "model", "card", "a").out
    bundle = bundle_of(pets)
    head = dict(line.split(": ", 1) for line in text.split("---\n")[1].splitlines())
    assert json.loads(head["pipeline_tag"]) == "image-classification"
    values = {score["type"]: score for score in (json.loads(head["model-index"])[0]["results"][0]["metrics"])}
    assert values["accuracy"]["value"] == next(s["value"] for s in bundle.scores if s["part"] == "test")
    accuracy = next(s for s in bundle.scores if s["part"] == "test" and s["name"] == "accuracy" and not s["about"])
    low, high = (f"{100 * accuracy[key]:.1f} %" for key in ("low", "high"))
    assert f"| accuracy | {100 * accuracy['value']:.1f} % | {low} to {high} | {accuracy['n']} |" in text
    for section in (
        "What it tells apart",
        "How sure it is",
        "What it was made from",
        "How to use it",
        "What is not known",
    ):
        assert f"\n## {section}\n" in text
    assert "no test part was opened" not in text
    sealed = train(pets.at, "sealed", "pets", "--epochs", "1", "--no-test")
    assert sealed.code == 0
    assert "no test part was opened" in tellapart(pets.at, "model", "card", "sealed").out


def test_hostile_names_stay_inert_in_the_card(pets: Done) -> None:
    bundle = bundle_of(pets)
    renamed = replace(bundle, classes=(HOSTILE, *bundle.classes[1:]), goldens=())
    save_bundle(renamed, pets.at / "hostile.safetensors")
    text = tellapart(pets.at, "model", "card", "hostile.safetensors").out
    assert "<script" not in text
    assert "\n# head" not in text
    assert "http://" not in text
    assert "](" not in text.replace("\\](", "")


def test_a_card_is_not_written_over_a_file_unless_told(pets: Done) -> None:
    words = ("model", "card", "a", "--out", "card.md")
    assert tellapart(pets.at, *words).code == 0
    again = tellapart(pets.at, *words)
    assert (again.code, "card.md exists already." in again.err) == (2, True)
    assert tellapart(pets.at, *words, "--force").code == 0
    assert (pets.at / "card.md").read_text() == tellapart(pets.at, "model", "card", "a").out


def test_pictures_that_are_gone_at_the_end_of_a_training_are_said_to_be_missing(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", size=20)
    recipe = Recipe.from_values({"data.source": str(tmp_path / "pets"), "train.epochs": 1})
    said = []
    for event in begin(recipe, Asking(runs=tmp_path / "runs", name="a", open_test=False)):
        if isinstance(event, Epoch):
            shutil.move(tmp_path / "pets", tmp_path / "away")
        said += [event.text] if isinstance(event, Said) else []
    (line,) = (one for one in said if "golden samples" in one)
    assert line.startswith("no golden samples travel with the model, so `verify` proves nothing of it: ")
    assert line.endswith(" cannot be read: No such file or directory")
    assert load_bundle(tmp_path / "runs" / "a" / "model.safetensors").goldens == ()
