import numpy as np
import pytest

from baiwen.data.order import BLOCK, _splitmix, interleave, permutation
from baiwen.errors import UserError


def test_a_permutation_holds_every_number_once():
    assert sorted(permutation(1000, seed=3)) == list(range(1000))


def test_seed_stream_and_epoch_each_change_the_order():
    orders = [
        permutation(100, seed=seed, stream=stream, epoch=epoch).tobytes()
        for seed in (0, 1)
        for stream in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == 8


def test_the_order_is_the_published_splitmix64():
    # The first outputs of the reference implementation (Vigna, splitmix64.c) for the seed 0.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([0, gamma], dtype=np.uint64)
    assert [hex(value) for value in _splitmix(states)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
    ]


def test_places_are_spread_evenly():
    first = [int(permutation(10, seed=seed)[0]) for seed in range(5000)]
    counts = np.bincount(first, minlength=10)
    assert (np.abs(counts - 500) < 5 * np.sqrt(450)).all()


def test_a_block_holds_each_source_in_exact_proportion():
    turns = interleave([0.5, 0.3, 0.2])
    assert turns.counts.tolist() == [BLOCK // 2, BLOCK * 3 // 10, BLOCK // 5]
    assert np.bincount(turns.source).tolist() == turns.counts.tolist()


def test_what_does_not_divide_goes_to_the_largest_remainders():
    assert sorted(interleave([1, 1, 1]).counts) == [BLOCK // 3, BLOCK // 3, BLOCK // 3 + 1]


def test_every_stretch_is_within_two_rows_of_the_proportions():
    weights = np.array([0.61, 0.3, 0.09])
    source = interleave(weights).source
    for start in range(0, 5000, 37):
        for length in (10, 64, 1000):
            counts = np.bincount(source[start : start + length], minlength=3)
            assert (np.abs(counts - weights * length) <= 2).all()


def test_turns_of_a_source_count_up_without_gaps_over_the_border_of_a_block():
    turns = interleave([0.7, 0.3])
    seen = {0: 0, 1: 0}
    for row in range(BLOCK + 100):
        source, nth = turns.turn(row)
        assert nth == seen[source]
        seen[source] += 1


def test_a_weight_too_small_for_one_row_is_refused_by_name():
    with pytest.raises(UserError, match="the weight of rare is too small"):
        interleave([1, 1e-9], ["web", "rare"])
