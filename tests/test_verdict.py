"""What may be said of a model: the seal opened once and counted, other pictures, mistakes, data without a test part."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Done, tellapart, train
from pictures import make_folder
from PIL import Image

from tellapart.evaluation.metrics import judge
from tellapart.evaluation.predictions import Predictions
from tellapart.models.bundle import load_bundle, save_bundle
from tellapart.workflow.mistakes import by_loss

QUICK = ("digits", "--model", "linear", "--epochs", "1")
NEVER = "this test part was never opened before"
STILL = "the test part is still sealed"


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A folder `pets`, and the run `sure` that makes no mistake on it."""
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets")
    return train(at, "sure", "pets", "--epochs", "12", "--batch-size", "8")


def opened_by(at: Path) -> list[str]:
    return [json.loads(line)["run"] for line in (at / "runs/openings.jsonl").read_text().splitlines()]


def test_no_test_leaves_the_seal_closed_and_says_how_to_open_it(tmp_path: Path) -> None:
    done = train(tmp_path, "a", *QUICK, "--no-test")
    assert f"{STILL}; `tellapart test a` opens it" in done.out
    assert "test accuracy" not in done.out
    assert "8/9" not in done.err
    assert not done.run("a").predictions("test").exists()
    assert not (tmp_path / "runs/openings.jsonl").exists()


def test_the_first_test_opens_and_notes_it_and_the_second_opens_nothing(tmp_path: Path) -> None:
    train(tmp_path, "a", *QUICK, "--no-test")
    first = tellapart(tmp_path, "test", "a")
    stored = first.run("a").predictions("test").read_bytes()
    second = tellapart(tmp_path, "test", "a")
    assert (first.code, second.code) == (0, 0)
    assert NEVER in first.out
    assert second.out == first.out
    assert opened_by(tmp_path) == ["a"]
    assert first.run("a").predictions("test").read_bytes() == stored


def test_a_later_test_gives_the_figures_that_training_would_have_given(tmp_path: Path) -> None:
    at_once = json.loads(train(tmp_path, "a", *QUICK, "--json").out)
    train(tmp_path, "b", *QUICK, "--no-test")
    later = json.loads(tellapart(tmp_path, "test", "b", "--json").out)
    assert later["figures"] == at_once["figures"]
    assert (at_once["opened_before"], later["opened_before"]) == ([], ["a"])


def test_openings_are_counted_over_runs_and_training_seeds(tmp_path: Path) -> None:
    assert NEVER in train(tmp_path, "a", *QUICK, "--seed", "0").out
    assert "opened once before, last by a:" in train(tmp_path, "b", *QUICK, "--seed", "1").out
    assert "opened 2 times before, last by a, b:" in train(tmp_path, "c", *QUICK, "--epochs", "2").out
    assert (
        "of these 269 pictures were opened 3 times before"
        in train(tmp_path, "d", *QUICK, "--set", "data.split_seed=1").out
    )
    assert NEVER in train(tmp_path, "e", *QUICK, "--runs", "elsewhere").out


def test_a_later_opening_by_another_run_is_not_called_earlier(tmp_path: Path) -> None:
    train(tmp_path, "a", *QUICK)
    train(tmp_path, "b", *QUICK)
    assert NEVER in tellapart(tmp_path, "test", "a").out
    assert "opened once before, last by a:" in tellapart(tmp_path, "test", "b").out


def test_a_run_named_by_its_path_counts_its_openings_beside_it(tmp_path: Path) -> None:
    train(tmp_path, "a", *QUICK)
    train(tmp_path, "b", *QUICK, "--no-test")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = tellapart(elsewhere, "test", str(tmp_path / "runs" / "b"))
    assert done.code == 0, done.err
    assert "opened once before, last by a:" in done.out
    assert opened_by(tmp_path) == ["a", "b"]


