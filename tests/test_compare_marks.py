"""`tellapart compare` where a picture may have several classes: the numbers against naive ones, and what is said."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import tellapart
from test_compare import compared, document
from test_laws import called as words_of
from test_laws import loaded_by

from tellapart.data.index import NONE
from tellapart.evaluation.marks import called, judged_marks, thresholds
from tellapart.evaluation.paired_marks import SCORES, _Ranking, gains
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.ranks import curve
from tellapart.recipe import Recipe
from tellapart.workflow.begin import identity_of

NAMES, N = ("cat", "dog", "fox", "hen"), 240
KEYS = tuple(f"{n:03d}.png" for n in range(N))


def drawn(seed: int, far: float, *, n: int = N, names: tuple[str, ...] = NAMES) -> Predictions:
    """What a model says of the same n pictures: the logits of classes that are there lie `far` above the others."""
    marks = np.random.default_rng(0).random((n, len(NAMES))) < (0.5, 0.3, 0.2, 0.3)
    logits = np.random.default_rng(seed).normal(0, 1, (n, len(NAMES))) + far * marks - far / 2
    order = [NAMES.index(name) for name in names]
    small = np.full((n, 8, 8, 1), 90, np.uint8)
    return Predictions(
        part="validation",
        classes=names,
        keys=tuple(f"{row:03d}.png" for row in range(n)),
        logits=logits[:, order].round(1).astype(np.float32),  # so that some are equal
        labels=np.where(marks.any(1), marks.argmax(1), len(NAMES)),
        marks=marks[:, order],
        thumbnails=small,
    )


def stored(runs: Path, name: str, said: Predictions, *, groups: bool = False, score: float = 0.5) -> None:
    """A finished run as training would have left it."""
    folder = runs / name
    (folder / "predictions").mkdir(parents=True)
    said.save(folder / "predictions" / "validation.safetensors")
    rows = [["key", "class", "part", "group", "digest"], ["t.png", NAMES[0], "train", "", "d-t"]]
    rows += [[key, "x", "validation", f"g{n // 4}" * groups, f"d-{key}"] for n, key in enumerate(said.keys)]
    with (folder / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    recipe = Recipe.from_values({"data.several": ";", "loss.name": "bce"}).to_toml({})
    (folder / "recipe.toml").write_text(recipe)
    status = {"state": "finished", "recipe": identity_of(recipe), "split": "s", "test_part": "t", "figures": []}
    (folder / "status.json").write_text(json.dumps(status))
    epoch = {"kind": "epoch", "epoch": 0, "train_loss": 1.0, "val_loss": 0.5, "val_mean_average_precision": score}
    (folder / "metrics.jsonl").write_text(json.dumps({**epoch, "seconds": 1.0, "best": True}) + "\n")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that learned something (two alike, the second with its classes in another order), and one that did not."""
    at = tmp_path_factory.mktemp("runs")
    stored(at / "runs", "good", drawn(1, 3.0), score=0.9)
    stored(at / "runs", "alike", drawn(2, 3.0, names=NAMES[::-1]))
    stored(at / "runs", "bad", drawn(3, 0.3))
    stored(at / "runs", "grouped", drawn(1, 3.0), groups=True)
    stored(at / "runs", "grouped-bad", drawn(3, 0.3), groups=True)
    return at


def by_name(said: Predictions) -> dict[str, float]:
    found = judged_marks(said, thresholds(said), fitted_here=True)
    return {one.name: one.value for one in found.figures}


def test_the_differences_are_those_of_the_scores_and_the_table_has_them(runs: Path) -> None:
    found = document(runs, "good", "bad")
    good, bad = (by_name(drawn(seed, far)) for seed, far in ((1, 3.0), (3, 0.3)))
    own = {one["name"]: one for one in found["pairs"][0]["gains"]}
    assert set(own) == set(SCORES)
    for name in SCORES:
        assert own[name]["difference"] == pytest.approx(bad[name] - good[name], abs=1e-12)
        assert own[name]["low"] < own[name]["difference"] < own[name]["high"] < 0
    assert found["pairs"][0]["found"]["difference"] == pytest.approx(bad["exact match"] - good["exact match"])
    (scores,) = found["models"][0]["trainings"].values()
    assert {one["name"]: one["value"] for one in scores} == pytest.approx(good)
    shown = compared(runs, "good", "bad").out
    assert (
        f"  mean average precision of bad less that of good: {100 * own[SCORES[0]]['difference']:+.1f} points ["
        in shown
    )
    assert "the thresholds of each were fitted to validation pictures" in shown
    assert "others, by --seed 1, tell how far seeds alone differ" in shown
    row = next(line for line in shown.splitlines() if line.startswith("good "))
    assert [f"{100 * good[name]:.1f} %" in row for name in (*SCORES, "exact match")] == [True] * 3


