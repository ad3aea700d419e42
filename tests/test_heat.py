"""Heat maps kept with a run: of which mistakes, what the report makes of them, and when there are none."""

import base64
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
from pictures import draw, make_folder
from PIL import Image
from test_report import HOSTILE, Page, evidence, predicted

from tellapart.data.seal import SealBroken
from tellapart.errors import Interrupted, StorageError
from tellapart.evaluation.looks import SLOW, Look, Looks, digest
from tellapart.evaluation.predictions import Predictions
from tellapart.figures.heat import over
from tellapart.models.bundle import load_bundle
from tellapart.reporting.report import report
from tellapart.reporting.words import table
from tellapart.run import Run
from tellapart.workflow import heat as keeping
from tellapart.workflow.begin import recipe_of, same_pictures
from tellapart.workflow.heat import DOUBTFUL, SUREST, keep_heat, shown

WRONG = ("vague", "--epochs", "6", "--model", "small", "--batch-size", "16", "--set", "data.validation=0.4")

PATIENT = 100.0
"""Seconds that are enough on any machine."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run `wrong` that has to make mistakes, its test part sealed."""
    at = tmp_path_factory.mktemp("heat")
    make_folder(at / "vague", classes=("a", "b", "c"), per_class=120, size=12)
    for n, path in enumerate(sorted((at / "vague").rglob("*.png"))):
        if n % 7 == 0:  # pictures under a wrong class
            Image.fromarray(draw(n % 4 % 3, 3, (5, n), 12)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "LEAST", PATIENT)
        patch.setattr(keeping, "LONGEST", PATIENT)
        train(at, "wrong", *WRONG, "--no-test")
    return at