def test_a_sealed_part_whose_pictures_changed_is_not_opened(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets")
    train(tmp_path, "a", "pets", "--epochs", "1", "--batch-size", "8", "--no-test")
    (tmp_path / "pets/cat/00.png").unlink()
    done = tellapart(tmp_path, "test", "a")
    assert done.code == 7
    assert "The pictures of pets are no longer those that a was trained with." in done.err
    assert not (tmp_path / "runs/openings.jsonl").exists()


def test_a_run_that_did_not_finish_is_not_judged_and_stays_sealed(tmp_path: Path) -> None:
    assert tellapart(tmp_path, "train", *QUICK, "--lr", "1e6", "--run", "a").code == 5
    done = tellapart(tmp_path, "test", "a")
    assert done.code != 0
    assert "diverged" in done.err
    assert not (tmp_path / "runs/openings.jsonl").exists()


def test_mistakes_are_drawn_as_one_picture_and_counted(tmp_path: Path) -> None:
    train(tmp_path, "a", *QUICK)
    done = tellapart(tmp_path, "test", "a", "--mistakes", "wrong.png")
    assert done.code == 0
    assert "mistakes among 269 pictures of the test part: " in done.out
    with Image.open(tmp_path / "wrong.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 100


def test_a_model_without_mistakes_is_judged_and_says_so(pets: Done) -> None:
    done = tellapart(pets.at, "test", "sure", "--mistakes", "none.png")
    assert "no mistake" in done.out.lower() + done.err.lower()
    assert not (pets.at / "none.png").exists()
    assert done.code == 0
    assert "test accuracy  100.0 %" in done.out


def test_every_picture_is_listed_with_its_own_loss(tmp_path: Path) -> None:
    train(tmp_path, "a", *QUICK)
    done = tellapart(tmp_path, "test", "a", "--losses", "losses.csv")
    assert f"269 pictures of the test part by their own loss: {tmp_path / 'losses.csv'}" in done.out
    stored = Predictions.load(done.run("a").predictions("test"))
    with (tmp_path / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["key"] for row in rows) == sorted(stored.keys)
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert np.mean(losses) == pytest.approx(next(f.value for f in judge(stored) if f.name == "loss"))
    for row in rows[:5]:
        logits = stored.logits[stored.keys.index(row["key"])].astype(float)
        shares = [math.exp(x) / sum(math.exp(y) for y in logits) for x in logits]
        assert row["said"] == stored.classes[shares.index(max(shares))]
        own = shares[stored.classes.index(row["class"])]
        assert float(row["probability of the class"]) == pytest.approx(own, abs=1e-6)
        assert float(row["loss"]) == pytest.approx(-math.log(shares[stored.classes.index(row["class"])]), rel=1e-5)


def test_a_sure_and_right_answer_costs_nothing_and_the_better_of_two_models_less() -> None:
    """The notes' true label is [1, 0, 0, 0, 0]: of two predictions the nearer one has less cross entropy, 0 at best."""
    answers = np.log([[0.7, 0.1, 0.1, 0.05, 0.05], [0.4, 0.3, 0.1, 0.1, 0.1], [1, 1e-30, 1e-30, 1e-30, 1e-30]])
    keys, labels = ("near", "far", "sure"), np.zeros(3, np.int64)
    made = Predictions(part="test", classes=tuple("abcde"), keys=keys, logits=answers.astype(np.float32), labels=labels)
    found = by_loss(made)
    assert [row[0] for row in found] == ["far", "near", "sure"]
    assert [row[4] for row in found] == pytest.approx([-math.log(0.4), -math.log(0.7), 0.0], abs=1e-6)


def test_a_flat_folder_is_split_class_by_class_and_tested(pets: Done) -> None:
    assert "36 pictures of 3 classes (24 train, 6 validation, 6 test)" in pets.err
    assert "test accuracy  100.0 % [61.0, 100.0]  (95 % interval, n = 6)" in pets.out


def test_a_folder_with_train_and_val_only_gets_no_test_invented(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", parts=("train", "val"))
    done = train(tmp_path, "a", "pets", "--epochs", "2", "--batch-size", "8")
    assert "72 pictures of 3 classes (36 train, 36 validation)" in done.err
    assert "no sealed test: the data bring none, and none was made" in done.out
    assert "test accuracy" not in done.out
    assert "no sealed test" in tellapart(tmp_path, "test", "a").out
    assert not (tmp_path / "runs/openings.jsonl").exists()


def test_a_split_made_anew_gives_that_folder_a_test_part(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", parts=("train", "val"))
    done = train(tmp_path, "a", "pets", "--epochs", "1", "--batch-size", "8", "--set", "data.split=new")
    assert "(48 train, 12 validation, 12 test)" in done.err
    assert "These parts are not kept: data.split is new, all is divided anew." in done.err
    assert NEVER in done.out


def test_other_pictures_are_judged_by_class_name(pets: Done) -> None:
    make_folder(pets.at / "two", classes=("fox", "cat"), per_class=5)
    done = tellapart(pets.at, "test", "sure", "two", "--json")
    figures = json.loads(done.out)["figures"]
    recalled = {figure["about"]: figure["n"] for figure in figures if figure["name"] == "recall"}
    assert recalled == {"cat": 5, "dog": 0, "fox": 5}
    assert not (pets.at / "runs/openings.jsonl").read_text().count("two")


def test_other_pictures_that_belong_together_count_as_groups(pets: Done) -> None:
    make_folder(pets.at / "bursts", classes=("fox", "cat"), per_class=8)
    judged = [
        json.loads(tellapart(pets.at, "test", "sure", "bursts", "--json", *more).out)["judgement"]
        for more in ((), ("--group-by", r"/(\d+)"))
    ]
    assert [one["groups"] for one in judged] == [None, 8]
    refused = tellapart(pets.at, "test", "sure", "--group-by", "folder")
    assert (refused.code, "--group-by" in refused.err) == (2, True)


def test_an_answer_that_is_no_number_is_not_judged_but_named(pets: Done) -> None:
    """Finite weights can overflow inside: the right class would be the wrong one, or the first."""
    whole = load_bundle(pets.run("sure").bundle)
    state = {name: tensor * (1e30 if tensor.is_floating_point() else 1) for name, tensor in whole.state.items()}
    save_bundle(replace(whole, state=state), pets.at / "huge.safetensors")
    done = tellapart(pets.at, "test", "huge.safetensors", "pets")
    assert done.code == 5
    assert "The network's answer for " in done.err
    assert " is not a finite number, as for " in done.err
    said = tellapart(pets.at, "predict", "huge.safetensors", "pets/cat", "--json")
    guesses = json.loads(said.out)["predictions"]
    assert guesses
    assert {one["error"] for one in guesses} == {"The network's answer is not a finite number."}


def test_predict_names_every_picture_of_a_folder_with_the_likeliest_first(pets: Done) -> None:
    document = json.loads(tellapart(pets.at, "predict", "sure", "pets", "--json").out)
    assert len(document["predictions"]) == 36
    for guess in document["predictions"]:
        shares = [top["probability"] for top in guess["top"]]
        assert guess["top"][0]["class"] == Path(guess["path"]).parent.name
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)


def test_predict_says_the_same_by_run_by_path_and_by_model_file(pets: Done) -> None:
    named = [tellapart(pets.at, "predict", name, "pets/cat/00.png", "-v") for name in (
        "sure", "runs/sure", "runs/sure/model.safetensors")]  # fmt: skip
    assert {done.code for done in named} == {0}
    assert len({done.out for done in named}) == 1
    assert "size (12, 12), input (1, 3, 12, 12)" in named[0].out


def test_predict_counts_the_sealed_pictures_and_the_log_keeps_that_they_were_looked_at(pets: Done, tmp_path) -> None:
    make_folder(tmp_path / "pets")
    run = train(tmp_path, "a", "pets", "--epochs", "1", "--no-test").run("a")
    (tmp_path / "sealed").mkdir()
    rows = csv.DictReader((run.folder / "split.csv").read_text().splitlines())
    test = [row["key"] for row in rows if row["part"] == "test"]
    for n, key in enumerate(test):  # under other names and in another container, and one of other pixels
        Image.open(tmp_path / "pets" / key).convert("RGB").save(tmp_path / f"sealed/{n}.bmp")
    Image.new("RGB", (9, 9)).save(tmp_path / "sealed/new.png")
    (tmp_path / "sealed/cut.png").write_bytes(b"cut")
    first = tellapart(tmp_path, "predict", "a", "sealed")
    sentence = f"{len(test)} of these {len(test) + 1} pictures are in the sealed test part of a"
    assert f"{sentence}: its log keeps that they were looked at; choose nothing by them" in first.err
    assert run.folder.joinpath("log.txt").read_text().count(f"predict: {sentence}") == 1
    by_file = tellapart(tmp_path, "predict", "runs/a/model.safetensors", "sealed", "--json")
    assert sentence in json.loads(by_file.out)["notes"][0]
    assert run.folder.joinpath("log.txt").read_text().count(f"predict: {sentence}") == 2
    assert not (tmp_path / "runs/openings.jsonl").exists()  # no label was compared
    clean = tellapart(tmp_path, "predict", "a", "sealed/new.png", "--json")
    assert json.loads(clean.out)["notes"] == []
    tellapart(tmp_path, "test", "a")
    opened = tellapart(tmp_path, "predict", "a", "sealed")
    assert f"{len(test)} of these {len(test) + 1} pictures were in the test part of a\n" in opened.err
    assert run.folder.joinpath("log.txt").read_text().count("predict: ") == 2


def test_a_look_that_cannot_be_written_down_is_said(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets")
    run = train(tmp_path, "a", "pets", "--epochs", "1", "--no-test").run("a")
    (run.folder / "log.txt").unlink()
    (run.folder / "log.txt").mkdir()
    done = tellapart(tmp_path, "predict", "a", "pets")
    assert done.code == 0
    assert "in the sealed test part of a; that could not be written into its log: " in done.err
    assert "of these 36 pictures were in the train part of a" in done.err


def test_the_file_of_a_run_does_not_open_its_sealed_part(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "pets")
    run = train(tmp_path, "a", "pets", "--epochs", "1", "--no-test").run("a")
    by_file = tellapart(tmp_path, "test", "runs/a/model.safetensors", "pets")
    assert by_file.code == 2
    assert "are the sealed test part of a" in by_file.err
    rows = [row for row in csv.DictReader((run.folder / "split.csv").read_text().splitlines()) if row["part"] == "test"]
    for row in rows:
        (tmp_path / "again" / row["key"]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "again" / row["key"]).write_bytes((root / row["key"]).read_bytes())
    (tmp_path / "m.safetensors").write_bytes(run.bundle.read_bytes())
    said = "these are the pictures of the test part of a, which made this model"
    assert said in tellapart(tmp_path, "test", "m.safetensors", "again").out
    assert said not in tellapart(tmp_path, "test", "m.safetensors", "pets").out


def test_a_copy_that_left_training_does_not_hide_that_its_twin_is_sealed(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "pets")
    rows = []
    for folder in sorted(root.iterdir()):
        for n, file in enumerate(sorted(folder.iterdir())):
            rows.append(f"{folder.name}/{file.name},{['train', 'validation', 'test'][n % 3]}")
    picture = (root / "cat/02.png").read_bytes()
    (root / "cat/zz.png").write_bytes(picture)
    (tmp_path / "split.csv").write_text("\n".join(["key,part", *rows, "cat/zz.png,out"]))
    train(tmp_path, "a", "pets", "--epochs", "1", "--no-test", "--split", "split.csv")
    assert "1 of these 1 pictures are in the sealed" in tellapart(tmp_path, "predict", "a", "pets/cat/02.png").err


def test_a_model_file_is_enough_without_run_and_pictures(pets: Done, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(pets.run("sure").bundle.read_bytes())
    make_folder(tmp_path / "other", per_class=1)
    done = tellapart(tmp_path, "predict", "m.safetensors", "other/dog/00.png")
    assert done.code == 0
    assert done.out.startswith("other/dog/00.png  dog (1) ")
