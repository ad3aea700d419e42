"""Two models on the same pictures: every number against a naive version, error rates and coverage by simulation."""

import doctest
import math
from fractions import Fraction
from itertools import product
from types import ModuleType

import numpy as np
import pytest

import tellapart.evaluation.intervals
import tellapart.evaluation.paired
import tellapart.figures.plot
from tellapart.evaluation.intervals import of_mean, t_point
from tellapart.evaluation.paired import (
    FLIPS,
    MID_P,
    Paired,
    holm,
    majorities,
    mcnemar,
    of_gains,
    over_trainings,
    paired,
    power,
    resolved,
    sign_flips,
    tango,
)
from tellapart.figures.plot import smoothed
from tellapart.workflow.compare import in_words, told_apart

Z = 1.959963984540054


def answers(won: int, lost: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """What two models got right, of n pictures."""
    first, second = np.zeros(n), np.zeros(n)
    second[:won] = 1
    first[won : won + lost] = 1
    first[won + lost :] = second[won + lost :] = 1
    return first, second


def of_counts(won: int, lost: int, n: int) -> Paired:
    first, second = answers(won, lost, n)
    return paired((first, np.full(n, math.nan)), (second, np.full(n, math.nan)))


def simulated(n: int, won: float, lost: float, *, times: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts (won, lost) that come about, each once, and how often each did."""
    chance = np.random.default_rng(seed)
    counts = chance.multinomial(n, [won, lost, 1 - won - lost], times)[:, :2]
    pairs, often = np.unique(counts, axis=0, return_counts=True)
    return pairs[:, 0], pairs[:, 1], often / times


# --- each number against a naive version ------------------------------------------------------------------------------


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (0, 1), (0, 6), (5, 5), (1, 7), (30, 12), (140, 171)])
def test_mid_p_is_that_of_all_ways_to_throw_a_coin(won: int, lost: int) -> None:
    n, far = won + lost, abs(won - lost)
    at = [Fraction(math.comb(n, k), 2**n) for k in range(n + 1)]
    beyond = sum((at[k] for k in range(n + 1) if abs(2 * k - n) > far), Fraction(0))
    level = sum((at[k] for k in range(n + 1) if abs(2 * k - n) == far), Fraction(0))
    assert mcnemar(won, lost) == pytest.approx(float(beyond + level / 2 if far else Fraction(1)), abs=1e-12)
    assert mcnemar(won, lost) == mcnemar(lost, won)


@pytest.mark.parametrize(("won", "lost", "n"), [(12, 4, 100), (1, 0, 30), (0, 0, 50), (3, 20, 60), (25, 25, 200)])
def test_the_score_interval_ends_where_a_score_test_refuses(won: int, lost: int, n: int) -> None:
    """The likelihood under a fixed difference is made largest by trying shares, instead of by Tango's formula."""

    def z(difference: float) -> float:
        shares = np.linspace(max(0.0, -difference), (1 - difference) / 2, 400_001)[1:-1]  # of lost pictures
        with np.errstate(divide="ignore"):
            logs = won * np.log(shares + difference) + lost * np.log(shares)
            logs += (n - won - lost) * np.log(1 - 2 * shares - difference)
        best = shares[np.argmax(np.nan_to_num(logs, nan=-np.inf))]
        return (won - lost - n * difference) / math.sqrt(n * (2 * best + difference * (1 - difference)))

    low, high = tango(won, lost, n)
    assert z(low) == pytest.approx(Z, abs=2e-3)
    assert z(high) == pytest.approx(-Z, abs=2e-3)
    assert tango(lost, won, n) == pytest.approx((-high, -low))


@pytest.mark.parametrize("ends", [(50, 0, 1.0), (0, 50, -1.0)])
def test_the_score_interval_of_all_won_reaches_the_end(ends: tuple[int, int, float]) -> None:
    won, lost, end = ends
    low, high = tango(won, lost, 50)
    assert (high if end > 0 else low) == pytest.approx(end)
    assert abs(low if end > 0 else high) < 0.9


def test_power_and_resolution_are_the_formula_and_each_other_turned_round() -> None:
    def phi(z: float) -> float:
        return (1 + math.erf(z / math.sqrt(2))) / 2

    d, n, share = 0.03, 800, 0.09
    by_hand = phi((d * math.sqrt(n) - Z * math.sqrt(share)) / math.sqrt(share - d * d))
    assert power(d, n, share) == pytest.approx(by_hand, abs=1e-9)
    for n, share in ((150, 0.1), (540, 0.08), (10_000, 0.3)):
        assert power(resolved(n, share), n, share) == pytest.approx(0.8, abs=1e-9)
    assert resolved(540, 0.0) == pytest.approx(7.85 / 540, rel=0.05)  # all won, none lost: (z + z')^2 / n
    assert resolved(3, 0.0) > 0.9


@pytest.mark.parametrize("units", [0, 1, 5, 9])
def test_flipped_signs_are_all_tried(units: int) -> None:
    gains = np.concatenate([np.random.default_rng(units).normal(0.3, 1, units), np.zeros(4)])
    sums = [abs(sum(s * g for s, g in zip(signs, gains, strict=False))) for signs in product((-1, 1), repeat=units)]
    farther = np.mean([one > abs(gains.sum()) + 1e-9 for one in sums])
    as_far = np.mean([abs(one - abs(gains.sum())) <= 1e-9 for one in sums])
    assert sign_flips(gains) == pytest.approx(farther + as_far / 2 if units else 1.0)


def test_flipped_signs_of_single_pictures_are_mcnemars_test_and_those_of_a_group_flip_together() -> None:
    gains = np.array([1.0] * 9 + [-1.0] * 2)
    assert sign_flips(gains) == pytest.approx(mcnemar(9, 2))
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3])
    sums = [sum(s * g for s, g in zip(signs, (3, 3, 3, -2), strict=True)) for signs in product((-1, 1), repeat=4)]
    assert sign_flips(gains, groups) == pytest.approx(np.mean([(abs(one) > 7) + (abs(one) == 7) / 2 for one in sums]))


