"""Calibration, promises and the unknown: on outcomes drawn with known probabilities, and in what people type."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import optimize, stats
from test_metrics import predictions_of

from tellapart.errors import StorageError
from tellapart.evaluation.calibration import reliability, temperature
from tellapart.evaluation.judgement import judged
from tellapart.evaluation.metrics import cross_entropies, softmax
from tellapart.evaluation.promises import PROMISED, STRANGE, Answering, chance_of, known_from, promises
from tellapart.models.bundle import load_bundle, save_bundle


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run `a` on the digits that come with us."""
    return train(tmp_path_factory.mktemp("digits"), "a", "digits")


def asked(digits: Done, *words: object) -> Done:
    done = tellapart(digits.at, *map(str, words))
    assert done.code == 0, done.err
    return done


def drawn(n: int, *, seed: int, hot: float = 1.0, classes: int = 4, apart: float = 2) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N K) and labels drawn with their own softmax; then the logits are made `hot` times as large."""
    chance = np.random.default_rng(seed)
    logits = apart * chance.normal(size=(n, classes))
    labels = (softmax(logits).cumsum(1) < chance.random((n, 1))).sum(1)
    return hot * logits, labels


@pytest.mark.parametrize("hot", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_with_the_least_loss(hot):
    logits, labels = drawn(400, seed=0, hot=hot)
    found = temperature(logits, labels)
    smoothed = lambda t: (  # noqa: E731
        cross_entropies(logits / t, labels).sum() * 400 / 401
        + sum(cross_entropies(logits / t, np.full(400, k)).sum() for k in range(4)) / 4 / 401
    )
    best = optimize.minimize_scalar(smoothed, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-6})
    assert found.value == pytest.approx(best.x, rel=1e-3)  # pyright: ignore[reportAttributeAccessIssue]
    assert found.low < found.value < found.high
    for end in (found.low, found.high):
        assert 2 * (smoothed(end) - smoothed(found.value)) == pytest.approx(stats.chi2.ppf(0.95, 1), rel=1e-3)


def test_the_interval_of_the_temperature_holds_in_95_of_100_cases():
    held = 0
    for seed in range(400):
        found = temperature(*drawn(200, seed=seed, hot=1.7))
        held += found.low <= 1.7 <= found.high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


def test_all_right_does_not_make_every_answer_sure():
    """The likeliest temperature would be 0; one picture of no known class is thought beside them."""
    logits = np.eye(3)[np.arange(60) % 3] * 3.0
    found = temperature(logits, np.arange(60) % 3)
    assert 0.2 < found.value < 1
    assert softmax(logits / found.value).max() < 0.999


@pytest.mark.parametrize("hot", [0.4, 2.5])
def test_the_calibration_error_falls_on_pictures_that_were_not_fitted(hot):
    at = temperature(*drawn(600, seed=1, hot=hot)).value
    logits, labels = drawn(600, seed=2, hot=hot)
    before, after = reliability(logits, labels), reliability(logits, labels, at=at)
    assert after.error < 0.5 * before.error
    assert (before.calibrated, after.calibrated) == (False, True)
    assert cross_entropies(logits / at, labels).mean() < cross_entropies(logits, labels).mean()


def test_the_calibration_error_is_that_of_a_plain_loop():
    logits, labels = drawn(90, seed=3, hot=2)
    shares = softmax(logits)
    order = sorted(range(90), key=lambda n: shares[n].max())
    error = 0.0
    for some in (order[n : n + 6] for n in range(0, 90, 6)):
        sure = sum(shares[n].max() for n in some) / 6
        right = sum(shares[n].argmax() == labels[n] for n in some) / 6
        error += abs(sure - right) * 6 / 90
    found = reliability(logits, labels)
    assert found.error == pytest.approx(error)
    assert (len(found.bins), {one.n for one in found.bins}) == (15, {6})


@pytest.mark.parametrize("n", [150, 1000])
def test_a_calibrated_model_is_called_so_in_95_of_100_cases_and_its_interval_holds(n):
    called = held = 0
    for seed in range(100):
        found = reliability(*drawn(n, seed=seed))
        called += found.calibrated
        held += found.interval[0] == 0
    assert min(called, held) >= 88


def test_an_overconfident_model_is_found():
    assert not reliability(*drawn(300, seed=5, hot=3)).calibrated


@given(st.integers(0, 40), st.integers(0, 60), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_the_chance_of_so_few_errors_is_that_of_scipy(errors, more, rate):
    n = errors + more
    assert chance_of(errors, n, rate) == pytest.approx(stats.binom.cdf(errors, n, rate), abs=1e-12)


def test_promises_are_kept_in_95_of_100_cases():
    """Of models that promise, few break it on pictures without end."""
    logits, labels = drawn(60_000, seed=9, apart=4)
    sure, right = softmax(logits).max(1), softmax(logits).argmax(1) == labels
    broken, made = dict.fromkeys(PROMISED, 0), dict.fromkeys(PROMISED, 0)
    for seed in range(300):
        for one in promises(*drawn(400, seed=seed, apart=4)):
            if one.threshold is not None:
                made[one.precision] += 1
                broken[one.precision] += right[sure >= one.threshold].mean() < one.precision
    assert made[0.9] > 200
    assert sum(broken.values()) / sum(made.values()) < 0.07


def test_a_promise_counts_what_it_rests_on_and_needs_enough_pictures():
    logits, labels = drawn(400, seed=1)
    for one in promises(logits, labels):
        if one.threshold is not None:
            sure = softmax(logits).max(1) >= one.threshold
            assert (one.answered, one.n) == (sure.sum(), 400)
            assert one.right == (softmax(logits).argmax(1) == labels)[sure].sum()
    few = promises(np.eye(2)[np.arange(28) % 2] * 9.0, np.arange(28) % 2)
    assert [one.threshold for one in few] == [None, None, None]  # 29 right answers are needed for 90 %
    assert promises(np.eye(2)[np.arange(40) % 2] * 9.0, np.arange(40) % 2)[0].answered == 40


@given(st.integers(49, 300))
@settings(max_examples=20)
def test_at_most_two_of_a_hundred_known_pictures_are_unknown(n):
    chance = np.random.default_rng(n)
    shares = [(chance.normal(size=(200, 3)).max(1) < known_from(chance.normal(size=(n, 3)))).mean() for _ in range(60)]
    assert np.mean(shares) < STRANGE + 0.012


def test_too_few_pictures_know_nothing():
    assert known_from(np.zeros((48, 3))) is None
    assert known_from(np.zeros((49, 3))) == 0


def test_what_is_not_finite_is_not_calibrated():
    said = predictions_of(np.full((60, 3), np.nan, np.float32), np.zeros(60, np.int64))
    assert Answering.of(said) == Answering(temperature=1.0, promises={}, known=None)


def test_promises_and_unknowns_are_counted_on_the_pictures_that_are_judged():
    validation = predictions_of(*(x.astype(t) for x, t in zip(drawn(400, seed=1), (np.float32, np.int64), strict=True)))
    logits, labels = drawn(300, seed=2)
    test = predictions_of(logits.astype(np.float32), labels, part="test")
    by = Answering.of(validation)
    found = judged(test, by)
    shares = softmax(test.logits.astype(float) / by.temperature)
    for precision, least, answered, right in found.kept:
        assert by.promises[precision] == least
        assert answered == (shares.max(1) >= least).sum()
        assert right == ((shares.argmax(1) == labels) & (shares.max(1) >= least)).sum()
    assert found.unknown == (test.logits.max(1) < by.known).sum()
    assert (found.fitted_here, judged(validation, by).fitted_here) == (False, True)


def test_the_model_file_holds_what_answers_rest_on(digits):
    bundle = load_bundle(digits.run("a").bundle)
    said = json.loads(asked(digits, "test", "a", "--json").out)["judgement"]["answering"]
    assert bundle.temperature == said["temperature"] != 1
    assert bundle.known == said["known"]
    assert bundle.promises == {float(of): least for of, least in said["promises"].items()}


@pytest.mark.parametrize("change", [{"known": float("inf")}, {"promises": {0.9: float("nan")}}])
def test_a_model_file_with_endless_bounds_is_refused(digits, tmp_path, change):
    save_bundle(replace(load_bundle(digits.run("a").bundle), **change), tmp_path / "odd.safetensors")
    with pytest.raises(StorageError, match=f"says (inf|nan) for '{next(iter(change))}'; expected a number"):
        load_bundle(tmp_path / "odd.safetensors")


def test_a_model_file_of_before_has_no_bounds(digits, tmp_path):
    bundle = replace(load_bundle(digits.run("a").bundle), known=None, promises={})
    save_bundle(bundle, tmp_path / "old.safetensors")
    assert load_bundle(tmp_path / "old.safetensors").known is None


def picture(path: Path, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).integers(0, 256, (40, 40), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_what_is_like_no_class_is_unknown_with_the_reason(digits, tmp_path):
    odd, digit = picture(tmp_path / "odd.png"), tmp_path / "digit.png"
    from sklearn.datasets import load_digits

    Image.fromarray((load_digits(return_X_y=True)[0][0].reshape(8, 8) * 15).astype(np.uint8)).save(digit)
    said = asked(digits, "predict", "a", odd, digit, "--json")
    first, second = json.loads(said.out)["predictions"]
    assert first["doubt"].startswith("unknown: like none of the classes (score ")
    assert (second["doubt"], second["top"][0]["class"]) == (None, "0")
    lines = asked(digits, "predict", "a", odd, digit).out.splitlines()
    assert "unknown: like none of the classes" in lines[0]
    assert "; likeliest  " in lines[0]
    assert "unknown" not in lines[1]


def test_an_answer_that_is_not_sure_enough_is_said_to_be_so(digits, tmp_path):
    bundle = replace(load_bundle(digits.run("a").bundle), known=None, promises={0.95: 0.9999})
    save_bundle(bundle, tmp_path / "m.safetensors")
    odd = picture(tmp_path / "odd.png")
    assert "unsure: " in asked(digits, "predict", tmp_path / "m.safetensors", odd, "--precision", "0.95").out
    assert "unsure" not in asked(digits, "predict", tmp_path / "m.safetensors", odd).out
    refused = tellapart(digits.at, "predict", str(tmp_path / "m.safetensors"), str(odd), "--precision", "0.9")
    assert refused.code == 2
    assert "This model promises 0.95; received 0.9." in refused.err


def test_the_verdict_is_shown_beside_simple_classifiers(digits):
    said = json.loads(asked(digits, "test", "a", "--json").out)["baselines"]
    by = {(one["part"], one["about"].split()[0]): one for one in said}
    assert {part for part, _ in by} == {"validation", "test"}
    assert by["test", "always"]["value"] == pytest.approx(0.1, abs=0.01)
    assert by["test", "the"]["value"] > 0.9
    shown = asked(digits, "test", "a").out
    assert "to compare with: always " in shown
    assert "the 5 nearest small grey copies " in shown


def test_the_judgement_is_shown_in_words(digits):
    shown = asked(digits, "test", "a").out
    for words in (
        "of the test part",
        "balanced accuracy",
        "Cohen's kappa",
        "mean ROC area",
        "they tell accuracies apart",
    ):
        assert words in shown
    for words in ("temperature ", "calibration error", "promise 90 % right: from probability", "unknown: "):
        assert words in shown


def test_the_same_network_gives_the_same_classes_at_any_temperature(digits):
    bundle = load_bundle(digits.run("a").bundle)
    from tellapart.workflow.predict import probabilities

    images = torch.rand(4, bundle.preprocess.channels, bundle.preprocess.size, bundle.preprocess.size)
    plain = probabilities(replace(bundle, temperature=1.0), images)
    assert (plain.argmax(1) == probabilities(bundle, images).argmax(1)).all()


@pytest.mark.parametrize("hot", [1.5, 4.0, 1e4])
def test_the_interval_of_the_calibration_error_holds_for_models_that_are_too_sure(hot):
    """As its sureness is wrong, so is the chance that it states: what chance adds comes from what was seen."""
    many = reliability(*drawn(40_000, seed=77, hot=hot))
    spans = (reliability(*drawn(300, seed=seed, hot=hot)).interval for seed in range(60))
    assert sum(low <= many.error <= high for low, high in spans) >= 54
