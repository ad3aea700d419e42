"""Scores, areas and intervals against scikit-learn, naive loops, and simulated pictures of known truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as theirs
from test_metrics import answers, figure, predictions_of

from tellapart.evaluation.calibration import reliability
from tellapart.evaluation.intervals import Z95, of_mean, of_share, resolved, wilson
from tellapart.evaluation.judgement import by_class, judged, risk
from tellapart.evaluation.metrics import areas, class_curves, mean_of_classes, softmax
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.promises import Answering
from tellapart.evaluation.ranks import bounds, curve
from tellapart.evaluation.resample import MOST, of_counts, of_pictures
from tellapart.evaluation.scores import TABLE, Cells, brier_of_each, table_scores


def made(n: int, classes: int, *, seed: int, sure: float = 2.0, **more):
    """Predictions of a model that is right in about two thirds of cases."""
    chance = np.random.default_rng(seed)
    labels, logits = chance.integers(0, classes, n), chance.normal(size=(n, classes))
    logits[np.arange(n), labels] += sure
    return predictions_of((2.5 * logits).astype(np.float32), labels, **more)


def scores_of(labels: np.ndarray, said: np.ndarray, classes: int) -> dict[str, float]:
    found = table_scores(Cells(labels, said, classes), np.ones((1, len(labels))))[0]
    return dict(zip(TABLE, found.tolist(), strict=True))


@given(answers())
def test_scores_of_the_table_equal_those_of_scikit_learn(given_answers):
    logits, labels = given_answers
    said, classes = logits.argmax(axis=1), logits.shape[1]
    there = sorted({*labels.tolist(), *said.tolist()})
    ours = scores_of(labels, said, classes)
    for average in ("macro", "weighted"):
        p, r, f, _ = theirs.precision_recall_fscore_support(
            labels,
            said,
            labels=there,
            average=average,
            zero_division=0,  # pyright: ignore
        )
        assert (ours[f"{average} precision"], ours[f"{average} F1"]) == (pytest.approx(p), pytest.approx(f))
        assert average == "weighted" or ours["macro recall"] == pytest.approx(r)
    recalls = [np.mean(said[labels == k] == k) for k in set(labels.tolist())]
    assert ours["balanced accuracy"] == pytest.approx(np.mean(recalls))
    if len(there) > 1:  # of one class scikit-learn's are 0 / 0, with a warning
        assert ours["MCC"] == pytest.approx(theirs.matthews_corrcoef(labels, said))
        assert ours["Cohen's kappa"] == pytest.approx(theirs.cohen_kappa_score(labels, said))


@given(answers())
def test_brier_is_the_squared_distance_to_the_truth(given_answers):
    logits, labels = given_answers
    for own, row, label in zip(brier_of_each(softmax(logits), labels), softmax(logits), labels, strict=True):
        assert own == pytest.approx(sum((p - (k == label)) ** 2 for k, p in enumerate(row)))


@given(answers())
def test_areas_of_each_class_equal_those_of_scikit_learn(given_answers):
    logits, labels = given_answers
    scores = softmax(logits)
    for k in range(logits.shape[1]):
        own, found = labels == k, curve(scores[:, k], labels == k)
        assert (found is None) == (own.all() or not own.any())
        if found is not None:
            assert found.area == pytest.approx(theirs.roc_auc_score(own, scores[:, k]))
            assert found.average_precision == pytest.approx(theirs.average_precision_score(own, scores[:, k]))
            precision, recall, _ = theirs.precision_recall_curve(own, scores[:, k])
            assert found.precision == pytest.approx(precision[:-1][::-1])
            assert found.hits == pytest.approx(recall[:-1][::-1])


def test_areas_tell_pictures_apart_whose_probabilities_are_rounded_to_one() -> None:
    chance = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    ahead = 60 + chance.normal(0, 5, 80) + 4 * (labels == 0)  # of the first class, for all pictures
    logits = np.stack([ahead, np.zeros(80)], axis=1).astype(np.float32)
    said = Predictions(part="validation", classes=("a", "b"), keys=(), logits=logits, labels=labels)
    first, second = class_curves(said)
    assert first is not None
    assert second is not None
    assert first.area == second.area == pytest.approx(theirs.roc_auc_score(labels == 0, ahead))


@given(answers())
@settings(max_examples=30, deadline=None)
def test_what_a_picture_adds_to_an_area_is_what_changes_when_it_counts_a_little_more(given_answers):
    logits, labels = given_answers
    scores, own = logits[:, 0].astype(float), labels == 0
    if (found := curve(scores, own)) is None:
        return
    for at in range(len(labels)):
        weights = np.ones(len(labels))
        weights[at] += (small := 1e-6)
        for area, adds, of in (
            (found.area, found.to_area, theirs.roc_auc_score),
            (found.average_precision, found.to_average, theirs.average_precision_score),
        ):
            change = (of(own, scores, sample_weight=weights) - area) / small
            side = int((own == own[at]).sum())
            assert adds[at] == pytest.approx(change * math.sqrt(side / max(1, side - 1)), abs=2e-4)


def test_delongs_interval_of_an_example():
    """Twelve of a class and fifteen of the rest; the variance by DeLong's two sums, written out."""
    chance = np.random.default_rng(11)
    scores = np.concatenate([chance.normal(1, 1, 12), chance.normal(0, 1, 15)])
    own = np.arange(27) < 12
    found = curve(scores, own)
    beats = (scores[:12, None] > scores[None, 12:]).astype(float)
    assert found is not None
    area = float(beats.mean())
    assert found.area == pytest.approx(area)
    variance = beats.mean(1).var(ddof=1) / 12 + beats.mean(0).var(ddof=1) / 15
    far = [(row.mean() - area) / n * math.sqrt(n / (n - 1)) for n, of in ((12, beats), (15, beats.T)) for row in of]
    known_from = 3 * sum(one**2 for one in far) ** 2 / sum(one**4 for one in far)  # few of them make the variance
    half = stats.t.ppf(0.975, max(6, int(min(12, known_from)) - 1)) * math.sqrt(variance) / (area * (1 - area))
    centre = math.log(area / (1 - area))
    assert bounds(area, found.to_area, None, worth=12) == pytest.approx(
        [1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))], rel=1e-5
    )