def test_many_flipped_signs_are_a_sample_that_comes_near() -> None:
    gains = np.array([1.0] * 60 + [-1.0] * 40)
    assert sign_flips(gains) == pytest.approx(mcnemar(60, 40), abs=0.01)
    assert sign_flips(gains) == sign_flips(gains)


def test_the_loss_has_the_interval_of_a_mean_of_differences() -> None:
    chance, groups = np.random.default_rng(0), np.repeat([4, 7, 1, 9, 2, 5], [1, 9, 3, 7, 4, 6])
    first, second = ((np.zeros(30), chance.exponential(size=30)) for _ in range(2))
    for by in (None, groups):
        assert paired(first, second, by).loss == (
            float((second[1] - first[1]).mean()),
            *of_mean(second[1] - first[1], by),
        )


def test_groups_that_are_alike_inside_widen_every_interval() -> None:
    chance = np.random.default_rng(2)
    groups = np.repeat(np.arange(40), 10)
    gains = np.repeat(chance.choice([-1.0, 0.0, 1.0], 40, p=[0.2, 0.4, 0.4]), 10)
    apart, together = of_mean(gains), of_mean(gains, groups)
    assert together[1] - together[0] > 2.5 * (apart[1] - apart[0])  # sqrt(10) = 3.2
    (low, high), seen = of_gains(gains, groups)
    (low1, high1), seen1 = of_gains(gains, None)
    assert high - low > 2.5 * (high1 - low1)
    assert seen > 2.5 * seen1
    assert sign_flips(gains, groups) > sign_flips(gains)


