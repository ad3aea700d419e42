"""`tellapart why`: files and mistakes explained, by the pictures that may be looked at, in words that can be read."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import tellapart, train
from pictures import draw, make_folder
from PIL import Image

from tellapart.cli.why import METHODS as ON_COMMAND
from tellapart.data.seal import SealBroken
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.saliency import METHODS
from tellapart.figures.heat import COLOURS, TILE, Row, coloured, heat_sheet, over, sized
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import Bundle
from tellapart.preprocess import Preprocess
from tellapart.workflow import final
from tellapart.workflow import nearest as near_of
from tellapart.workflow.looking import Eye, Subject, explain

FEW = ("--epochs", "6", "--batch-size", "12", "--no-test", "--set", "input.size=16")
EVIL = "ev\x1b[31mil\n.png"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a sealed test part, a linear one, and pictures that none of them has seen."""
    folder = tmp_path_factory.mktemp("why")
    make_folder(folder / "pets", per_class=30, size=16)
    for name, k in (("new.png", 1), (EVIL, 2)):
        Image.fromarray(draw(k, 3, (9, k), 16)[:, :12]).save(folder / name)
    (folder / "broken.png").write_bytes(b"no picture")
    train(folder, "first", "pets", *FEW)
    train(folder, "flat", "pets", *FEW, "--model", "linear")
    return folder


def parts(at: Path, run: str) -> dict[str, str]:
    with (at / "runs" / run / "split.csv").open(encoding="utf-8") as file:
        return {row["key"]: row["part"] for row in csv.DictReader(file)}


def test_a_file_is_explained_in_words_numbers_and_a_picture(at: Path) -> None:
    done = tellapart(at, "why", "first", "new.png", "--out", "why.png", "--nearest", "3")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("new.png: dog ")
    assert lines[1].startswith(("  dog: The map is informative: without", "  dog: The map means nothing: "))
    assert lines[2].startswith("    margin ")
    assert "] in log-odds over 19 moved maps; deletion 0." in lines[2]
    assert all(line.split()[2].startswith(line.split()[1] + "/") for line in lines[3:6])
    assert lines[6].startswith("heat: ")
    assert lines[7].startswith("nearest of 66 training pictures, by the cosine between what head is given")
    assert "drawn: " in done.err
    with Image.open(at / "why.png") as image:
        assert image.width >= 5 * TILE
    said = json.loads(tellapart(at, "why", "first", "new.png", "--json").out)
    (one,) = said["pictures"]
    assert (one["path"], one["said"], len(one["nearest"]), said["unreadable"]) == ("new.png", "dog", 5, [])
    (heat,) = one["heat"]
    assert np.array(heat["fields"]).shape == (10, 10)
    assert heat["area"]["n"] == heat["margin"]["n"] == len(heat["without_elsewhere"]) == 19
    assert heat["margin"]["low"] <= heat["margin"]["value"] <= heat["margin"]["high"]
    assert set(heat["random_networks"]["correlation"]) == {"the last layer", "all layers"}
    assert heat["informative"] == ("is informative" in heat["verdict"])
    predicted = json.loads(tellapart(at, "predict", "first", "new.png", "--json").out)["predictions"][0]["top"][0]
    assert one["probability"] == pytest.approx(predicted["probability"], abs=1e-6) == heat["probability"]