def test_exact_matches_are_counted_and_named(runs: Path) -> None:
    found = document(runs, "good", "alike")["pairs"][0]
    said = [drawn(1, 3.0), drawn(2, 3.0)]
    sets = [called(one.logits, [t.value for t in thresholds(one)]) for one in said]
    right = [(one == said[0].marks).all(1) for one in sets]
    won, lost = np.flatnonzero(right[1] & ~right[0]), np.flatnonzero(right[0] & ~right[1])
    assert [one["key"] for one in found["won"]] == [KEYS[n] for n in won]
    assert [one["key"] for one in found["lost"]] == [KEYS[n] for n in lost]
    assert (found["found"]["won"], found["found"]["lost"], found["found"]["test"]) == (
        len(won),
        len(lost),
        "McNemar mid-p",
    )

    def named(row: np.ndarray) -> str:
        return " + ".join(name for name, has in zip(NAMES, row, strict=True) if has) or NONE

    assert said[0].marks is not None
    for one in [*found["won"], *found["lost"]]:
        n = KEYS.index(one["key"])
        assert (one["label"], one["first"], one["second"]) == (
            named(said[0].marks[n]),
            named(sets[0][n]),
            named(sets[1][n]),
        )
    assert (
        "No difference in exact match between good and alike can be told apart" in compared(runs, "good", "alike").out
    )


def test_the_other_way_round_is_the_opposite(runs: Path) -> None:
    one, other = (document(runs, *pair)["pairs"][0] for pair in (("good", "bad"), ("bad", "good")))
    assert one["found"]["difference"] == pytest.approx(-other["found"]["difference"])
    for a, b in zip(one["gains"], other["gains"], strict=True):
        assert a["difference"] == pytest.approx(-b["difference"])
        assert a["low"] == pytest.approx(-b["high"], abs=0.01)
    assert "bad is worse than good by " in compared(runs, "good", "bad").out
    assert " of exact match (n = 240, McNemar mid-p < 0.001)" in compared(runs, "good", "bad").out


def test_groups_are_drawn_whole(runs: Path) -> None:
    found = document(runs, "grouped", "grouped-bad")
    assert "judged by whole groups" in " ".join(found["notes"])
    assert found["pairs"][0]["found"]["test"] == "sign-flip mid-p"
    one, copies = drawn(1, 2.0, n=60), drawn(2, 1.0, n=60)
    marks = np.asarray(one.marks, np.bool_)
    four, more = [np.repeat(each, 4, axis=0) for each in (one.logits, copies.logits)], np.repeat(marks, 4, axis=0)
    groups = np.repeat(np.arange(60), 4)
    said = four[0] > 0, four[1] > 0
    alone = gains((one.logits, copies.logits), (one.logits > 0, copies.logits > 0), marks)
    whole = gains((four[0], four[1]), said, more, groups)
    blind = gains((four[0], four[1]), said, more)
    for a, b, c in zip(alone, whole, blind, strict=True):
        assert (b.high - b.low) == pytest.approx(a.high - a.low, rel=0.15)  # four copies tell no more than one
        assert (c.high - c.low) < 0.7 * (b.high - b.low)


def test_weights_are_pictures_that_are_there_so_often() -> None:
    chance, said = np.random.default_rng(5), drawn(1, 1.0, n=50)
    assert said.marks is not None
    scores, own = said.logits[:, 1].astype(float), said.marks[:, 1]
    weights = chance.integers(0, 4, (20, 50))
    found = _Ranking(scores, own).average_precision(weights.astype(float))
    for row, value in zip(weights, found, strict=True):
        naive = curve(np.repeat(scores, row), np.repeat(own, row))
        assert naive is not None
        assert value == pytest.approx(naive.average_precision)
    assert np.isnan(_Ranking(scores, own).average_precision((~own)[None].astype(float)))[0]
    assert np.isnan(_Ranking(scores, own).average_precision(own[None].astype(float)))[0]


def test_the_intervals_hold_in_about_95_of_100_cases() -> None:
    """Two models of known scores, on many samples of 100 pictures; the truth is that of 40,000."""

    def sample(seed: int, n: int) -> Any:
        chance = np.random.default_rng(seed)
        marks = chance.random((n, 3)) < (0.5, 0.3, 0.4)
        shared = chance.normal(0, 1, (n, 3))
        logits = tuple(0.7 * shared + 0.7 * chance.normal(0, 1, (n, 3)) + far * marks - far / 2 for far in (1.5, 2.2))
        return logits, tuple(one > 0 for one in logits), marks

    truth = [one.difference for one in gains(*sample(0, 40_000))]
    every = [gains(*sample(seed, 100)) for seed in range(1, 81)]
    for k, value in enumerate(truth):
        assert sum(found[k].low <= value <= found[k].high for found in every) >= 70  # 1 in 1,000 where 95 % hold


def test_curves_draw_the_score_of_such_runs(runs: Path) -> None:
    assert compared(runs, "good", "bad", "--curves", "c.csv", "--pictures", "p.png").code == 0
    rows = list(csv.DictReader((runs / "c.csv").read_text().splitlines()))
    assert {row["quantity"] for row in rows} == {"train_loss", "val_loss", "val_mean_average_precision"}
    assert {row["value"] for row in rows if row["run"] == "good" and "mean" in row["quantity"]} == {"0.9"}
    assert (runs / "p.png").stat().st_size > 1000
    assert compared(runs, "good", "--curves", "one.svg").code == 0
    assert "mean average precision" in (runs / "one.svg").read_text()


def test_models_of_one_class_each_are_not_compared_with_them(runs: Path) -> None:
    from test_compare import stored as stored_one

    if not (runs / "runs" / "single").exists():
        stored_one(runs / "runs", "single", keys=KEYS, classes=NAMES)
    done = tellapart(runs, "compare", "good", "single")
    assert (done.code, "may have several classes each, those of single have one" in done.err) == (7, True)


def test_no_torch_is_loaded(runs: Path) -> None:
    code, modules = loaded_by(words_of("compare", "good", "bad"), runs)
    assert (code, "torch" in modules) == (0, False)
