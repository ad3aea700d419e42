"""`tellapart compare`: what is compared, what is refused, what is said; on stored runs, and on trained ones."""

import csv
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Done, tellapart, train
from PIL import Image
from test_laws import called, loaded_by

from tellapart.evaluation.predictions import Predictions
from tellapart.recipe import Recipe
from tellapart.workflow.begin import identity_of
from tellapart.workflow.compare import compare

N, CLASSES = 200, ("cat", "dog", "fox")
KEYS = tuple(f"{n:03d}.png" for n in range(N))
THESE = "This is of these trainings; --seeds 3 tells how far seeds alone differ."
CHOSEN = "note: the epoch of each was chosen by validation pictures"


def stored(
    runs: Path,
    name: str,
    *,
    wrong: Sequence[int] = (),
    keys: Sequence[str] = KEYS,
    classes: Sequence[str] = CLASSES,
    labels: Sequence[int] | None = None,
    part: str = "validation",
    opened: bool = False,
    digests: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    trained: Sequence[tuple[str, str]] = (("t.png", "d-t.png"),),
    settings: dict[str, Any] | None = None,
    epochs: Sequence[tuple[float, float, float]] = ((1.0, 0.9, 0.5), (0.5, 0.6, 0.8), (0.3, 0.5, 0.9)),
    thumbnails: bool = True,
) -> Path:
    """A finished run as training would have left it, which answers `wrong` rows with the next class."""
    folder = runs / name
    (folder / "predictions").mkdir(parents=True)
    own = np.array([n % len(classes) for n in range(len(keys))] if labels is None else labels, np.int64)
    said = own.copy()
    said[list(wrong)] = (said[list(wrong)] + 1) % len(classes)
    logits = np.where(np.eye(len(classes))[said] > 0, 2.0, 0.0).astype(np.float32)
    small = np.full((len(keys), 8, 8, 1), 90, np.uint8) if thumbnails else None
    made = Predictions(part=part, classes=tuple(classes), keys=tuple(keys), logits=logits, labels=own, thumbnails=small)
    made.save(folder / "predictions" / f"{part}.safetensors")
    if opened:
        made.save(folder / "predictions" / "test.safetensors")
    digests = [f"d-{key}" for key in keys] if digests is None else digests
    names = [classes[label] for label in own]
    with (folder / "split.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(["key", "class", "part", "group", "digest"])
        table.writerows([key, classes[0], "train", "", digest] for key, digest in trained)
        table.writerows(zip(keys, names, [part] * len(keys), groups or [""] * len(keys), digests, strict=True))
    recipe = Recipe.from_values(settings or {}).to_toml({path: f"--{path}" for path in settings or {}})
    (folder / "recipe.toml").write_text(recipe)
    (folder / "environment.json").write_text(json.dumps({"time": name, "device": "cpu", "packages": {"torch": "2"}}))
    status = {"state": "finished", "recipe": identity_of(recipe), "split": "s", "test_part": "t", "figures": []}
    (folder / "status.json").write_text(json.dumps(status))
    records = [
        {"kind": "epoch", "epoch": n, "train_loss": train, "val_loss": loss, "val_accuracy": right, "seconds": 1.0}
        for n, (train, loss, right) in enumerate(epochs)
    ]
    lines = [json.dumps({**record, "best": n == len(records) - 1}) for n, record in enumerate(records)]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def several(runs: Path, name: str, members: Sequence[object], **about: Any) -> Path:
    """The folder of several trainings around them."""
    folder = runs / name
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    (folder / "members.json").write_text(json.dumps({"folds": 0, "seeds": len(members), "seed": 0, **about}))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "figures": []}))
    return folder


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def compared(at: Path, *words: str) -> Done:
    done = tellapart(at, "compare", *words)
    assert done.code == 0, done.err
    return done


def document(at: Path, *words: str) -> dict[str, Any]:
    found = json.loads(compared(at, *words, "--json").out)
    assert found["format"] == 1
    return found