@pytest.fixture
def at(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, on a machine that may be slow: how long maps take is asked by their own tests."""
    monkeypatch.setattr(keeping, "LEAST", PATIENT)
    monkeypatch.setattr(keeping, "LONGEST", PATIENT)
    return Path(shutil.copytree(made, tmp_path / "copy"))


def run_of(at: Path) -> Run:
    return Run.open(at / "runs", "wrong")


def kept(at: Path, part: str = "validation") -> tuple[Predictions, Looks]:
    said = Predictions.load(run_of(at).predictions(part))
    looks = Looks.load(run_of(at).heat(part), said)
    assert looks is not None
    return said, looks


def section(text: str) -> str:
    return text.split('<section id="mistakes"')[1].split("</section>")[0]


def pages(at: Path) -> str:
    assert tellapart(at, "report", "wrong").code == 0
    return section((at / "runs/wrong/report.html").read_text("utf-8"))


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_surest_mistakes_are_kept_and_then_the_most_doubtful(at: Path) -> None:
    said, looks = kept(at)
    odds = np.exp(said.logits.astype(float))
    sure = (odds / odds.sum(1, keepdims=True)).max(1)
    wrong = sorted((n for n in range(len(said)) if said.logits[n].argmax() != said.labels[n]), key=lambda n: -sure[n])
    assert len(wrong) > SUREST
    wanted = [*wrong[:SUREST], *wrong[SUREST:][::-1][:DOUBTFUL]]
    assert shown(said) == wanted
    assert list(dict.fromkeys(one.row for one in looks.looks)) == wanted
    for one in looks.looks:
        names = [look.name for look in looks.looks if look.row == one.row]
        assert names == [said.classes[said.logits[one.row].argmax()], said.classes[said.labels[one.row]]]
        assert one.heat.shape == one.hottest.shape == said.thumbnails.shape[1:3]  # type: ignore[union-attr]
        assert one.heat.max() == 255 or not one.heat.any()


def test_what_is_kept_is_what_why_says(at: Path) -> None:
    said, looks = kept(at)
    told = json.loads(tellapart(at, "why", "wrong", "--mistakes", "3", "--nearest", "0", "--json").out)
    assert told["method"] == looks.method
    for one in told["pictures"]:
        mine = [look for look in looks.looks if said.keys[look.row] == one["path"]]
        for own, other in zip(mine, one["heat"], strict=True):
            assert (own.name, own.known["fault"]) == (other["class"], other["fault"])
            for key in ("probability", "without_hottest", "deletion", "insertion", "without_elsewhere"):
                assert own.known[key] == pytest.approx(other[key], abs=1e-5)
            assert own.known["margin"]["value"] == pytest.approx(other["margin"]["value"], abs=1e-4)


def test_a_file_is_read_back_as_it_was_written_and_belongs_to_its_predictions(at: Path, tmp_path: Path) -> None:
    said, looks = kept(at)
    looks.save(tmp_path / "x")
    again = Looks.load(tmp_path / "x", said)
    assert again is not None
    assert (again.method, again.why, again.of) == (looks.method, "", digest(said))
    for one, other in zip(looks.looks, again.looks, strict=True):
        assert (one.row, one.name) == (other.row, other.name)
        assert json.dumps(one.known) == json.dumps(other.known)
        assert np.array_equal(one.heat, other.heat)
        assert np.array_equal(one.hottest, other.hottest)
    assert Looks.load(tmp_path / "x", replace(said, logits=said.logits + 1)) is None
    assert Looks.load(tmp_path / "x", replace(said, keys=said.keys[::-1])) is None
    assert Looks.load(tmp_path / "y", said) is None
    Looks(of=digest(said), why=SLOW).save(tmp_path / "none")
    assert Looks.load(tmp_path / "none", said) == Looks(of=digest(said), why=SLOW)
    (tmp_path / "x").write_bytes(b"no maps")
    with pytest.raises(StorageError, match="does not hold heat maps"):
        Looks.load(tmp_path / "x", said)


def test_the_maps_of_the_test_part_are_kept_when_it_is_opened(at: Path) -> None:
    assert not run_of(at).heat("test").exists()
    assert tellapart(at, "test", "wrong").code == 0
    said, looks = kept(at, "test")
    assert {one.row for one in looks.looks} <= set(shown(said))
    assert len(looks.looks) > 0
    assert looks.looks[0].row == shown(said)[0]


def test_at_the_end_of_a_training_they_are_of_the_part_that_it_is_judged_by(at: Path) -> None:
    train(at, "open", *WRONG)
    run = Run.open(at / "runs", "open")
    assert run.heat("test").is_file()
    assert not run.heat("validation").exists()


# --- when there are none ----------------------------------------------------------------------------------------------


def again(at: Path, **more: Any) -> Looks:
    """The maps of the run, made once more."""
    run, cpu = run_of(at), torch.device("cpu")
    said, pictures = kept(at)[0], same_pictures(run, recipe_of(run)).pictures
    keep_heat(run, load_bundle(run.bundle), pictures, said, cpu, **more)
    return kept(at)[1]


def test_what_would_take_too_long_is_left_out_and_said(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(at)
    assert "too long" not in Page(pages(at)).words
    monkeypatch.setattr(keeping, "LONGEST", 0.0)
    assert again(at) == Looks(of=digest(kept(at)[0]), why=SLOW)
    assert "`tellapart why wrong --mistakes 12` makes them, for this page too" in Page(pages(at)).words
    before = run_of(at).heat("validation").read_bytes()
    assert "kept" not in tellapart(at, "why", "wrong", "--mistakes", "2", "--nearest", "0", "--class", "a").out
    assert "kept" not in tellapart(at, "why", "wrong", "--mistakes", "2", "--nearest", "0", "--method", "occlusion").out
    assert run_of(at).heat("validation").read_bytes() == before
    done = tellapart(at, "why", "wrong", "--mistakes", "2", "--nearest", "0")
    assert "the maps are kept: `tellapart report wrong` shows them" in done.out
    assert [one.row for one in kept(at)[1].looks] == [row for row in shown(kept(at)[0])[:2] for _ in range(2)]
    assert "Where it looked in 2 of" in Page(pages(at)).words
    assert "kept" not in tellapart(at, "why", "wrong", "--mistakes", "1", "--nearest", "0").out  # more are there
    run_of(at).heat("validation").write_bytes(b"no maps")
    done = tellapart(at, "why", "wrong", "--mistakes", "1", "--nearest", "0")
    assert (done.code, "the maps could not be kept for the report: " in done.out) == (0, True)
    run_of(at).heat("validation").write_bytes(before)
    monkeypatch.setattr(keeping, "LONGEST", PATIENT)
    for seconds, least, most in ((0.0, 1, 3), (PATIENT, 12, 12)):
        monkeypatch.setattr(keeping, "PASSES", 0.0)
        monkeypatch.setattr(keeping, "LEAST", seconds)
        monkeypatch.setattr(keeping, "SHARE", 0.0)
        found = again(at)
        assert least <= len({one.row for one in found.looks}) <= most


def test_a_network_that_refuses_is_said_and_its_run_ends_well(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "explain", raising(RuntimeError("no <b>hooks</b>\x1b here")))
    train(at, "stubborn", *WRONG, "--no-test")
    assert tellapart(at, "report", "stubborn").code == 0
    text = section((at / "runs/stubborn/report.html").read_text("utf-8"))
    assert "could not be made; the network said: RuntimeError: no <b>hooks</b>  here." in Page(text).words
    assert "<b>" not in text
    assert "could not be made" not in pages(at)


def raising(error: Exception) -> Any:
    def refuse(*_: object) -> None:
        raise error

    return refuse


def test_a_stop_ends_it_and_a_broken_seal_is_never_a_refusal(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(at)
    with pytest.raises(Interrupted):
        again(at, asked=lambda: Interrupted("stop"))
    run, cpu = run_of(at), torch.device("cpu")
    few = kept(at)[0]
    wrong = {"logits": few.logits[:9], "labels": (few.logits[:9].argmax(1) + 1) % 3, "keys": few.keys[:9]}
    sealed = replace(few, part="test", **wrong)
    with pytest.raises(SealBroken):
        keep_heat(run, load_bundle(run.bundle), same_pictures(run, recipe_of(run)).pictures, sealed, cpu)


def test_a_run_without_mistakes_has_an_empty_file_and_says_nothing_of_maps(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", per_class=20)
    done = train(tmp_path, "sure", "pets", "--epochs", "12", "--batch-size", "8", "--no-test")
    said = Predictions.load(done.run("sure").predictions("validation"))
    assert not shown(said)
    assert Looks.load(done.run("sure").heat("validation"), said) == Looks(of=digest(said))
    assert tellapart(tmp_path, "report", "sure").code == 0
    assert "eat map" not in section((tmp_path / "runs/sure/report.html").read_text("utf-8"))


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_report_draws_what_means_something_and_says_what_does_not(at: Path) -> None:
    said, looks = kept(at)
    text = pages(at)
    good = [one for one in looks.looks if not one.known["fault"]]
    drawn = re.findall(r'<img class="warm" alt="Heat for “([abc])”[^"]*" src="data:image/png;base64,([^"]+)">', text)
    assert [name for name, _ in drawn] == [one.name for one in good]
    assert good
    assert said.thumbnails is not None
    for one, (_, data) in zip(good, drawn, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
        wanted = over(said.thumbnails[one.row], one.heat / 255, one.hottest, (0, 0, 12, 12))
        assert np.abs(pixels - wanted).mean() < 4  # 64 colours
    assert text.count("not drawn") == len(looks.looks) - len(good)
    assert text.count("不画") == len(looks.looks) - len(good)
    counted = f"only one that passed is drawn: {len(good)} of {len(looks.looks)} did."
    assert counted in Page(text).words
    assert len(re.findall('<div class="look">', text)) == len({one.row for one in looks.looks})


def test_the_page_with_maps_is_rebuilt_byte_for_byte_without_pictures_and_weights(at: Path) -> None:
    assert "only one that passed is drawn" in pages(at)
    page = (at / "runs/wrong/report.html").read_bytes()
    shutil.rmtree(at / "vague")
    shutil.rmtree(at / "runs/wrong/checkpoints")
    for name in ("report.html", "model.safetensors"):
        (at / "runs/wrong" / name).unlink()
    pages(at)
    assert (at / "runs/wrong/report.html").read_bytes() == page
    run_of(at).heat("validation").write_bytes(b"no maps")
    done = tellapart(at, "report", "wrong")
    assert (done.code, "does not hold heat maps" in done.err) == (4, True)
    run_of(at).heat("validation").unlink()
    assert "not drawn" not in pages(at)


def known(fault: str = "") -> dict[str, Any]:
    """What is known of a made map."""
    margin = {"value": 0.31, "low": 0.12, "high": 0.5, "n": 19}
    return {
        **{"fault": fault, "probability": 0.97, "without_hottest": 0.32, "without_elsewhere": [0.9, 0.96, 0.99]},
        **{"margin": margin, "moved_maps_beaten": 1},
        "random_networks": {"correlation": {"the last layer": 0.2, "all layers": 0.83}, "of_each": 3},
    }


def looked_at(of: Predictions, *faults: str, name: str = "class 1") -> Looks:
    """Made looks at the first mistakes."""
    assert of.thumbnails is not None
    side = of.thumbnails.shape[1]
    heat, hottest = np.zeros((side, side), np.uint8), np.zeros((side, side), bool)
    heat[1:3, 1:3], hottest[1, 1] = 255, True
    more = {"heat": heat, "hottest": hottest}
    each = zip(shown(of), faults, strict=False)
    looks = tuple(Look(row=row, name=name, known=known(fault), **more) for row, fault in each)
    return Looks(of=digest(of), method="occlusion", looks=looks)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "",
            "without the outlined tenth it goes from 97.0 % to 32.0 %, without as much elsewhere to 95.0 % (90.0 % to",
        ),
        ("flat", "“class 1”: not drawn. This map is the same everywhere."),
        ("random", "This map is no better than that of a random network (rank correlation 0.83, n = 3 networks)."),
        ("elsewhere", "2 of 3 other places matter as much as its hottest tenth."),
        ("little", "the log-odds fall by only 0.31 [0.12, 0.50] more than elsewhere (n = 3 places)."),
    ],
)
def test_what_is_wrong_with_a_map_is_said_and_its_twin_is_silent(fault: str, words: str) -> None:
    of = predicted()
    text, twin = (
        Page(section(report(evidence(of, looks=looked_at(of, one))))) for one in (fault, "" if fault else "flat")
    )
    assert words in text.words.replace("\xa0", " ")
    assert words not in twin.words.replace("\xa0", " ")
    assert ("img" in {tag for tag, _ in text.tags}) == (not fault)


def test_every_fault_has_its_sentence_in_both_languages() -> None:
    from tellapart.reporting.looked import FAULTS

    assert set(FAULTS.values()) == {key for key in table()["sentences"] if key.startswith("heat_")}


def test_hostile_names_stay_text_in_the_maps() -> None:
    of = predicted()
    for name in HOSTILE:
        text = report(evidence(of, looks=looked_at(of, "", "flat", name=name)))
        plain = report(evidence(of, looks=looked_at(of, "", "flat")))
        assert text.encode("utf-8")
        assert [tag for tag, _ in Page(text).tags] == [tag for tag, _ in Page(plain).tags]
        assert [sorted(attrs) for _, attrs in Page(text).tags] == [sorted(attrs) for _, attrs in Page(plain).tags]
        assert not [letter for letter in Page(text).words if not letter.isprintable() and letter not in "\n\xa0"]


def test_a_page_with_all_maps_asks_for_nothing_and_stays_small() -> None:
    of = predicted(2000, side=64)
    plain = report(evidence(of))
    text = report(evidence(of, looks=replace(looked_at(of, *[""] * 12), method="hirescam")))
    page = Page(text)
    assert all(value.startswith(("data:image/", "#")) for name in ("src", "href") for value in page.every(name))
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert 0 < len(text) - len(plain) < 1_000_000


def test_a_run_of_the_digits_keeps_maps_within_half_a_second(tmp_path: Path) -> None:
    done: Done = train(tmp_path, "first", "digits", "--epochs", "2", "--no-test")
    said = Predictions.load(done.run("first").predictions("validation"))
    looks = Looks.load(done.run("first").heat("validation"), said)
    assert looks is not None
    assert looks.looks or looks.why == SLOW
    seconds = sum(one["seconds"] for _, one in done.run("first").records() if one["kind"] == "epoch")
    assert keeping._seconds(done.run("first")) == pytest.approx(max(keeping.LEAST, keeping.SHARE * seconds))