def test_an_area_of_one_has_a_lower_bound_that_knows_how_few_there_are_and_a_handful_tells_nothing():
    found = curve(np.arange(30)[::-1] / 30, own := np.arange(30) < 12)
    assert found is not None
    assert found.area == 1
    assert bounds(1.0, found.to_area, None, worth=found.worth) == wilson(12, 12)
    assert bounds(1.0, found.to_area, np.arange(30) % 10, worth=found.worth) == wilson(10, 10)
    assert bounds(1.0, found.to_area, np.arange(30) % 6, worth=found.worth) == (0, 1)
    few = curve(np.arange(30)[::-1] / 30, own & (np.arange(30) < 9))
    assert few is not None
    assert bounds(1.0, few.to_area, None, worth=few.worth) == (0, 1)


@pytest.mark.parametrize("right", [0, 1])
def test_a_table_without_a_mistake_or_a_right_answer_has_an_interval(right):
    labels = np.arange(60) % 3
    logits = np.eye(3, dtype=np.float32)[labels if right else (labels + 1) % 3]
    for groups, n in ((None, 60), (np.arange(60) // 6, 10)):
        said = predictions_of(logits, labels, groups=groups)
        found = judged(said, Answering.of(said))
        for name in TABLE[:6]:
            one = figure(found.figures, name)
            assert one.high - one.low > 0.8 * (wilson(n, n)[1] - wilson(n, n)[0]) / 2, one


@pytest.mark.parametrize(("n", "classes", "right"), [(200, 3, 0.8), (500, 10, 0.9)])
def test_bootstrap_intervals_of_the_table_hold_in_95_of_100_cases(n, classes, right):
    chance = np.random.default_rng(5)
    prior = np.linspace(1, 3, classes) / np.linspace(1, 3, classes).sum()
    said = np.full((classes, classes), (1 - right) / (classes - 1))
    np.fill_diagonal(said, right)
    joint = (prior[:, None] * said).ravel()
    rows, columns = np.divmod(np.arange(classes**2), classes)
    truth = table_scores(Cells(rows, columns, classes), joint[None])[0]
    held, times = np.zeros(len(TABLE)), 300
    for _ in range(times):
        table = chance.multinomial(n, joint)
        full = np.flatnonzero(table)
        cells = Cells(rows[full], columns[full], classes)
        low, high = of_counts(lambda weights: table_scores(cells, weights), table[full])  # noqa: B023
        held += (low <= truth) & (truth <= high)
    assert np.abs(held / times - 0.95).max() < 0.035, held / times  # 300 cases: 0.95 is off by 0.013 by chance


def test_intervals_of_a_skewed_mean_hold_where_normal_ones_do_not():
    chance = np.random.default_rng(3)
    truth, held, normal, times = 0.5 * math.exp(0.5), 0, 0, 4000
    for _ in range(times):
        values = 0.5 * np.exp(chance.normal(size=100))
        low, high = of_mean(values)
        held += low <= truth <= high
        normal += abs(values.mean() - truth) <= Z95 * values.std(ddof=1) / 10
    assert held / times > 0.925 > normal / times + 0.005


def test_a_mean_of_equal_values_and_of_one_value():
    assert of_mean(np.full(10, 0.5)) == (0.5, 0.5)
    assert of_mean(np.ones(1)) == (-math.inf, math.inf)
    assert of_mean(np.ones(8), np.zeros(8, np.int64)) == (-math.inf, math.inf)


@pytest.mark.parametrize("number", [20, 60])
def test_shares_and_means_of_groups_hold_where_those_of_pictures_do_not(number: int):
    """Eight pictures of a patient are hardly more than one: answers of a group are right or wrong together."""
    chance = np.random.default_rng(4)
    groups, times, n = np.repeat(np.arange(number), 8), 1500, 8 * number
    held = np.zeros(3)
    for _ in range(times):
        together = np.repeat(chance.random(number) < 0.8, 8)
        right = np.where(chance.random(n) < 0.8, together, chance.random(n) < 0.8)
        spans = (of_share(right, groups), of_mean(right.astype(float), groups), of_share(right))
        held += [low <= 0.8 <= high for low, high in spans]
    assert held[0] / times == pytest.approx(0.95, abs=0.02)
    assert held[1] / times == pytest.approx(0.95, abs=0.025)
    assert held[2] / times < 0.75


def test_groups_of_one_picture_are_pictures():
    right = np.random.default_rng(0).random(90) < 0.7
    each = np.arange(90)
    assert of_share(right, each) == pytest.approx(of_share(right), abs=0.004)
    assert of_mean(right.astype(float), each) == pytest.approx(of_mean(right.astype(float)))
    statistic = lambda weights: (weights @ right / weights.sum(1))[:, None]  # noqa: E731
    assert (of_pictures(statistic, 90) == of_pictures(statistic, 90, each)).all()


def test_where_all_are_right_each_group_counts_as_one_picture():
    right, groups = np.ones(40, bool), np.repeat(np.arange(5), 8)
    assert of_share(right, groups) == wilson(5, 5)
    assert of_share(right) == wilson(40, 40)


def test_resampling_is_repeatable_and_equals_a_plain_loop():
    values = np.random.default_rng(1).exponential(size=50)
    statistic = lambda weights: (weights @ values / weights.sum(1))[:, None]  # noqa: E731
    found = of_pictures(statistic, 50)[:, 0]
    assert (found == of_pictures(statistic, 50)[:, 0]).all()
    chance = np.random.default_rng(2)
    means = [values[chance.integers(0, 50, 50)].mean() for _ in range(20_000)]
    plain = np.quantile(means, [0.025, 0.975])
    assert found == pytest.approx(plain, abs=0.2)  # the correction moves both ends towards the long side
    assert (found >= plain - 0.02).all()
    assert MOST == 2000


@given(answers())
@settings(max_examples=40)
def test_the_whole_judgement_stands_on_adversarial_answers(given_answers):
    """One class absent, ties, n = 1, all wrong: every number lies within its interval, and nothing is not a number."""
    logits, labels = given_answers
    said = predictions_of(logits, labels)
    found = judged(said, Answering.of(said))
    for one in [*found.figures, *found.by_class]:
        if one.n:
            assert one.low - 1e-9 <= one.value <= one.high + 1e-9, one
    low, high = found.answering.span or (0, 0)
    assert 0.05 - 1e-9 <= low <= found.answering.temperature <= high <= 20 + 1e-9
    assert [share for share, *_ in found.risk] == sorted({share for share, *_ in found.risk})
    assert sum(count for *_, count in found.confused) <= (logits.argmax(1) != labels).sum()


def test_the_f1_of_a_class_is_that_of_scikit_learn_with_the_interval_of_its_share():
    said = made(300, 4, seed=0)
    for k, expected in enumerate(theirs.f1_score(said.labels, said.logits.argmax(1), average=None)):  # pyright: ignore
        one = figure(by_class(said, class_curves(said)), "F1", f"class{k}")
        either = ((said.labels == k) | (said.logits.argmax(1) == k)).sum()
        low, high = wilson(one.value / (2 - one.value) * one.n, one.n)
        assert (one.value, one.n) == (pytest.approx(expected), either)
        assert (one.low, one.high) == (pytest.approx(2 * low / (1 + low)), pytest.approx(2 * high / (1 + high)))


def test_mean_areas_are_the_means_of_the_classes():
    said = made(400, 5, seed=1)
    found = judged(said, Answering.of(said))
    shares = softmax(said.logits)
    expected = theirs.roc_auc_score(said.labels, shares, multi_class="ovr")
    assert figure(found.figures, "mean ROC area").value == pytest.approx(expected)


def test_the_interval_of_a_mean_average_precision_of_many_classes_knows_that_few_pictures_make_it_too_high():
    """Forty classes of 20 pictures: the plain interval of the mean held in 58 of 100 such cases."""

    def drawn(n: int, seed: int) -> Predictions:
        chance, labels = np.random.default_rng(seed), np.arange(n) % 40
        logits = chance.normal(size=(n, 40))
        logits[np.arange(n), labels] += 2
        return predictions_of(logits, labels)

    truth = np.mean([one.average_precision for one in class_curves(drawn(80_000, 0)) if one])
    held = 0
    for seed in range(1, 61):
        said = drawn(800, seed)
        one = mean_of_classes(said, class_curves(said), "average precision")
        held += one.low <= truth <= one.high
    assert held >= 51  # 5 % of errors give fewer in 1 of 10,000 cases


def test_risk_and_coverage_is_the_accuracy_of_the_surest():
    said = made(50, 3, seed=2)
    shares = softmax(said.logits)
    order = np.argsort(-shares.max(1), kind="stable")
    for covered, right, low, high in risk(shares, said.labels):
        first = order[: round(covered * 50)]
        assert right == pytest.approx((said.logits[first].argmax(1) == said.labels[first]).mean())
        assert low <= right <= high


@pytest.mark.parametrize("right", [0.8, 0.97])
def test_what_a_test_set_resolves_is_found_in_80_of_100_cases(right):
    chance, n = np.random.default_rng(0), 600
    gap, found, times = resolved(right, n), 0, 2000
    for _ in range(times):
        a, b = chance.random(n) < right - gap, chance.random(n) < right
        won, lost = (b & ~a).sum(), (a & ~b).sum()
        found += abs(won - lost) > Z95 * math.sqrt(won + lost)
    assert found / times == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("draw", ["area", "average_precision"])
def test_intervals_of_areas_hold_in_95_of_100_cases(draw):
    chance = np.random.default_rng(6)
    many = np.concatenate([chance.normal(1.2, 1, 60_000), chance.normal(0, 1, 240_000)])
    truth = getattr(curve(many, np.arange(300_000) < 60_000), draw)
    held, times = 0, 600
    for _ in range(times):
        own = np.arange(300) < 60
        found = curve(np.where(own, chance.normal(1.2, 1, 300), chance.normal(0, 1, 300)), own)
        assert found is not None
        adds = found.to_area if draw == "area" else found.to_average
        low, high = bounds(getattr(found, draw), adds, None, worth=found.worth)
        held += low <= truth <= high
    assert held / times == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize("draw", ["area", "average"])
def test_sums_over_groups_are_of_whole_groups(draw: str):
    """The interval of an area over groups is that of as many pictures, where all of a group score the same."""
    chance = np.random.default_rng(7)
    own, scores, groups = np.arange(80) < 30, chance.normal(size=80), np.repeat(np.arange(80), 5)
    once, often = curve(scores, own), curve(np.repeat(scores, 5), np.repeat(own, 5), groups)
    alone = curve(np.repeat(scores, 5), np.repeat(own, 5))
    assert once is not None
    assert often is not None
    assert alone is not None
    wide = bounds(0.7, getattr(once, f"to_{draw}"), None, worth=once.worth)
    assert bounds(0.7, getattr(often, f"to_{draw}"), groups, worth=often.worth) == pytest.approx(wide, abs=1e-12)
    narrow = bounds(0.7, getattr(alone, f"to_{draw}"), None, worth=alone.worth)
    assert narrow[1] - narrow[0] < 0.6 * (wide[1] - wide[0])


def test_the_areas_of_a_class_of_few_groups_are_not_known_though_its_pictures_are_many():
    chance = np.random.default_rng(9)
    for of_class, known in ((9, False), (10, True)):
        groups = np.arange(600) // 6
        labels = (groups >= of_class).astype(np.int64)
        logits = chance.normal(size=(600, 2)) + np.eye(2)[labels]
        said = predictions_of(logits.astype(np.float32), labels, groups=groups)
        spans = [(one.low, one.high) for one in areas(said, class_curves(said), "ROC area")]
        assert [span != (0, 1) for span in spans] == [known, known]


def test_table_scores_take_weights_as_counts():
    chance = np.random.default_rng(8)
    labels, said = chance.integers(0, 4, 30), chance.integers(0, 4, 30)
    counts = chance.integers(0, 4, 30)
    whole = np.repeat(np.arange(30), counts)
    weighted = table_scores(Cells(labels, said, 4), counts[None].astype(float))[0]
    assert weighted == pytest.approx(list(scores_of(labels[whole], said[whole], 4).values()))


@given(st.integers(1, 400), st.floats(0.3, 1))
def test_what_can_be_resolved_shrinks_with_n(n, right):
    assert 0 < resolved(right, 4 * n) < resolved(right, n)


def test_every_part_of_a_judgement_knows_groups():
    """Answers of a group are right or wrong together: 60 groups of 8 are not 480 pictures."""
    chance = np.random.default_rng(9)
    groups, kept = np.repeat(np.arange(60), 8), {"temperature": 0, "calibrated": 0}
    broken = made_ = 0
    for _ in range(60):
        logits = np.repeat(2 * chance.normal(size=(60, 3)), 8, 0) + 0.05 * chance.normal(size=(480, 3))
        labels = (softmax(logits).cumsum(1) < np.repeat(chance.random(60), 8)[:, None]).sum(1).clip(max=2)
        by = Answering.of(predictions_of(logits.astype(np.float32), labels, groups=groups))
        assert by.span is not None
        kept["temperature"] += by.span[0] <= 1 <= by.span[1]
        kept["calibrated"] += reliability(logits, labels, groups=groups).calibrated
        large = softmax(2 * chance.normal(size=(4000, 3)) / 1.0)
        for precision, least in by.promises.items():
            sure = softmax(np.log(large) / by.temperature).max(1)
            made_, broken = made_ + 1, broken + (large.max(1)[sure >= least].mean() < precision)
    assert kept["temperature"] >= 50
    assert kept["calibrated"] >= 50
    assert broken <= max(3, 0.15 * made_)