def test_the_nearest_are_training_pictures_and_the_test_part_stays_sealed(
    at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, key = parts(at, "first"), next(key for key, part in parts(at, "first").items() if part == "train")
    one = json.loads(tellapart(at, "why", "first", f"pets/{key}", "--nearest", "20", "--json").out)["pictures"][0]
    assert {part[n["key"]] for n in one["nearest"]} == {"train"}
    assert one["nearest"][0]["key"] == key
    assert one["nearest"][0]["distance"] == pytest.approx(0, abs=1e-3)
    distances = [n["distance"] for n in one["nearest"]]
    assert distances == sorted(distances)
    made = []
    monkeypatch.setattr(near_of, "features_of", lambda *words: made.append(words))
    assert tellapart(at, "why", "first", "new.png").code == 0
    assert made == []  # what the model makes of its training pictures was kept
    assert not (at / "runs/openings.jsonl").exists()
    assert not (at / "runs/first/predictions/test.safetensors").exists()


def test_a_look_at_a_sealed_picture_is_noted(at: Path) -> None:
    key = next(key for key, part in parts(at, "first").items() if part == "test")
    done = tellapart(at, "why", "first", f"pets/{key}", "--nearest", "0")
    assert (
        "1 of these 1 pictures are in the sealed test part of first: its log keeps that they were looked at" in done.out
    )
    assert "sealed" not in tellapart(at, "why", "first", "new.png").out


def test_mistakes_are_of_validation_also_when_the_test_part_is_open(at: Path) -> None:
    make_folder(at / "vague", classes=("a", "b"), per_class=40, size=8)
    for n, path in enumerate(sorted((at / "vague").rglob("*.png"))):
        if n % 3 == 0:  # pictures whose class cannot be told
            Image.fromarray(draw(0, 2, (5, n), 8)).save(path)
    train(at, "wrong", "vague", "--epochs", "2", "--no-test", "--model", "mlp:8")
    said = json.loads(tellapart(at, "why", "wrong", "--mistakes", "2", "--nearest", "2", "--json").out)
    part = parts(at, "wrong")
    assert {part[one["path"]] for one in said["pictures"]} == {"validation"}
    for one in said["pictures"]:
        assert one["said"] != one["class"] == one["path"].split("/")[0]
        assert [heat["class"] for heat in one["heat"]] == [one["said"], one["class"]]
    shares = [one["probability"] for one in said["pictures"]]
    assert shares == sorted(shares, reverse=True)
    assert said["method"] == "occlusion"
    assert "among 12 validation pictures; shown: " in said["notes"][0]
    assert tellapart(at, "test", "wrong").code == 0
    done = tellapart(at, "why", "wrong", "--mistakes", "50", "--nearest", "0", "--out", "all.png")
    shown = [line.split(": ")[0] for line in done.out.splitlines() if "; it is " in line]
    assert {part[key] for key in shown} == {"validation"}
    assert len((at / "runs/openings.jsonl").read_text().splitlines()) == 1  # to show them opened nothing


def test_mistakes_of_a_test_part_are_shown_once_it_is_open_and_are_never_opened_for_that(
    at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "vague", classes=("a", "b"), per_class=40, size=8)
    for n, path in enumerate(sorted((tmp_path / "vague").rglob("*.png"))):
        if n % 3 == 0:
            Image.fromarray(draw(0, 2, (5, n), 8)).save(path)
    train(tmp_path, "wrong", "vague", "--epochs", "2", "--no-test", "--model", "mlp:8")
    words = ("why", "wrong", "--mistakes", "50", "--part", "test", "--nearest", "0")
    with monkeypatch.context() as patch:
        patch.setattr(final, "open_test", opening)
        done = tellapart(tmp_path, *words)
    assert done.code == 2
    assert "The test part of wrong is sealed, and to explain its mistakes opens nothing." in done.err
    assert "`tellapart test wrong` opens it" in done.err
    assert not (tmp_path / "runs/openings.jsonl").exists()
    assert tellapart(tmp_path, "test", "wrong").code == 0
    ledger = (tmp_path / "runs/openings.jsonl").read_text()
    done = tellapart(tmp_path, *words)
    assert done.code == 0, done.err
    said = Predictions.load(tmp_path / "runs/wrong/predictions/test.safetensors")
    naive = {key for key, row, own in zip(said.keys, said.logits, said.labels, strict=True) if row.argmax() != own}
    assert naive
    shown = [line.split(": ")[0] for line in done.out.splitlines() if "; it is " in line]
    assert (len(shown), set(shown)) == (len(naive), naive)
    assert (
        f"{len(naive)} mistake{'s' * (len(naive) != 1)} among {len(said)} test pictures; shown: {len(naive)}"
        in done.out
    )
    assert "choose nothing by what is seen of test pictures" in done.out
    assert "choose nothing" not in tellapart(tmp_path, "why", "wrong", "--mistakes", "1", "--nearest", "0").out
    near = json.loads(tellapart(tmp_path, *words[:-1], "2", "--json").out)["pictures"][0]["nearest"]
    assert {parts(tmp_path, "wrong")[one["key"]] for one in near} == {"train"}
    assert (tmp_path / "runs/openings.jsonl").read_text() == ledger
    (tmp_path / "runs/openings.jsonl").unlink()
    done = tellapart(tmp_path, *words)
    assert (done.code, "does not say that wrong opened its test part" in done.err) == (2, True)
    assert not (tmp_path / "runs/openings.jsonl").exists()
    (tmp_path / "runs/openings.jsonl").write_text(ledger)
    assert tellapart(tmp_path, "extend", "wrong", "--epochs", "3", "--no-test").code == 0
    assert "The test part of wrong is sealed" in tellapart(tmp_path, *words).err


def opening(*_: object) -> None:
    raise AssertionError("the seal was opened")


def test_a_run_without_mistakes_has_none_to_explain(at: Path) -> None:
    for k, name in enumerate(("dark", "light")):
        (at / "easy" / name).mkdir(parents=True)
        for n in range(30):
            Image.fromarray(draw(0, 1, (n, k), 8) // 4 + 130 * k).save(at / "easy" / name / f"{n}.png")
    train(at, "sure", "easy", "--epochs", "6", "--no-test", "--model", "linear", "--batch-size", "8")
    done = tellapart(at, "why", "sure", "--mistakes", "5", "--out", "none.png")
    assert done.code == 0, done.err
    assert done.out.startswith("0 mistakes among 8 validation pictures; shown: 0")
    assert not (at / "none.png").exists()


def test_a_class_can_be_asked_for(at: Path) -> None:
    done = tellapart(at, "why", "first", "new.png", "--class", "fox", "--nearest", "0")
    assert done.out.splitlines()[1].startswith("  fox: The map ")
    assert "dog: The map" not in done.out


def test_the_methods_are_those_there_are() -> None:
    assert ("auto", *METHODS) == ON_COMMAND


def test_each_method_is_named_and_occlusion_is_for_what_has_no_places(at: Path) -> None:
    for method in ("gradcam", "hirescam"):
        out = tellapart(at, "why", "first", "new.png", "--method", method, "--nearest", "0").out
        assert f"heat: {method} at stages." in out
    for run, words in (("first", ("--method", "occlusion")), ("flat", ())):
        out = tellapart(at, "why", run, "new.png", *words, "--nearest", "0").out
        assert "heat: by occlusion, how far the class falls when a part of the picture is covered" in out


def test_auto_uses_gradients_where_the_last_maps_have_places_enough() -> None:
    lines = ("conv 8 3 padding=1", "relu", "maxpool 2", "conv 8 3 padding=1", "relu", "gap", "linear classes")
    for size, method in ((16, "hirescam"), (8, "occlusion")):
        made = Architecture(name="layers", num_classes=2, channels=1, size=size, layers=lines)
        to = Preprocess(size=size, channels=1)
        bundle = Bundle(architecture=made, preprocess=to, classes=("a", "b"), state=build(made).state_dict())
        pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
        (one,), way = explain(Eye.of(bundle, torch.device("cpu")), [Subject(name="x", pixels=pixels, true="b")])
        assert way.method == method
        assert one.heats[0].name == one.said
        assert {heat.name for heat in one.heats} == {one.said, "b"}
        assert all(heat.map.shape == (size, size) and heat.trust.why_nothing for heat in one.heats)


def test_a_model_file_without_its_run_says_what_is_missing(at: Path) -> None:
    shutil.copy(at / "runs/first/model.safetensors", at / "alone.safetensors")
    done = tellapart(at, "why", "alone.safetensors", "new.png")
    assert done.code == 0, done.err
    assert "No nearest training pictures: this is a model file without its run." in done.out
    assert "No nearest" not in tellapart(at, "why", "runs/first/model.safetensors", "new.png").out


def test_pictures_that_are_gone_are_said(at: Path, tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", size=8)
    train(tmp_path, "gone", "pets", "--epochs", "1", "--no-test")
    shutil.move(tmp_path / "pets", tmp_path / "moved")
    done = tellapart(tmp_path, "why", "gone", "moved/cat/00.png")
    assert done.code == 0, done.err
    assert "No nearest training pictures: " in done.out
    done = tellapart(tmp_path, "why", "gone", "--mistakes", "3")
    assert done.code in (2, 3)
    assert "pets" in done.err


def test_every_file_is_in_the_answer_and_hostile_names_are_printable(at: Path) -> None:
    done = tellapart(at, "why", "first", EVIL, "broken.png", "new.png", "--nearest", "0", "--out", "evil.png")
    assert done.code == 3
    assert "broken.png  cannot be read: The bytes are not a picture that can be read." in done.out
    assert all(line.isprintable() for line in done.out.splitlines())
    assert "ev [31mil .png: fox" in done.out
    done = tellapart(at, "why", "first", "broken.png", "--json", "--out", "nothing.png")
    assert (done.code, json.loads(done.out)["pictures"]) == (3, [])
    assert not (at / "nothing.png").exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("first", 2, "No picture is named."),
        ("first new.png --mistakes 3", 2, "Pictures and --mistakes exclude each other."),
        ("first new.png --out why.jpg", 2, "--out draws a PNG. Received: why.jpg."),
        ("first new.png --out new.png", 4, "new.png exists, and tellapart did not draw it."),
        ("first nosuch.png", 2, "There is no file or folder 'nosuch.png'."),
        ("first new.png --class dgo", 2, "The model does not know the class 'dgo'."),
        ("first new.png --class dgo", 2, "Did you mean 'dog'?"),
        ("flat new.png --method gradcam", 2, "No layer of linear keeps the places of a picture, so gradcam does not"),
        ("first new.png --method lime", 2, "'lime' is not one of"),
        ("frist new.png", 2, "Did you mean 'first'?"),
        ("copy.safetensors --mistakes 3", 2, "Only a run has mistakes of its own; this is a model file."),
        ("first new.png --part test", 2, "--part says whose mistakes, and none are asked for."),
        ("flat --mistakes 3 --part test", 2, "`tellapart test flat` opens it, and writes down that it did."),
        ("first --mistakes 0", 2, "0 is not in the range x>=1"),
    ],
)
def test_what_cannot_be_explained_is_said(at: Path, words: str, code: int, told: str) -> None:
    shutil.copy(at / "runs/first/model.safetensors", at / "copy.safetensors")
    done = tellapart(at, "why", *words.split())
    assert (done.code, told in done.err) == (code, True), done.err
    assert "Traceback" not in done.err


# --- the picture of it ------------------------------------------------------------------------------------------------


def test_heat_lies_where_it_is_hot_and_nothing_where_the_network_did_not_look() -> None:
    pixels = np.full((40, 80, 1), 200, np.uint8)
    heat, hottest = np.zeros((8, 8)), np.zeros((8, 8), bool)
    heat[:4, :4], hottest[:4, :4] = 1, True
    drawn = over(pixels, heat, hottest, (0, 20, 40, 40))  # the middle of a wide picture
    assert drawn.shape == (2 * 40, 2 * 80, 3)
    assert (drawn[:, :38] == 50).all()
    assert (drawn[:, 122:] == 50).all()
    warm, cold = drawn[20, 60], drawn[60, 100]
    assert warm == pytest.approx(0.3 * 200 + 0.7 * COLOURS[-1], abs=1)
    assert cold == pytest.approx(0.65 * 200 + 0.35 * COLOURS[0], abs=1)
    assert (drawn[0, 40] == 255).all()  # the line around the hottest fields
    assert (drawn[1, 41] == 0).all()


def test_the_colours_grow_lighter_evenly() -> None:
    light = coloured(np.linspace(0, 1, 50)) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0).all()
    assert coloured(np.array([0.0, 1.0])).tolist() == [COLOURS[0].tolist(), COLOURS[-1].tolist()]


def test_pictures_keep_their_shape_and_a_sheet_holds_all_rows() -> None:
    assert sized(np.zeros((10, 20, 1), np.uint8)).shape == (80, 160, 3)
    assert sized(np.zeros((600, 300, 3), np.uint8)).shape == (168, 84, 3)
    row = Row(title="a", tiles=[(np.zeros((8, 8, 3), np.uint8), "x")], said=["words " * 80, "more"])
    one, two = heat_sheet([row]), heat_sheet([row, row])
    assert two.width == one.width
    assert two.height > 1.5 * one.height


def test_the_seal_holds_while_mistakes_are_shown(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tellapart.run import Run
    from tellapart.workflow import why

    run = Run.open(at / "runs", "first")
    monkeypatch.chdir(at)
    pictures = why.same_pictures(run, why.recipe_of(run)).pictures
    with pytest.raises(SealBroken):
        pictures.pixels.gather(pictures.index.rows("test"))