def test_holm_is_the_procedure_that_stops_at_the_first_that_is_not_shown() -> None:
    chance = np.random.default_rng(3)
    for _ in range(200):
        ps = chance.choice([0.001, 0.004, 0.012, 0.013, 0.02, 0.04, 0.3], chance.integers(1, 6)).tolist()
        shown = set()
        for rank, k in enumerate(sorted(range(len(ps)), key=lambda k: ps[k])):
            if ps[k] >= 0.05 / (len(ps) - rank):
                break
            shown.add(k)
        assert {k for k, p in enumerate(holm(ps)) if p < 0.05} == shown


@pytest.mark.parametrize(("freedom", "point"), [(1, 12.706205), (2, 4.302653), (4, 2.776445), (30, 2.042272)])
def test_students_t_is_that_of_the_tables(freedom: int, point: float) -> None:
    assert t_point(freedom) == pytest.approx(point, abs=1e-5)
    assert t_point(1e7) == pytest.approx(Z)


def test_the_difference_over_trainings_is_welchs() -> None:
    a, b = [0.91, 0.93, 0.92], [0.94, 0.97]
    shares = 0.0001 / 3, 0.00045 / 2
    freedom = sum(shares) ** 2 / (shares[0] ** 2 / 2 + shares[1] ** 2 / 1)
    half = t_point(freedom) * math.sqrt(sum(shares))
    assert over_trainings(a, b) == pytest.approx((0.035, 0.035 - half, 0.035 + half))
    assert over_trainings([0.9, 0.9], [0.8, 0.8]) == pytest.approx((-0.1, -0.1, -0.1))


def test_majorities_are_won_and_lost_and_a_tie_is_neither() -> None:
    first, second = np.array([0, 1, 0.5, 1 / 3, 1]), np.array([1, 0, 1, 2 / 3, 1])
    assert majorities(first, second).tolist() == [[1, 0], [0, 1], [0, 0], [1, 0], [0, 0]]


