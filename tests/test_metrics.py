"""Metrics against naive loops, scikit-learn and SciPy; every number with its n, its interval and its part."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn import metrics as theirs

from tellapart.errors import StorageError
from tellapart.evaluation.intervals import Z95, of_mean, wilson
from tellapart.evaluation.metrics import (
    Figure,
    confusion,
    cross_entropies,
    document,
    judge,
    judge_classes,
    proportion,
    softmax,
    top_k_hits,
)
from tellapart.evaluation.predictions import Predictions

LEVELS = st.integers(-3, 3).map(float)
"""Few levels, so that ties are common."""


@st.composite
def answers(draw) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N K) with ties, and labels (N)."""
    n, k = draw(st.integers(1, 30)), draw(st.integers(2, 8))
    logits = draw(arrays.arrays(np.float32, (n, k), elements=LEVELS))
    return logits, draw(arrays.arrays(np.int64, n, elements=st.integers(0, k - 1)))


def predictions_of(logits: np.ndarray, labels: np.ndarray, **more) -> Predictions:
    classes = tuple(f"class{k}" for k in range(logits.shape[1]))
    keys = tuple(f"{n}.png" for n in range(len(labels)))
    values = {"part": "validation", "classes": classes, "keys": keys, "logits": logits, "labels": labels}
    return Predictions(**{**values, **more})


def figure(figures: list[Figure], name: str, about: str = "") -> Figure:
    (found,) = [one for one in figures if (one.name, one.about) == (name, about)]
    return found


@given(answers())
def test_accuracy_is_the_share_of_right_answers(given_answers):
    logits, labels = given_answers
    right = sum(int(np.argmax(row)) == label for row, label in zip(logits, labels, strict=True))
    accuracy = figure(judge(predictions_of(logits, labels)), "accuracy")
    assert (accuracy.value, accuracy.n) == (right / len(labels), len(labels))
    assert accuracy.value == pytest.approx(theirs.accuracy_score(labels, logits.argmax(axis=1)))


@given(answers(), st.integers(1, 9))
def test_top_k_takes_the_highest_logits_and_of_equal_ones_the_lower_class(given_answers, k):
    logits, labels = given_answers
    best = [sorted(range(len(row)), key=lambda c: (-row[c], c))[:k] for row in logits.tolist()]
    expected = [label in top for label, top in zip(labels.tolist(), best, strict=True)]
    assert top_k_hits(logits, labels, k).tolist() == expected


def test_four_pictures_of_which_three_are_right():
    logits = np.array([[0.1, 0.2], [0.3, 0.4], [0.9, 0.1], [0.2, 0.8]], np.float32)
    accuracy = figure(judge(predictions_of(logits, np.array([0, 1, 0, 1]))), "accuracy")
    assert (accuracy.value, accuracy.n) == (0.75, 4)


@pytest.mark.parametrize(("k", "named"), [(5, False), (6, True)])
def test_top_5_is_there_when_it_says_something(k, named):
    figures = judge(predictions_of(np.eye(k, dtype=np.float32), np.arange(k)))
    assert ("top-5 accuracy" in [one.name for one in figures]) == named


@given(answers())
def test_confusion_counts_true_rows_and_said_columns(given_answers):
    logits, labels = given_answers
    said, k = logits.argmax(axis=1), logits.shape[1]
    naive = np.zeros((k, k), int)
    for truth, guess in zip(labels, said, strict=True):
        naive[truth, guess] += 1
    table = confusion(said, labels, k)
    assert np.array_equal(table, naive)
    assert np.array_equal(table, theirs.confusion_matrix(labels, said, labels=range(k)))


@given(answers())
def test_recall_and_precision_equal_those_of_scikit_learn(given_answers):
    logits, labels = given_answers
    said, k = logits.argmax(axis=1), logits.shape[1]
    options = {"labels": range(k), "average": None, "zero_division": np.nan}
    recall = np.asarray(theirs.recall_score(labels, said, **options))
    precision = np.asarray(theirs.precision_score(labels, said, **options))
    figures = judge_classes(predictions_of(logits, labels))
    for c in range(k):
        own, called = figure(figures, "recall", f"class{c}"), figure(figures, "precision", f"class{c}")
        assert (own.n, called.n) == ((labels == c).sum(), (said == c).sum())
        np.testing.assert_equal([own.value, called.value], [recall[c], precision[c]])


@given(answers())
def test_the_loss_is_the_mean_of_minus_the_log_of_the_true_share(given_answers):
    logits, labels = given_answers
    shares = [
        math.exp(row[label]) / sum(map(math.exp, row)) for row, label in zip(logits.tolist(), labels, strict=True)
    ]
    naive = [-math.log(share) for share in shares]
    assert cross_entropies(logits, labels).tolist() == pytest.approx(naive)
    loss = figure(judge(predictions_of(logits, labels)), "loss")
    assert (loss.value, loss.n) == (pytest.approx(sum(naive) / len(naive)), len(labels))