# --- trained runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on digits: two seeds, a third that took one step, and one with another split; two more on fewer classes."""
    at, linear = tmp_path_factory.mktemp("trained"), ("--model", "linear", "--epochs", "3", "--no-test")
    train(at, "first", "digits", *linear)
    train(at, "second", "digits", *linear, "--seed", "1")
    train(at, "bad", "digits", *linear, "--set", "train.max_steps=1", "--epochs", "1")
    train(at, "other", "digits", *linear, "--set", "data.split_seed=1")
    train(at, "fewer", "digits", *linear, "--exclude", "9")
    return at


def test_two_seeds_cannot_be_told_apart_and_a_bad_run_is_worse(trained: Path) -> None:
    done = compared(trained, "first", "second")
    assert "on the validation part: 269 pictures that all of them judged" in done.out
    assert "No difference in accuracy between first and second can be told apart: " in done.out
    assert re.search(
        r"\(n = 269, McNemar mid-p = [\d.]+\); these 269 pictures resolve differences from about", done.out
    )
    assert "  recipe       train.seed: 0 | 1 (--seed)\n" in done.out
    assert "nothing: the same 1,797 in the same parts" in done.out
    assert "note: the test part of first and second is sealed: validation pictures are compared" in done.out
    assert CHOSEN in done.out
    assert "splits differ" not in done.out
    bad = compared(trained, "first", "bad")
    assert re.search(r"^bad is worse than first by \d+\.\d points \[\d", bad.out, re.M)
    assert re.search(r"^first is better than bad by \d+\.\d points \[\d", compared(trained, "bad", "first").out, re.M)
    assert bad.out.count(THESE) == 1
    assert THESE not in done.out
    both = compared(trained, "first", "second", "bad")
    assert both.out.count("after Holm's correction for 2 comparisons") == 2


def test_the_numbers_are_those_of_the_stored_predictions(trained: Path) -> None:
    found = document(trained, "first", "second", "--runs", "runs")
    said = [
        Predictions.load(trained / "runs" / name / "predictions/validation.safetensors") for name in found_names(found)
    ]
    right = [[int(logits.argmax()) == label for logits, label in zip(p.logits, p.labels, strict=True)] for p in said]
    own = found["pairs"][0]["found"]
    assert own["won"] == sum(b and not a for a, b in zip(*right, strict=True)) == len(found["pairs"][0]["won"])
    assert own["lost"] == sum(a and not b for a, b in zip(*right, strict=True)) == len(found["pairs"][0]["lost"])
    losses = [
        np.mean([np.log(np.exp(row.astype(float)).sum()) - row[k] for row, k in zip(p.logits, p.labels, strict=True)])
        for p in said
    ]
    assert own["loss"][0] == pytest.approx(losses[1] - losses[0], abs=1e-6)
    assert [one["trainings"][one["name"]][0]["value"] for one in found["models"]] == [np.mean(one) for one in right]


def found_names(found: dict[str, Any]) -> list[str]:
    return [one["name"] for one in found["models"]]


def test_other_splits_are_said_and_what_one_trained_on_is_left_out(trained: Path) -> None:
    found = document(trained, "first", "other")
    first, other = (
        {row["key"]: row["part"] for row in table(trained / "runs" / name / "split.csv")} for name in ("first", "other")
    )
    common = [key for key in first if first[key] == other[key] == "validation"]
    leaks = [
        sum(a[key] == "validation" and b[key] == "train" for key in a) for a, b in ((first, other), (other, first))
    ]
    assert found["n"] == len(common) < 100
    notes = "\n".join(found["notes"])
    assert f"the splits differ: 269 of first and 269 of other were judged, {len(common)} by all" in notes
    assert f"validation pictures of first that are training pictures of other: {leaks[0]}, left out" in notes
    assert f"validation pictures of other that are training pictures of first: {leaks[1]}, left out" in notes
    assert found["data"]["moved"] == [0, sum(first[key] != other[key] for key in first)]


def test_other_classes_are_refused(trained: Path) -> None:
    done = tellapart(trained, "compare", "first", "fewer")
    assert done.code == 7
    assert "first knows 10 classes, fewer 9; only first knows '9'." in done.err
    assert "--include" in done.err