def test_single_trainings_and_means_over_trainings_are_told_by_their_own_test() -> None:
    single = of_counts(12, 4, 100)
    assert (single.test, single.won, single.lost, single.difference) == (MID_P, 12, 4, 0.08)
    assert (single.low, single.high) == tango(12, 4, 100)
    assert single.loss is None
    first, second = answers(12, 4, 100)
    losses = np.linspace(0, 1, 100), np.linspace(0.5, 1, 100)
    means = paired((first * 2 / 3, losses[0]), (second, losses[1]))
    assert means.test == FLIPS
    assert means.loss is not None
    assert means.loss[0] == pytest.approx(0.25)
    assert means.loss[1] < 0.25 < means.loss[2]
    assert paired((first, losses[0]), (second, losses[1]), np.arange(100) // 5).test == FLIPS


def test_one_picture_and_one_group_tell_nothing_and_break_nothing() -> None:
    one = np.ones(1)
    found = paired((0 * one, one), (one, one))
    assert (found.p, found.told_apart, found.loss) == (0.5, False, None)
    grouped = paired((np.zeros(5), np.ones(5)), (np.ones(5), np.ones(5)), np.zeros(5, np.int64))
    assert (grouped.told_apart, grouped.low, grouped.high, grouped.loss) == (False, -1.0, 1.0, None)


@pytest.mark.parametrize("module", [tellapart.evaluation.intervals, tellapart.figures.plot])
def test_the_examples_in_the_docstrings_hold(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)


# --- how often it is right --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "discordant"), [(540, 0.08), (1000, 0.1), (269, 0.3), (10_000, 0.05)])
def test_equal_models_are_called_different_in_one_of_twenty(n: int, discordant: float) -> None:
    """Measured: 4.9, 5.0, 4.8 and 4.9 %, by the mid-p alone and with the interval alike."""
    won, lost, share = simulated(n, discordant / 2, discordant / 2, times=200_000, seed=n)
    ps = np.array([mcnemar(*pair) for pair in zip(won.tolist(), lost.tolist(), strict=True)])
    called = sum(share[k] for k in np.flatnonzero(ps < 0.05) if outside(int(won[k]), int(lost[k]), n))
    assert share[ps < 0.05].sum() == pytest.approx(0.05, abs=0.01)
    assert called == pytest.approx(0.05, abs=0.01)


def outside(won: int, lost: int, n: int) -> bool:
    low, high = tango(won, lost, n)
    return not low <= 0 <= high


@pytest.mark.parametrize(("n", "discordant"), [(540, 0.08), (540, 0.15), (1500, 0.1)])
def test_three_planted_points_are_found_as_often_as_predicted(n: int, discordant: float) -> None:
    """Measured and predicted: 70.3 and 69.4 %, 43.2 and 43.6 %, 96.0 and 95.7 %."""
    won, lost, share = simulated(n, discordant / 2 + 0.015, discordant / 2 - 0.015, times=100_000, seed=n)
    found = sum(
        often
        for a, b, often in zip(won.tolist(), lost.tolist(), share, strict=True)
        if a > b and mcnemar(a, b) < 0.05 and outside(a, b, n)
    )
    assert found == pytest.approx(power(0.03, n, discordant), abs=0.03)


@pytest.mark.parametrize(("n", "discordant"), [(540, 0.08), (2000, 0.05)])
def test_what_is_said_to_be_resolved_is_found_in_four_of_five(n: int, discordant: float) -> None:
    d = resolved(n, discordant)
    won, lost, share = simulated(n, (discordant + d) / 2, (discordant - d) / 2, times=100_000, seed=n)
    ps = np.array([mcnemar(*pair) for pair in zip(won.tolist(), lost.tolist(), strict=True)])
    assert share[(ps < 0.05) & (won > lost)].sum() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("case", [(540, 0.06, 0.04), (540, 0.05, 0.03), (1000, 0.03, 0.03), (300, 0.1, 0.05)])
def test_the_interval_of_a_difference_covers_it(case: tuple[int, float, float]) -> None:
    """Measured: 94.8, 94.9, 95.0 and 94.9 %."""
    n, won, lost = case
    a, b, share = simulated(n, won, lost, times=60_000, seed=n)
    covered = 0.0
    for k in np.flatnonzero(share):
        low, high = tango(int(a[k]), int(b[k]), n)
        covered += share[k] * (low <= won - lost <= high)
    assert covered == pytest.approx(0.95, abs=0.01)


def test_the_interval_of_a_mean_over_trainings_covers_it() -> None:
    """Three trainings of two recipes, whose mistakes depend on the picture: over the pictures, of these trainings."""
    chance, covered = np.random.default_rng(5), 0
    for _ in range(3000):
        hard = chance.beta(0.3, 3, 400)
        first, second = ((chance.random((3, 400)) > hard * ease).mean(axis=0) for ease in (1.0, 0.7))
        (low, high), _ = of_gains(second - first, None)
        covered += low <= 0.3 * 0.3 / 3.3 <= high
    assert covered / 3000 == pytest.approx(0.95, abs=0.01)


def test_the_interval_over_groups_covers_where_that_over_pictures_does_not() -> None:
    chance, groups, covered = np.random.default_rng(6), np.repeat(np.arange(200), 8), np.zeros(2)
    for _ in range(3000):
        of_group = chance.choice([-1.0, 0.0, 1.0], 200, p=[0.1, 0.7, 0.2])
        gains = np.repeat(of_group, 8) * (chance.random(1600) < 0.6)
        for k, by in enumerate((groups, None)):
            (low, high), _ = of_gains(gains, by)
            covered[k] += low <= 0.06 <= high
    assert covered[0] / 3000 == pytest.approx(0.95, abs=0.01)
    assert covered[1] / 3000 < 0.75


def test_flipped_signs_call_equal_models_different_in_one_of_twenty() -> None:
    chance, called = np.random.default_rng(7), 0
    for _ in range(1500):
        gains = chance.choice([-2 / 3, -1 / 3, 0, 1 / 3, 2 / 3], 60)
        called += sign_flips(gains[:12]) < 0.05
    assert called / 1500 == pytest.approx(0.05, abs=0.01)


def test_seeds_of_one_recipe_are_called_different_in_no_more_than_one_of_twenty() -> None:
    """Three trainings against three, whose true accuracies differ by the seed with a deviation of 1.3 points. Measured:
    1.6 %; of one training against one, which knows nothing of seeds, 18 %.
    """
    chance, called, alone = np.random.default_rng(8), 0, 0
    for _ in range(800):
        ease, seeds = chance.normal(2, 2, 600), chance.normal(0, 0.1, (6, 1))
        right = (ease + seeds + chance.normal(0, 1, (6, 600)) > 0).astype(float)
        seen = over_trainings(right[:3].mean(axis=1).tolist(), right[3:].mean(axis=1).tolist())
        if not seen[1] <= 0 <= seen[2]:  # else it is no difference, whatever the pictures say
            first, second = ((some.mean(axis=0), np.full(600, math.nan)) for some in (right[:3], right[3:]))
            called += told_apart(paired(first, second), seen)
        alone += mcnemar(int((right[0] > right[5]).sum()), int((right[0] < right[5]).sum())) < 0.05
    assert called / 800 < 0.06
    assert alone / 800 > 0.1


# --- in words ---------------------------------------------------------------------------------------------------------


def test_the_verdict_is_a_sentence_with_all_its_numbers() -> None:
    better, worse, none = of_counts(24, 8, 540), of_counts(8, 24, 540), of_counts(14, 15, 540)
    assert (
        in_words("a", "b", better, None)
        == "b is better than a by 3.0 points [1.0, 5.2] (n = 540, McNemar mid-p = 0.0046)."
    )
    assert (
        in_words("a", "b", worse, None)
        == "b is worse than a by 3.0 points [1.0, 5.2] (n = 540, McNemar mid-p = 0.0046)."
    )
    assert in_words("a", "b", none, None) == (
        "No difference in accuracy between a and b can be told apart: -0.2 points [-2.3, 1.9] "
        "(n = 540, McNemar mid-p = 0.86); "
        "these 540 pictures resolve differences from about 2.8 points."
    )
    assert "points" in in_words("a", "b", of_counts(90, 0, 540), None)
    assert "mid-p < 0.001" in in_words("a", "b", of_counts(90, 0, 540), None)
    assert "+0.0 points [-0.7, 0.7]" in in_words("a", "b", of_counts(0, 0, 540), None)


def test_a_difference_that_other_seeds_could_turn_round_is_not_called_one() -> None:
    better = of_counts(24, 8, 540)
    wide, narrow = (0.03, -0.01, 0.07), (0.03, 0.01, 0.05)
    assert in_words("a", "b", better, wide).startswith("No difference")
    assert "Over their trainings it is +3.0 points [-1.0, 7.0]." in in_words("a", "b", better, wide)
    assert in_words("a", "b", better, narrow).startswith("b is better than a by 3.0 points")


# --- smoothing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 0.6, 0.99])
def test_smoothing_is_that_of_tensorboard(weight: float) -> None:
    """As in its line chart: `last = last * w + (1 - w) * next; n++; smoothed = last / (1 - Math.pow(w, n))`."""
    values = [1.0, 0.5, math.nan, 0.7, 0.2, math.inf, 0.1]
    expected, last, n = [], 0.0, 0
    for value in values:
        if not math.isfinite(value):
            expected.append(value)
            continue
        last, n = last * weight + (1 - weight) * value, n + 1
        expected.append(last / (1 - math.pow(weight, n)))
    assert smoothed(values, weight) == pytest.approx(expected, nan_ok=True)
    assert smoothed([0.3] * 4, weight) == [0.3] * 4
    assert smoothed([], weight) == []
