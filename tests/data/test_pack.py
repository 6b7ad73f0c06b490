import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.pack import best_fit


def naive_best_fit(lengths, size):
    """The definition, a row at a time: the longest first, into the fullest row that holds it."""
    rows, spaces = [], []
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = [row for row, space in enumerate(spaces) if space >= lengths[item]]
        if fitting:
            row = min(fitting, key=lambda row: spaces[row])
        else:
            row = len(rows)
            rows.append([])
            spaces.append(size)
        rows[row].append(item)
        spaces[row] -= lengths[item]
    return rows, sorted(spaces)


def fewest_rows(lengths, size):
    """The optimum, by trying every assignment."""
    for count in range(1, len(lengths) + 1):
        for rows in itertools.product(range(count), repeat=len(lengths)):
            if np.bincount(rows, weights=lengths, minlength=count).max() <= size:
                return count
    return 0


@st.composite
def problems(draw):
    size = draw(st.integers(1, 1200))  # crosses the border of a word of the index
    return draw(st.lists(st.integers(1, size), max_size=60)), size


@given(problems())
def test_every_item_lies_in_one_row_and_no_row_overflows(problem):
    lengths, size = problem
    rows = best_fit(lengths, size)
    assert sorted(itertools.chain.from_iterable(rows)) == list(range(len(lengths)))
    assert all(0 < sum(lengths[item] for item in row) <= size for row in rows)


@given(problems())
def test_rows_are_as_full_as_those_of_the_naive_algorithm(problem):
    lengths, size = problem
    rows = best_fit(lengths, size)
    spaces = sorted(size - sum(lengths[item] for item in row) for row in rows)
    assert spaces == naive_best_fit(lengths, size)[1]


def test_no_more_rows_than_the_known_bound_of_the_optimum():
    rng = random.Random(0)
    for _ in range(30):
        size = rng.randint(4, 12)
        lengths = [rng.randint(1, size) for _ in range(6)]
        assert len(best_fit(lengths, size)) <= 11 / 9 * fewest_rows(lengths, size) + 6 / 9


def test_the_same_lengths_give_the_same_rows():
    lengths = np.random.default_rng(0).integers(1, 4096, 5000)
    one, two = best_fit(lengths, 4096), best_fit(lengths.tolist(), 4096)
    assert np.array_equal(one.items, two.items)
    assert np.array_equal(one.bounds, two.bounds)


def test_documents_of_usual_lengths_leave_less_than_one_percent_empty():
    lengths = np.random.default_rng(0).lognormal(6, 1, 20_000).astype(int).clip(1, 4096)
    fill = lengths.sum() / (len(best_fit(lengths, 4096)) * 4096)
    print(f"fill {fill:.4%}")
    assert fill > 0.99


@pytest.mark.parametrize("lengths", [[0], [5], [-1, 2]])
def test_a_length_outside_the_row_is_refused(lengths):
    with pytest.raises(ValueError, match=r"within 1\.\.4"):
        best_fit(lengths, 4)


def test_nothing_packs_into_no_rows():
    assert len(best_fit([], 8)) == 0
