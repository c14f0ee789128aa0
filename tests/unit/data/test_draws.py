import itertools
import math

import numpy as np
import pytest

from headrace.data.draws import BLOCK, Shuffle, below, compose, draw, name_word, permutation, ranges, uniform

WORD = 2**64 - 1


def draw_plainly(*words: int) -> int:
    state = 0
    for word in words:
        state = ((state ^ (word & WORD)) + 0x9E3779B97F4A7C15) & WORD
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & WORD
        state ^= state >> 31
    return state


def test_draws_equal_those_of_whole_python_numbers() -> None:
    words = [(3, -1, 7), (2**63 + 5, 0, 0), (0, 12, 2**40)]
    for first, second, third in words:
        assert draw(first, second, np.array([third, 9])).tolist() == [
            draw_plainly(first, second, third),
            draw_plainly(first, second, 9),
        ]


def test_splitmix_gives_its_published_first_value() -> None:
    assert draw(0).tolist() == [0xE220A8397B1DCDAF]


def test_uniform_draws_fill_the_unit_interval_evenly() -> None:
    values = uniform(draw(5, np.arange(40_000)))
    counts, _ = np.histogram(values, bins=20, range=(0, 1))
    assert counts.sum() == 40_000
    assert ((counts - 2000) ** 2 / 2000).sum() < 45  # chi-square with 19 degrees of freedom, p > 0.0007


def test_whole_draws_stay_below_their_limits_and_reach_them_all() -> None:
    limits = np.tile(np.arange(1, 8), 500)
    values = below(limits, draw(1, np.arange(len(limits))))
    for limit in range(1, 8):
        assert set(values[limits == limit].tolist()) == set(range(limit))


def test_permutations_hold_every_number_and_depend_on_every_word() -> None:
    orders = [permutation(50, *words) for words in ((1, 2), (1, 3), (2, 2))]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3
    assert permutation(50, 1, 2).tolist() == orders[0].tolist()


def test_names_become_words_that_do_not_change_between_processes() -> None:
    assert name_word("pile") == 0x3436D1482D27B82E  # first eight bytes of `printf pile | sha256sum`, reversed
    assert name_word("pile") != name_word("p3")


def test_ranges_say_whose_each_element_is_and_where() -> None:
    owners, places = ranges(np.array([2, 0, 3]))
    assert owners.tolist() == [0, 0, 2, 2, 2]
    assert places.tolist() == [0, 1, 0, 1, 2]


def test_every_way_of_breaking_a_total_is_equally_likely() -> None:
    samples = 6000
    parts = compose(np.full(samples, 6), np.full(samples, 3), draw(9, np.arange(samples))).reshape(samples, 3)
    ways = [way for way in itertools.product(range(1, 5), repeat=3) if sum(way) == 6]
    counts = np.array([np.all(parts == way, axis=1).sum() for way in ways])
    assert counts.sum() == samples
    assert len(ways) == math.comb(5, 2)
    assert ((counts - samples / 10) ** 2 / (samples / 10)).sum() < 28  # 9 degrees of freedom, p > 0.0009


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_positive_and_sum_to_their_totals(seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = random.integers(1, 9, 200)
    totals = parts + random.integers(0, 30, 200)
    lengths = compose(totals, parts, draw(seed, np.arange(200)))
    assert lengths.min() >= 1
    owners, _ = ranges(parts)
    np.testing.assert_array_equal(np.bincount(owners, lengths), totals)


@pytest.mark.parametrize("count", [1, 2, 3, 50, BLOCK, BLOCK + 1, 40_000, 2**17])
def test_a_shuffle_holds_every_number_once_and_any_part_of_it_is_had_alone(count: int) -> None:
    order = Shuffle(count, 5, 7)
    whole = order.part(0, count + 10).tolist()
    assert len(order) == count and sorted(whole) == list(range(count))
    random = np.random.default_rng(count)
    for start in random.integers(0, count, 5).tolist():
        stop = start + int(random.integers(1, count + 1))
        assert Shuffle(count, 5, 7).part(start, stop).tolist() == whole[start:stop]


def test_a_long_shuffle_is_random_and_depends_on_every_word() -> None:
    count = 200_000
    orders = [Shuffle(count, *words).part(0, count) for words in ((1, 2), (1, 3), (2, 2))]
    assert all(np.count_nonzero(a == b) < 12 for a, b in itertools.combinations(orders, 2)), "about 1 by chance"
    for order in orders:
        # Where the first, second ... tenth of the numbers end up, and what follows what.
        for left, right in ((np.arange(count), order), (order[:-1], order[1:])):
            cells, *_ = np.histogram2d(left, right, bins=20, range=[[0, count]] * 2)
            assert ((cells - count / 400) ** 2 / (count / 400)).sum() < 490  # 361 to 399 degrees of freedom


def test_the_end_of_a_huge_shuffle_costs_no_more_than_its_beginning() -> None:
    order = Shuffle(2**40, 1)
    part = order.part(2**40 - 3, 2**40)
    assert len(set(part.tolist())) == 3 and 0 <= part.min() <= part.max() < 2**40
