"""Chance is arithmetic: Philox as published, orders and draws that depend on (seed, epoch, row) and on nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.data.chance import Purpose, order, philox, step_seed, uniform, words

word = st.integers(0, 2**32 - 1)
seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(0, 2**32 - 1)
ALL_ONES = 0xFFFFFFFF

PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((ALL_ONES,) * 4, (ALL_ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]
"""Random123, kat_vectors, philox4x32 10."""


def naive(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """Philox4x32-10 with Python's whole numbers, as the paper has it."""
    a, b, c, d = counter
    left, right = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * a, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c, 2**32)
        a, b, c, d = high1 ^ b ^ left, low1, high0 ^ d ^ right, low0
        left, right = (left + 0x9E3779B9) % 2**32, (right + 0xBB67AE85) % 2**32
    return [a, b, c, d]


def column(counter: tuple[int, ...]) -> np.ndarray:
    return np.array(counter, np.uint64)[:, None]


@pytest.mark.parametrize(("counter", "key", "expected"), PUBLISHED)
def test_philox_gives_the_published_answers(counter, key, expected):
    assert " ".join(f"{int(value):08x}" for value in philox(column(counter), key)[:, 0]) == expected
    assert " ".join(f"{value:08x}" for value in naive(counter, key)) == expected


@given(st.lists(st.tuples(word, word, word, word), min_size=1, max_size=5), st.tuples(word, word))
def test_philox_equals_the_naive_version(counters, key):
    drawn = philox(np.array(counters, np.uint64).T, key)
    assert drawn.T.tolist() == [naive(counter, key) for counter in counters]


@given(seeds, epochs, st.integers(0, 2**40), st.sampled_from(Purpose))
def test_words_put_row_epoch_purpose_and_seed_into_counter_and_key(seed, epoch, row, purpose):
    counter = (row % 2**32, row >> 32, epoch, int(purpose) << 16)
    drawn = words(seed, purpose, epoch, np.array([row]))
    assert drawn[:, 0].tolist() == naive(counter, (seed % 2**32, seed >> 32))


def test_the_numbers_of_each_purpose_stay_as_they_are():
    assert {purpose.name: int(purpose) for purpose in Purpose} == {"ORDER": 0, "AUGMENT": 1, "LIMIT": 2, "TRANSFORM": 3}


@given(seeds, epochs, st.lists(st.integers(0, 10**9), unique=True, max_size=60))
def test_an_order_is_a_permutation(seed, epoch, rows):
    assert sorted(order(seed, epoch, np.array(rows, np.int64)).tolist()) == sorted(rows)


@given(seeds, epochs)
def test_orders_differ_by_epoch_and_by_seed(seed, epoch):
    rows = np.arange(200)
    first = order(seed, epoch, rows).tolist()
    assert first == order(seed, epoch, rows).tolist()
    assert first != order(seed, (epoch + 1) % 2**32, rows).tolist()
    assert first != order(seed + 1, epoch, rows).tolist()
    assert first != rows.tolist()


@given(seeds, epochs, st.sets(st.integers(0, 99), min_size=1))
def test_rows_that_leave_do_not_reorder_the_others(seed, epoch, chosen):
    whole = order(seed, epoch, np.arange(100)).tolist()
    assert order(seed, epoch, np.array(sorted(chosen))).tolist() == [row for row in whole if row in chosen]


@given(seeds, epochs, st.lists(st.integers(0, 10**6), min_size=1, max_size=20), st.sampled_from(Purpose))
def test_what_a_row_draws_depends_on_that_row_alone(seed, epoch, rows, purpose):
    together = uniform(seed, purpose, epoch, np.array(rows))
    alone = [uniform(seed, purpose, epoch, np.array([row]))[:, 0].tolist() for row in rows]
    assert together.T.tolist() == alone


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_uniform_numbers_fill_the_interval_evenly(seed):
    drawn = uniform(seed, Purpose.AUGMENT, 3, np.arange(20_000)).astype(np.float64)
    assert drawn.shape == (4, 20_000)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    # four standard errors of a mean, and of a share of a tenth
    assert np.abs(drawn.mean(axis=1) - 0.5).max() < 4 * np.sqrt(1 / 12 / 20_000)
    shares = np.stack([np.histogram(one, bins=10, range=(0, 1))[0] for one in drawn]) / 20_000
    assert np.abs(shares - 0.1).max() < 4.5 * np.sqrt(0.09 / 20_000)
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 4.5 / np.sqrt(20_000)


def test_the_largest_word_stays_below_one():
    assert np.float32(0xFFFFFFFF >> 8) * np.float32(2.0**-24) < 1


def test_each_place_is_as_likely_for_each_row():
    firsts = [int(order(7, epoch, np.arange(8))[0]) for epoch in range(1600)]
    counts = np.bincount(firsts, minlength=8)
    assert np.abs(counts - 200).max() < 4.5 * np.sqrt(1600 / 8 * 7 / 8)


def splitmix(state: int) -> int:
    """The output function of SplitMix64."""
    mask = 2**64 - 1
    z = state & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_step_seeds_of_seed_0_are_the_published_splitmix_numbers():
    # the first outputs of SplitMix64 from state 0, as in Vigna's splitmix64.c
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [splitmix((n + 1) * 0x9E3779B97F4A7C15) for n in range(3)] == published
    assert [step_seed(0, n) for n in range(3)] == [value >> 1 for value in published]


def test_step_seeds_differ_for_neighbouring_seeds_and_steps():
    drawn = {step_seed(seed, step) for seed in range(100) for step in range(100)}
    assert len(drawn) == 10_000


@given(seeds, st.integers(0, 10**9))
def test_a_step_seed_is_one_that_torch_takes(seed, step):
    assert 0 <= step_seed(seed, step) < 2**63