def test_comparing_opens_no_seal_and_uses_a_test_part_that_all_have_opened(trained: Path) -> None:
    for name in ("first", "second"):
        compared(trained, "first", "second", "--curves", "c.svg")
        assert not (trained / "runs" / name / "predictions/test.safetensors").exists()
        assert not (trained / "runs/openings.jsonl").exists()
    assert tellapart(trained, "test", "first").code == 0
    half = compared(trained, "first", "second").out
    assert "note: the test part of second is sealed: validation pictures are compared" in half
    assert tellapart(trained, "test", "second").code == 0
    whole = compared(trained, "first", "second").out
    assert "on the test part: 269 pictures" in whole
    assert re.findall("^note: (.*)$", whole, re.M) == [
        "these are test pictures: a model that is chosen by them has to be judged by others"
    ]
    assert "these are test pictures" not in half
    (trained / "runs/first/predictions/test.safetensors").unlink()
    (trained / "runs/second/predictions/test.safetensors").unlink()
    (trained / "runs/openings.jsonl").unlink()


def test_comparing_loads_no_torch(trained: Path) -> None:
    code, modules = loaded_by(called("compare", "first", "second", "--curves", "light.png"), trained)
    assert code == 0
    assert "torch" not in modules


def test_a_difference_between_seeds_is_called_luck(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a", wrong=range(40))
    stored(tmp_path / "runs", "b", settings={"train.seed": 5})
    stored(tmp_path / "runs", "c", settings={"train.seed": 5, "optim.lr": 0.5})
    luck = "Their recipes differ in the seed alone: this is the luck of a training."
    assert (
        f"b is better than a by 20.0 points [15.0, 26.1] (n = 200, McNemar mid-p < 0.001). {luck}\n"
        in compared(tmp_path, "a", "b").out
    )
    out = compared(tmp_path, "a", "c").out
    assert luck not in out
    assert THESE in out


# --- which pictures are compared --------------------------------------------------------------------------------------


def test_a_planted_gain_is_named_with_its_pictures_and_a_copy_has_none(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a", wrong=range(40))
    stored(tmp_path / "runs", "b", wrong=range(20))
    stored(tmp_path / "runs", "same", wrong=range(40))
    done = compared(tmp_path, "a", "b")
    assert "b is better than a by 10.0 points [" in done.out
    assert "  only b is right on 20: 020.png (fox, not cat); 021.png (cat, not dog); " in done.out
    assert "; … and 15 more" in done.out
    assert "  only a is right on 0\n" in done.out
    assert "  recipe       nothing\n  environment  nothing\n  pictures     nothing: the same 201" in done.out
    copy = compared(tmp_path, "a", "same")
    assert "can be told apart: +0.0 points [-1.9, 1.9] (n = 200, McNemar mid-p = 1)" in copy.out


def test_pictures_are_known_by_their_pixels_under_any_name(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a", wrong=range(30))
    stored(tmp_path / "runs", "b", keys=[f"moved/{key}" for key in KEYS], digests=[f"d-{key}" for key in KEYS])
    found = document(tmp_path, "a", "b")
    assert (found["n"], found["pairs"][0]["found"]["won"]) == (200, 30)
    assert "other pixels" not in str(found["notes"])


def test_other_pixels_under_the_same_name_are_no_common_picture(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a")
    stored(tmp_path / "runs", "b", digests=[f"{'x' if n < 50 else 'd'}-{key}" for n, key in enumerate(KEYS)])
    found = document(tmp_path, "a", "b")
    assert found["n"] == 150
    assert "pictures with one name and other pixels: 50, not compared" in found["notes"]
    stored(tmp_path / "runs", "c", digests=[f"x-{key}" for key in KEYS])
    done = tellapart(tmp_path, "compare", "a", "c")
    assert done.code == 7
    assert "No picture can be compared between a and c." in done.err
    assert "ictures with one name and other pixels: 200, not compared." in done.err
    assert "--split runs/NAME/split.csv" in done.err


def test_without_digests_pictures_are_known_by_their_names(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a")
    rest = {"keys": KEYS[1:], "labels": [n % 3 for n in range(1, N)], "digests": [""] * (N - 1)}
    stored(tmp_path / "runs", "b", trained=[(KEYS[0], "")], **rest)
    found = document(tmp_path, "a", "b")
    assert found["n"] == 199
    assert "validation pictures of a that are training pictures of b: 1, left out" in found["notes"]


def test_equal_pictures_are_counted_one_by_one(tmp_path: Path) -> None:
    twice = ["same"] * 3 + [f"d-{key}" for key in KEYS[3:]]
    stored(tmp_path / "runs", "a", digests=twice)
    stored(tmp_path / "runs", "b", digests=twice, wrong=[0, 1])
    found = document(tmp_path, "a", "b")
    assert (found["n"], found["pairs"][0]["found"]["lost"]) == (200, 2)


def test_training_pictures_of_the_other_are_refused_when_nothing_else_is_left(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a")
    stored(tmp_path / "runs", "b", trained=[(f"copy/{key}", f"d-{key}") for key in KEYS])
    done = tellapart(tmp_path, "compare", "a", "b")
    assert done.code == 7
    assert "alidation pictures of a that are training pictures of b: 200, left out." in done.err


def test_the_order_of_classes_does_not_matter_and_another_class_of_a_picture_is_left_out(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a", wrong=[7])
    turned = ("fox", "cat", "dog")
    labels = [turned.index(CLASSES[n % 3]) for n in range(N)]
    stored(tmp_path / "runs", "b", classes=turned, labels=labels, wrong=[7])
    assert (document(tmp_path, "a", "b")["n"], document(tmp_path, "a", "b")["pairs"][0]["found"]["won"]) == (200, 0)
    stored(tmp_path / "runs", "c", labels=[(n + (n < 4)) % 3 for n in range(N)])
    found = document(tmp_path, "a", "c")
    assert found["n"] == 196
    assert "pictures with another class in another run: 4, left out" in found["notes"]
    stored(tmp_path / "runs", "d", classes=("cat", "dog", "fix"))
    done = tellapart(tmp_path, "compare", "a", "d")
    assert (done.code, "Did you mean 'fox'?" in done.err) == (7, True)


def test_pictures_in_groups_are_judged_by_groups(tmp_path: Path) -> None:
    groups = [str(n // 20) for n in range(N)]
    stored(tmp_path / "runs", "a", wrong=range(60))
    stored(tmp_path / "runs", "b", wrong=range(40))
    stored(tmp_path / "runs", "c", wrong=range(40), groups=groups)
    apart, together = (document(tmp_path, "a", name)["pairs"][0]["found"] for name in ("b", "c"))
    assert (apart["told_apart"], apart["test"]) == (True, "McNemar mid-p")
    assert (together["told_apart"], together["test"]) == (False, "sign-flip mid-p")
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])
    assert together["loss"][2] - together["loss"][1] > 2 * (apart["loss"][2] - apart["loss"][1])
    assert "note: the pictures come in 10 groups, and are judged by whole groups" in compared(tmp_path, "a", "c").out
    assert "groups" not in compared(tmp_path, "a", "b").out


# --- several trainings ------------------------------------------------------------------------------------------------


def test_seeds_are_compared_by_their_mean_over_pictures_and_over_trainings(tmp_path: Path) -> None:
    for group, wrongs in (("a", (40, 42, 44)), ("b", (10, 12, 14))):
        for seed, wrong in enumerate(wrongs):
            stored(tmp_path / "runs" / group, f"seed-{seed}", wrong=range(wrong), settings={"train.seed": seed})
        several(tmp_path / "runs", group, range(3))
    stored(tmp_path / "runs", "single", wrong=range(41))
    done = compared(tmp_path, "a", "b", "single")
    assert re.search(r"^a +3  79.00 ± 1.00 % .*\(mean ± sd of 3\)$", done.out, re.M)
    assert "b is better than a by 15.0 points [" in done.out
    assert "Over their trainings it is +15.0 points [12.7, 17.3]." in done.out  # 1.4142 / sqrt(3) times t of 4
    assert done.out.count("Over their trainings") == 1
    assert "train.seed: not the same in all its trainings (--train.seed) | not the same" in done.out
    assert "No difference in accuracy between a and single can be told apart" in done.out
    found = document(tmp_path, "a", "b")
    assert found["pairs"][0]["found"]["won"] == 30  # most of b's were right and most of a's wrong
    assert list(found["models"][0]["trainings"]) == ["a/seed-0", "a/seed-1", "a/seed-2"]


def test_a_gain_of_luck_with_the_seed_is_not_called_better(tmp_path: Path) -> None:
    for group, wrongs in (("a", (80, 20)), ("b", (60, 5))):
        for seed, wrong in enumerate(wrongs):
            stored(tmp_path / "runs" / group, f"seed-{seed}", wrong=range(wrong))
        several(tmp_path / "runs", group, range(2))
    done = compared(tmp_path, "a", "b")
    assert "No difference in accuracy between a and b can be told apart: +8.8 points [" in done.out
    assert document(tmp_path, "a", "b")["pairs"][0]["found"]["p"] < 0.001


def test_folds_are_compared_out_of_fold_and_a_training_that_diverged_is_left_out(tmp_path: Path) -> None:
    for group, wrong in (("a", 30), ("b", 5)):
        for fold in range(2):
            keys = KEYS[fold::2]
            rest = [(key, f"d-{key}") for key in KEYS[1 - fold :: 2]]
            stored(tmp_path / "runs" / group, f"fold-{fold}", keys=keys, trained=rest)
        folder = several(tmp_path / "runs", group, (), folds=2, seeds=1)
        stored(tmp_path / "else", group, wrong=range(wrong), part="out-of-fold")
        made = tmp_path / "else" / group / "predictions/out-of-fold.safetensors"
        made.rename(folder / "predictions" / made.name)
    done = compared(tmp_path, "a", "b")
    assert "out of fold: 200 pictures that all of them judged" in done.out
    assert "b is better than a by 12.5 points [" in done.out
    assert "training pictures" not in done.out
    (tmp_path / "runs/b/predictions/out-of-fold.safetensors").unlink()
    done = tellapart(tmp_path, "compare", "a", "b")
    assert done.code == 4
    assert "b is finished, and has no final predictions of all pictures." in done.err


def test_a_seed_that_diverged_is_left_out_and_named(tmp_path: Path) -> None:
    for seed in range(3):
        stored(tmp_path / "runs" / "a", f"seed-{seed}", wrong=range(10 + seed))
    several(tmp_path / "runs", "a", range(3))
    stored(tmp_path / "runs", "b")
    assert "diverged" not in compared(tmp_path, "a", "b").out
    (tmp_path / "runs/a/seed-1/status.json").write_text('{"state": "diverged"}')
    (tmp_path / "runs/a/seed-1/predictions/validation.safetensors").unlink()
    done = compared(tmp_path, "a", "b")
    assert "note: a/seed-1 diverged and is left out" in done.out
    assert re.search(r"^a +2  94.50 ± 0.71 %", done.out, re.M)


def test_trainings_of_other_pictures_and_searches_are_refused(tmp_path: Path) -> None:
    stored(tmp_path / "runs" / "a", "seed-0")
    stored(tmp_path / "runs" / "a", "seed-1", keys=[f"x{key}" for key in KEYS])
    several(tmp_path / "runs", "a", range(2))
    stored(tmp_path / "runs", "b")
    done = tellapart(tmp_path, "compare", "a", "b")
    assert (done.code, "The trainings in a were judged by different pictures." in done.err) == (7, True)
    several(tmp_path / "runs", "a", (), search=True)
    done = tellapart(tmp_path, "compare", "b", "a")
    assert done.code == 2
    assert "a is a search, whose trials differ." in done.err
    assert "tellapart compare a/seed-0 a/seed-1." in done.err


# --- what differs -----------------------------------------------------------------------------------------------------


def test_what_differs_is_listed_with_where_it_is_from_and_nothing_else(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a")
    stored(
        tmp_path / "runs", "b", settings={"optim.lr": 0.5, "input.filter": "bicubic"}, trained=[("u.png", "d-u.png")]
    )
    (tmp_path / "runs/b/environment.json").write_text('{"time": "now", "device": "cuda", "packages": {"torch": "2"}}')
    out = compared(tmp_path, "a", "b").out
    assert "what differs, in the order a | b:\n" in out
    assert '  recipe       optim.lr: "auto" | 0.5 (--optim.lr)\n' in out
    assert "  environment  device: cpu | cuda\n" in out
    assert out.count("  recipe ") == 2
    assert out.count("  environment ") == 1
    assert "  pictures     train: 1 | 1\n" in out
    assert "  pictures     1 only in a, 1 only in b\n" in out
    assert "note: they see the pictures differently: input.filter" in out
    assert "differently" not in compared(tmp_path, "a").out


def test_classes_of_other_sizes_are_counted(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a", trained=[(f"t{n}", f"t{n}") for n in range(9)])
    stored(tmp_path / "runs", "b", trained=[(f"t{n}", f"t{n}") for n in range(5)])
    out = compared(tmp_path, "a", "b").out
    assert "  pictures     train: 9 | 5\n" in out
    assert "  pictures     of cat: 76 | 72\n" in out
    assert "of dog" not in out
    found = document(tmp_path, "a", "b")["data"]
    assert (found["more"], found["fewer"], found["moved"]) == ([0, 0], [0, 4], [0, 0])
    assert found["classes"]["cat"][1] == {"train": 5, "validation": 67, "test": 0}


def test_a_recipe_that_was_edited_is_said(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a")
    folder = stored(tmp_path / "runs", "b")
    assert "as the run wrote it" not in compared(tmp_path, "a", "b").out
    path = folder / "recipe.toml"
    path.write_text(path.read_text().replace("width = 16", "width = 32"))
    assert "note: recipe.toml of b is not as the run wrote it" in compared(tmp_path, "a", "b").out


# --- figures ----------------------------------------------------------------------------------------------------------


def test_won_and_lost_pictures_are_drawn_and_without_any_nothing_is(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a", wrong=range(6))
    stored(tmp_path / "runs", "b", wrong=range(4, 8))
    stored(tmp_path / "runs", "c", wrong=range(6))
    done = compared(tmp_path, "a", "b", "--pictures", "won.png")
    assert "6 pictures that one got right and the other not: " in done.out
    with Image.open(tmp_path / "won.png") as image:
        assert image.width > 300
    done = compared(tmp_path, "a", "c", "--pictures", "none.png")
    assert "there is no picture that one got right and the other not; nothing is drawn" in done.out
    assert not (tmp_path / "none.png").exists()
    stored(tmp_path / "runs", "d", thumbnails=False)
    assert "no small pictures are stored" in compared(tmp_path, "d", "a", "--pictures", "none.png").out
    Image.new("RGB", (9, 9)).save(tmp_path / "holiday.png")
    done = tellapart(tmp_path, "compare", "a", "b", "--pictures", "holiday.png")
    assert (done.code, "holiday.png exists, and tellapart did not draw it." in done.err) == (4, True)


def test_curves_are_raw_and_smoothed_with_a_band_over_seeds(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).uniform(0.1, 1, (3, 5))
    for seed in range(2):
        epochs = [(1.0, loss, 1 - loss) for loss in losses[seed].tolist()]
        stored(tmp_path / "runs" / "a", f"seed-{seed}", epochs=epochs)
    several(tmp_path / "runs", "a", range(2))
    stored(tmp_path / "runs", "b", epochs=[(1.0, loss, 1 - loss) for loss in losses[2].tolist()])
    done = compared(tmp_path, "a", "b", "--curves", "c.csv", "--smooth", "0.5")
    assert "curves of a and b, smoothed by 0.5: " in done.out
    rows = table(tmp_path / "c.csv")
    own = [row for row in rows if (row["run"], row["quantity"]) == ("a", "val_loss")]
    mean = losses[:2].mean(axis=0)
    assert [float(row["value"]) for row in own] == pytest.approx(mean.tolist())
    assert [float(row["sd"]) for row in own] == pytest.approx((np.abs(losses[0] - losses[1]) / np.sqrt(2)).tolist())
    second = (0.25 * mean[0] + 0.5 * mean[1]) / 0.75
    assert [float(row["smoothed"]) for row in own[:2]] == pytest.approx([mean[0], second])
    assert [row["epoch"] for row in own] == list("12345")
    assert {row["trainings"] for row in own} == {"2"}
    assert {row["sd"] for row in rows if row["run"] == "b"} == {""}
    assert len(rows) == 2 * 3 * 5
    compared(tmp_path, "a", "b", "--curves", "c.svg")
    marks = [(one.tag.partition("}")[2], one.attrib) for one in ET.parse(tmp_path / "c.svg").getroot()]
    lines = [about for kind, about in marks if kind == "polyline"]
    assert sum(about["stroke-opacity"] == "0.4" for about in lines) == 4  # raw, light: two runs in two panels
    assert sum(about["stroke-width"] == "2.5" for about in lines) == 4
    assert sum(kind == "polygon" for kind, _ in marks) == 2
    words = " ".join(one.text or "" for one in ET.parse(tmp_path / "c.svg").getroot())
    assert "a (mean ± sd of 2)" in words
    assert "smoothed by 0.6 (light: as measured)" in words
    compared(tmp_path, "a", "b", "--curves", "raw.svg", "--smooth", "0")
    assert 'stroke-opacity="0.4"' not in (tmp_path / "raw.svg").read_text()


def test_one_run_is_drawn_with_its_training_loss_and_a_table_of_one(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a", epochs=((1.0, 0.9, 0.5), (0.7, None, 0.6), (0.5, 0.6, 0.8)))  # type: ignore[arg-type]
    done = compared(tmp_path, "a", "--curves", "c.png")
    assert "on the validation part: 200 pictures\n" in done.out
    assert "told apart" not in done.out
    assert "note:" not in done.out
    with Image.open(tmp_path / "c.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    near = [np.abs(pixels.astype(int) - colour).max(axis=1).min() for colour in ((0, 114, 178), (213, 94, 0))]
    assert max(near) < 12  # training and validation, in their colours
    compared(tmp_path, "a", "--curves", "c.svg")
    text = (tmp_path / "c.svg").read_text()
    assert all(f">{word}</text>" in text for word in ("training", "validation", "mean loss", "accuracy", "epoch"))
    assert "nan" not in text


def test_curves_that_cannot_be_drawn_say_why(tmp_path: Path) -> None:
    for n in range(9):
        stored(tmp_path / "runs", f"r{n}", thumbnails=False)
    every = [f"r{n}" for n in range(9)]
    done = tellapart(tmp_path, "compare", *every, "--curves", "c.png")
    assert (done.code, "9 runs in one figure cannot be told apart." in done.err) == (2, True)
    compared(tmp_path, *every, "--curves", "c.csv")
    compared(tmp_path, *every[:8], "--curves", "c.png")
    done = tellapart(tmp_path, "compare", "r0", "--curves", "c.jpg")
    assert (done.code, "Let it end in .png, .svg, .csv." in done.err) == (2, True)
    stored(tmp_path / "runs", "head", epochs=())
    done = tellapart(tmp_path, "compare", "r0", "head", "--curves", "c.png")
    assert (done.code, "head has no epoch to draw." in done.err) == (2, True)


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_name_path_or_model_file_and_not_twice(tmp_path: Path) -> None:
    folder = stored(tmp_path / "runs", "a")
    stored(tmp_path / "runs", "b")
    (folder / "model.safetensors").write_bytes(b"")
    assert found_names(document(tmp_path, "runs/a/model.safetensors", str(tmp_path / "runs/b"))) == ["a", "b"]
    done = tellapart(tmp_path, "compare", "a", "runs/a")
    assert (done.code, "a is named twice." in done.err) == (2, True)
    (tmp_path / "alone.safetensors").write_bytes(b"")
    done = tellapart(tmp_path, "compare", "a", "alone.safetensors")
    assert (done.code, "alone.safetensors lies in no run folder" in done.err) == (2, True)
    done = tellapart(tmp_path, "compare", "a", "bb")
    assert (done.code, "There is no run 'bb'." in done.err) == (2, True)


def test_a_run_without_predictions_says_how_it_stands(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a")
    folder = stored(tmp_path / "runs", "b")
    assert "No difference in accuracy between a and b" in compared(tmp_path, "a", "b").out
    (folder / "status.json").write_text('{"state": "interrupted"}')  # it is being extended: what is stored is old
    done = tellapart(tmp_path, "compare", "a", "b")
    assert done.code == 4
    assert "b is interrupted, and has no final predictions of its validation part." in done.err


def test_hostile_names_of_files_and_classes_stay_on_their_line(tmp_path: Path) -> None:
    keys = [f"x\n\x1b[31m{n}\udcff.png" for n in range(N)]
    classes = ("cat\x1b[2J", "d\nog", "<b>&fox")
    stored(tmp_path / "runs", "a", keys=keys, classes=classes, wrong=range(9))
    stored(tmp_path / "runs", "b", keys=keys, classes=classes)
    done = compared(tmp_path, "a", "b", "--pictures", "p.png", "--curves", "c.svg")
    assert "\x1b" not in done.out
    assert "only b is right on 9: x  [31m0" in done.out
    assert (tmp_path / "p.png").exists()
    assert document(tmp_path, "a", "b")["pairs"][0]["won"][0]["label"] in classes


def test_the_python_door_gives_the_same(tmp_path: Path) -> None:
    stored(tmp_path / "runs", "a", wrong=range(40))
    stored(tmp_path / "runs", "b")
    found = compare(tmp_path / "runs", ["a", "b"])
    assert found.pairs[0].verdict in compared(tmp_path, "a", "b").out
    assert json.loads(json.dumps(found.to_json())) == document(tmp_path, "a", "b")


# --- the list of runs -------------------------------------------------------------------------------------------------


def listed(at: Path, sort: str) -> str:
    """The names in the order of `runs --sort`, the same in the table and in the JSON."""
    done = tellapart(at, "runs", "--sort", sort)
    assert done.code == 0, done.err
    assert ("choose by validation" in done.err) == (sort == "test")
    found = [row["name"] for row in json.loads(tellapart(at, "runs", "--sort", sort, "--json").out)["runs"]]
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == found
    return "".join(found)


def test_runs_are_sorted_by_each_number_and_those_without_it_come_last(tmp_path: Path) -> None:
    numbers = {"a": (0.9, 0.8, 0.3, 20.0, "05"), "b": (0.7, 0.9, 0.1, 10.0, "07"), "c": (0.8, None, 0.2, 30.0, "06")}
    for name, (validation, test, loss, seconds, day) in numbers.items():
        folder = stored(tmp_path / "runs", name, epochs=[(0.5, 0.5 + loss, 0.5)])
        values = [("accuracy", validation, "validation"), ("loss", loss, "validation")]
        values += [("accuracy", test, "test")] if test else []
        made = [{"name": n, "value": v, "n": 9, "low": 0, "high": 1, "part": p, "about": ""} for n, v, p in values]
        (folder / "status.json").write_text(json.dumps({"state": "finished", "figures": made}))
        (folder / "environment.json").write_text(json.dumps({"time": f"2026-11-{day}T10:00:00+00:00"}))
        records = (folder / "metrics.jsonl").read_text()
        (folder / "metrics.jsonl").write_text(records.replace('"seconds": 1.0', f'"seconds": {seconds}'))
    (tmp_path / "runs/z").mkdir()
    (tmp_path / "runs/z/status.json").write_text('{"state": "preparing"}')
    sorts = {"validation": "acbz", "test": "bacz", "loss": "bcaz", "gap": "bcaz", "seconds": "bacz", "name": "abcz"}
    assert {sort: listed(tmp_path, sort) for sort in sorts} == sorts
    assert listed(tmp_path, "started") == "bcaz"
    assert re.search(r"^b .* 2026-11-07 10:00:00  ", tellapart(tmp_path, "runs", "--sort", "started").out, re.M)
    assert re.search(r"^a .* 20.0  ", tellapart(tmp_path, "runs", "--sort", "seconds").out, re.M)
    assert re.search(r"^a .* 0.3000  ", tellapart(tmp_path, "runs", "--sort", "loss").out, re.M)
    done = tellapart(tmp_path, "runs", "--sort", "speed")
    assert done.code == 2
    assert "'speed' is not one of 'validation', 'test', 'loss', 'gap', 'seconds', 'name', 'started'" in done.err


def test_a_run_whose_time_cannot_be_read_is_listed_without_it(tmp_path: Path) -> None:
    folder = stored(tmp_path / "runs", "a")
    assert re.search(r"^a +finished .* – ", tellapart(tmp_path, "runs", "--sort", "started").out, re.M)  # it is "a"
    (folder / "environment.json").write_text('{"time": 5}')
    assert re.search(r"^a +finished .* – ", tellapart(tmp_path, "runs", "--sort", "started").out, re.M)
    (folder / "environment.json").write_text('{"time": "2026-11-07T10:00:00+00:00"}')
    assert "2026-11-07 10:00:00" in tellapart(tmp_path, "runs", "--sort", "started").out