@given(answers(), st.floats(-1e4, 1e4))
def test_softmax_is_a_distribution_that_a_shift_leaves_alone(given_answers, shift):
    logits, _ = given_answers
    naive = [[math.exp(value) / sum(map(math.exp, row)) for value in row] for row in logits.tolist()]
    np.testing.assert_allclose(softmax(logits), naive, rtol=1e-12)
    np.testing.assert_allclose(softmax(logits.astype(np.float64) + shift), naive, rtol=1e-9)


def test_softmax_of_the_worked_example():
    assert softmax(np.array([[3.0, 1.0, -3.0]])).round(4).tolist() == [[0.8789, 0.1189, 0.0022]]


def test_softmax_and_loss_bear_huge_logits():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]])
    assert softmax(logits).tolist() == [[1, 0], [0, 1]]
    assert cross_entropies(logits, np.array([0, 0])).tolist() == [0, 2e4]


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_that_of_scipy(counts):
    hits, n = counts
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 4))
def test_the_bounds_of_wilson_solve_its_equation(counts, z):
    hits, n = counts
    for bound in wilson(hits, n, z=z):
        assert (hits / n - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / n, abs=1e-9)


def test_z95_is_the_97_5_percent_point():
    assert pytest.approx(stats.norm.ppf(0.975), rel=1e-14) == Z95


def test_wilson_of_nothing_knows_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_interval_of_a_mean_without_skewness_is_students():
    values = np.array([1.0, 3.0, 5.0, 7.0])
    half = stats.t.ppf(0.975, 3) * stats.sem(values)
    assert of_mean(values) == pytest.approx((4 - half, 4 + half))
    assert of_mean(values[:1]) == (-math.inf, math.inf)


@given(answers())
def test_every_figure_has_its_n_its_interval_and_its_part(given_answers):
    logits, labels = given_answers
    predictions = predictions_of(logits, labels)
    for one in [*judge(predictions), *judge_classes(predictions)]:
        assert (one.part, 0 <= one.n <= len(labels)) == ("validation", True)
        assert one.low <= one.high
        assert math.isnan(one.value) == (one.n == 0)
        assert math.isnan(one.value) or one.low <= one.value <= one.high


@given(answers())
def test_the_document_is_strict_json(given_answers):
    logits, labels = given_answers
    predictions = predictions_of(logits, labels)
    figures = [*judge(predictions), *judge_classes(predictions)]
    text = json.dumps(document(figures, run="tiny"), allow_nan=False)
    read = json.loads(text)
    assert (read["format"], read["run"], len(read["figures"])) == (1, "tiny", len(figures))
    assert all({"name", "value", "n", "low", "high", "part"} <= one.keys() for one in read["figures"])


def test_a_share_of_no_pictures_is_no_number_and_null_in_json():
    nothing = proportion("recall", 0, 0, "test", "cat")
    assert (nothing.n, nothing.low, nothing.high) == (0, 0.0, 1.0)
    assert nothing.to_json()["value"] is None


@pytest.mark.parametrize("thumbnails", [None, np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)[:, ::-1]])
def test_predictions_come_back_from_their_file(tmp_path, thumbnails):
    logits = np.asfortranarray(np.array([[0.5, -1e30], [np.float32(1) / 3, 7]], np.float32))
    made = predictions_of(logits, np.array([1, 0]), keys=("b/ü 1.png", "a\n2.png"), thumbnails=thumbnails)
    made.save(tmp_path / "test.safetensors")
    read = Predictions.load(tmp_path / "test.safetensors")
    assert (read.part, read.classes, read.keys) == (made.part, made.classes, made.keys)
    for name in ("logits", "labels", "thumbnails"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name), strict=True)
    assert judge(read) == judge(made)


@pytest.mark.parametrize("raw", [None, b"", b"nonsense" * 10, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_does_not_hold_predictions_is_refused(tmp_path, raw):
    if raw is not None:
        (tmp_path / "x.safetensors").write_bytes(raw)
    with pytest.raises(StorageError, match=r"x\.safetensors does not hold predictions"):
        Predictions.load(tmp_path / "x.safetensors")


def test_predictions_cut_short_are_refused(tmp_path):
    predictions_of(np.eye(9, dtype=np.float32), np.arange(9)).save(tmp_path / "x.safetensors")
    raw = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(raw[:-10])
    with pytest.raises(StorageError):
        Predictions.load(tmp_path / "x.safetensors")


def test_predictions_with_file_names_that_are_no_utf8_come_back(tmp_path):
    made = predictions_of(np.eye(2, dtype=np.float32), np.arange(2), keys=("a\udcff.png", "b.png"))
    made.save(tmp_path / "x.safetensors")
    assert Predictions.load(tmp_path / "x.safetensors").keys == made.keys
