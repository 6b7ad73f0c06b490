"""Union-find against a search of the graph."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.dedup.groups import Groups

PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


def lowest(pairs, start):
    """The lowest number that can be reached from a start."""
    reached, new = {start}, {start}
    while new:
        new = {b for pair in pairs for a, b in (pair, pair[::-1]) if a in new} - reached
        reached |= new
    return min(reached)


@given(st.lists(PAIRS, max_size=3))
def test_labels_are_the_lowest_of_what_is_connected(batches):
    groups = Groups(20)
    for pairs in batches:
        groups.join(*np.array(pairs, np.int64).reshape(-1, 2).T)
    every = [pair for pairs in batches for pair in pairs]
    assert groups.labels().tolist() == [lowest(every, start) for start in range(20)]


def test_a_long_chain_is_one_component():
    groups, chain = Groups(10_000), np.random.default_rng(0).permutation(10_000)
    groups.join(chain[1:], chain[:-1])
    assert not groups.labels().any()
