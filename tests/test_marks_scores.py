"""Pictures with several classes each, judged: against scikit-learn, naive loops, simulated truth."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from tellapart.evaluation.marks import FEWEST, Marked, Threshold, called, judged_marks, thresholds
from tellapart.evaluation.metrics import Figure, binary_entropies, judge, judge_classes, sigmoid
from tellapart.evaluation.predictions import Predictions

HALF = Threshold(value=0.5, n=0, fitted=False)


def of(logits: np.ndarray, marks: np.ndarray, **more) -> Predictions:
    """Stored predictions of these logits and marks (N K)."""
    classes = tuple(f"class {k}" for k in range(marks.shape[1]))
    first = np.where(marks.any(axis=1), marks.argmax(axis=1), marks.shape[1])
    keys = tuple(f"{n}.png" for n in range(len(marks)))
    own = {"part": "test", "classes": classes, "keys": keys, "labels": first.astype(np.int64), **more}
    return Predictions(logits=logits.astype(np.float32), marks=marks.astype(bool), **own)


def drawn(n: int, classes: int, *, seed: int, sure: float = 1.5, share: float = 0.3, **more) -> Predictions:
    """Predictions of a model that ranks pictures of a class above the others, mostly."""
    chance = np.random.default_rng(seed)
    marks = chance.random((n, classes)) < share
    return of(chance.normal(size=(n, classes)) * 1.5 + sure * (2 * marks - 1), marks, **more)


def whole(predictions: Predictions, least: float = 0.5) -> Marked:
    return judged_marks(
        predictions, [Threshold(value=least, n=0, fitted=False)] * len(predictions.classes), fitted_here=False
    )


def named(figures: list[Figure], about: str = "") -> dict[str, Figure]:
    return {one.name: one for one in figures if one.about == about}


@st.composite
def decisions(draw) -> Predictions:
    """Few pictures and classes, logits with ties; classes that no picture has, or all, or no picture with any."""
    n, classes = draw(st.integers(1, 12)), draw(st.integers(2, 4))
    cells = st.lists(st.lists(st.integers(-3, 3), min_size=classes, max_size=classes), min_size=n, max_size=n)
    bits = st.lists(st.lists(st.booleans(), min_size=classes, max_size=classes), min_size=n, max_size=n)
    return of(np.array(draw(cells), np.float64), np.array(draw(bits)))


def areas_by_hand(predictions: Predictions) -> tuple[list[float], list[float]]:
    """Average precision and ROC area of each class that some pictures have and some lack, by scikit-learn."""
    assert predictions.marks is not None
    pairs = [
        (marks, logits)
        for marks, logits in zip(predictions.marks.T, predictions.logits.T, strict=True)
        if 0 < marks.sum() < len(marks)
    ]
    precise = [float(theirs.average_precision_score(marks, logits)) for marks, logits in pairs]
    return precise, [float(theirs.roc_auc_score(marks, logits)) for marks, logits in pairs]


@given(decisions())
@settings(max_examples=60, deadline=None)
def test_every_score_equals_that_of_scikit_learn(predictions: Predictions) -> None:
    marks, said = predictions.marks, sigmoid(predictions.logits) >= 0.5
    assert marks is not None
    found = whole(predictions)
    ours, known = named(found.figures), marks.any(axis=0) | said.any(axis=0)
    precise, roc = areas_by_hand(predictions)
    assert ours["mean average precision"].value == pytest.approx(np.mean(precise) if precise else 0.0)
    assert ours["mean ROC area"].value == pytest.approx(np.mean(roc) if roc else 0.0)
    if 0 < marks.sum() < marks.size:
        micro = theirs.average_precision_score(marks.ravel(), predictions.logits.ravel())
        assert ours["micro average precision"].value == pytest.approx(micro)
    each = {"F1": theirs.f1_score, "precision": theirs.precision_score, "recall": theirs.recall_score}
    for name, score in each.items():
        macro = score(marks, said, average=None, zero_division=0)[known]  # pyright: ignore
        assert ours[f"macro {name}"].value == pytest.approx(macro.mean() if known.any() else 0.0)
        whole_of = {"F1": marks | said, "precision": said, "recall": marks}[name]
        micro = score(marks, said, average="micro", zero_division=0)  # pyright: ignore
        assert ours[f"micro {name}"].value == pytest.approx(micro) if whole_of.any() else True
    assert ours["sample F1"].value == pytest.approx(theirs.f1_score(marks, said, average="samples", zero_division=1.0))  # pyright: ignore
    assert ours["exact match"].value == pytest.approx(theirs.accuracy_score(marks, said))
    assert ours["Hamming loss"].value == pytest.approx(theirs.hamming_loss(marks, said))
    for one in [*found.figures, *found.by_class]:
        if one.n:
            assert one.low - 1e-9 <= one.value <= one.high + 1e-9, one


@given(decisions())
@settings(max_examples=60, deadline=None)
def test_the_loss_and_the_decisions_equal_naive_loops(predictions: Predictions) -> None:
    marks = predictions.marks
    assert marks is not None
    losses, exact = [], 0
    for logits, own in zip(predictions.logits.tolist(), marks.tolist(), strict=True):
        shares = [1 / (1 + math.exp(-x)) for x in logits]
        losses.append(np.mean([-math.log(p if has else 1 - p) for p, has in zip(shares, own, strict=True)]))
        exact += all((p >= 0.5) == has for p, has in zip(shares, own, strict=True))
    assert binary_entropies(predictions.logits, marks) == pytest.approx(losses)
    found = named(whole(predictions).figures)
    assert (found["loss"].value, found["exact match"].value * len(marks)) == pytest.approx((np.mean(losses), exact))


def test_the_loss_is_that_of_torch_and_of_training() -> None:
    import torch

    from tellapart.recipe import Loss
    from tellapart.training.losses import make_loss

    predictions = drawn(50, 4, seed=1)
    assert predictions.marks is not None
    loss = make_loss(Loss(name="bce", label_smoothing=0.0))
    theirs_ = loss(torch.from_numpy(predictions.logits), torch.from_numpy(predictions.marks).float()).item()
    assert judge(predictions)[-1].value == pytest.approx(theirs_, rel=1e-6)


def test_the_headline_is_what_all_is_judged_by_and_the_classes_have_their_n() -> None:
    predictions = drawn(200, 3, seed=2)
    assert predictions.marks is not None
    score, loss = judge(predictions)
    assert (score.name, loss.name, score.n) == ("mean average precision", "loss", 200)
    assert score == whole(predictions).figures[0]
    by_class = judge_classes(predictions)
    assert [one.n for one in by_class] == predictions.marks.sum(axis=0).tolist()
    assert np.mean([one.value for one in by_class]) == pytest.approx(score.value)


def test_a_threshold_has_the_highest_f1_there_is() -> None:
    for seed in range(2):
        predictions = drawn(80, 2, seed=seed)
        assert predictions.marks is not None
        shares = sigmoid(predictions.logits)
        for k, found in enumerate(thresholds(predictions)):
            own = predictions.marks[:, k]
            tried = [theirs.f1_score(own, shares[:, k] >= at) for at in [0.0, *shares[:, k]]]
            assert theirs.f1_score(own, shares[:, k] >= found.value) == pytest.approx(max(tried))
            assert (found.n, found.fitted) == (own.sum(), True)


def test_a_threshold_is_a_half_where_too_few_have_the_class_or_lack_it_or_numbers_are_none() -> None:
    for have in (FEWEST - 1, 100 - FEWEST + 1):
        marks = np.zeros((100, 2), bool)
        marks[:have, 0], marks[:FEWEST, 1] = True, True
        logits = np.random.default_rng(0).normal(size=(100, 2)) + 3 * marks + 2
        few, enough = thresholds(of(logits, marks))
        assert (few.value, few.fitted, enough.fitted) == (0.5, False, True)
        assert enough.value != 0.5
    logits[0] = np.nan
    assert [one.fitted for one in thresholds(of(logits, marks))] == [False, False]


def test_of_thresholds_that_part_all_rightly_the_one_nearest_to_a_half_is_half_way() -> None:
    marks = np.arange(40)[:, None] < [20, 20]
    logits = np.where(marks, 2.0, -3.0)
    (found, _) = thresholds(of(logits, marks))
    assert found.value == pytest.approx((sigmoid(np.array(2.0)) + sigmoid(np.array(-3.0))) / 2)
    assert called(logits, [found.value] * 2).tolist() == marks.tolist()


def test_groups_widen_every_interval_and_change_no_value() -> None:
    chance, groups = np.random.default_rng(3), np.repeat(np.arange(30), 8)
    of_group = np.repeat(chance.random((30, 3)) < 0.4, 8, axis=0)
    shift = np.repeat(chance.normal(size=(30, 3)), 8, axis=0)
    logits = shift * 1.5 + 2 * of_group - 1 + 0.1 * chance.normal(size=(240, 3))
    alone, together = (named(whole(of(logits, of_group, groups=g)).figures) for g in (None, groups))
    for name, one in together.items():
        assert one.value == pytest.approx(alone[name].value)
        assert one.high - one.low > 1.2 * (alone[name].high - alone[name].low), name
    assert whole(of(logits, of_group, groups=groups)).groups == 30


@pytest.mark.parametrize("right", [True, False], ids=["all right", "all wrong"])
def test_no_interval_is_a_point_where_all_answers_are_alike(right: bool) -> None:
    marks = np.random.default_rng(4).random((30, 3)) < 0.5
    found = named(whole(of(np.where(marks == right, 4.0, -4.0), marks)).figures)
    for name in ("micro F1", "macro F1", "macro recall", "exact match", "sample F1", "Hamming loss"):
        assert found[name].high - found[name].low > 0.02, name
        assert found[name].value in (0.0, 1.0)


def test_intervals_hold_the_truth() -> None:
    """Of pictures drawn from a known distribution; the truth is that of very many of them."""
    names = ("mean average precision", "micro average precision", "mean ROC area", "macro F1", "micro F1", "sample F1")
    names += ("macro precision", "micro recall", "Hamming loss", "loss", "exact match")
    truth = named(whole(drawn(50_000, 4, seed=99)).figures)
    tries, held = 60, dict.fromkeys(names, 0)
    for seed in range(tries):
        found = named(whole(drawn(150, 4, seed=seed)).figures)
        for name in names:
            held[name] += found[name].low <= truth[name].value <= found[name].high
    assert {name: count for name, count in held.items() if count < 51} == {}, held


def test_a_recall_of_one_in_every_class_is_no_certainty() -> None:
    marks = np.random.default_rng(8).random((50, 3)) < 0.4
    found = named(whole(of(np.where(marks, 4.0, np.where(np.arange(50)[:, None] % 5, -4.0, 4.0)), marks)).figures)
    assert (found["macro recall"].value, found["macro recall"].high) == (1.0, 1.0)
    assert 0.75 < found["macro recall"].low < 0.9
    assert found["macro precision"].high < 1.0


def test_a_class_of_few_pictures_may_have_any_average_precision() -> None:
    predictions = drawn(400, 4, seed=5)
    assert predictions.marks is not None
    marks = predictions.marks.copy()
    marks[:, 3] = np.arange(400) < 3
    before, after = judge(predictions)[0], judge(of(predictions.logits, marks))[0]
    assert before.high - before.low < 0.15
    assert after.high - after.low > 0.25  # a fourth of the mean is not known
    (absent,) = [judge(of(predictions.logits, np.zeros_like(marks)))[0]]
    assert (absent.value, absent.low, absent.high) == (0.0, 0.0, 1.0)


def test_marks_are_stored_beside_the_logits_and_files_without_them_load(tmp_path: Path) -> None:
    predictions = drawn(20, 3, seed=6)
    predictions.save(tmp_path / "a.safetensors")
    again = Predictions.load(tmp_path / "a.safetensors")
    assert again.marks is not None
    assert predictions.marks is not None
    assert (again.marks.dtype, again.marks.tolist()) == (np.bool_, predictions.marks.tolist())
    one_each = Predictions(
        part="test", classes=("a", "b"), keys=("1",), logits=np.zeros((1, 2), np.float32), labels=np.zeros(1, np.int64)
    )
    one_each.save(tmp_path / "b.safetensors")
    assert Predictions.load(tmp_path / "b.safetensors").marks is None


def test_what_cannot_be_judged_is_a_dash_in_the_table() -> None:
    from tellapart.cli.judged import judgement_lines

    marks = np.random.default_rng(1).random((30, 3)) < 0.3
    silent = "\n".join(judgement_lines(whole(of(np.full((30, 3), -4.0), marks))))
    assert "micro precision          – (nothing to judge)" in silent
    assert "nan" not in silent
    assert "– (nothing" not in "\n".join(judgement_lines(whole(drawn(30, 3, seed=1))))


def test_the_judgement_is_plain_data() -> None:
    found = json.loads(json.dumps(whole(drawn(1, 2, seed=7)).to_json()))
    assert {one["name"] for one in found["figures"]} > {"exact match", "mean average precision", "loss"}
    assert [one["value"] for one in found["thresholds"]] == [0.5, 0.5]
