"""Which documents a round looks at, against the plain definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.recall.choice import bar, doubtful, ranked, sample, walk, widened

scores = st.lists(st.floats(-5, 5), min_size=1, max_size=200)


def test_a_walk_grows_while_it_is_good_then_halves_and_ends():
    seen = []

    def good(band):
        seen.append((int(band[0]), len(band)))
        return bool(band[-1] < 100)  # all below 100 is right

    walk(np.arange(1000), first=20, least=5, good=good)
    grown = [(0, 20), (20, 20), (40, 20), (60, 30), (90, 45)]
    assert seen == [*grown, (90, 22), (90, 11), (90, 5), (95, 5), (100, 5)]


def test_a_walk_ends_with_what_there_is():
    seen = []
    walk(np.arange(10), first=8, least=2, good=lambda band: not seen.append(len(band)))
    assert seen == [8, 2]


@given(scores, st.integers(0, 250))
def test_ranked_are_the_best_scores_but_for_what_is_not_to_be_found(values, most):
    kept = np.array([*values, -np.inf])
    found = kept[ranked(kept, most)]
    assert found.tolist() == sorted(values, reverse=True)[:most]


@given(scores, st.floats(0.01, 1))
def test_the_bar_is_the_highest_that_enough_spies_pass(values, share):
    spies = np.array(values)
    chosen = bar(spies, share)
    assert (spies >= chosen).mean() >= share
    higher = spies[spies > chosen]
    assert not len(higher) or (spies >= higher.min()).mean() < share


@given(st.lists(st.tuples(st.integers(-1, 4), st.booleans()), min_size=1, max_size=60))
def test_a_source_is_widened_where_enough_of_it_was_found(documents):
    source, found = (np.array(column) for column in zip(*documents, strict=True))
    wide = widened(source.astype(np.int32), found, share=0.4, least=3)
    for place, name in enumerate(source):
        own = found[source == name]
        assert wide[place] == (name >= 0 and len(own) >= 3 and own.mean() >= 0.4)


def test_a_sample_is_drawn_by_what_there_is_and_not_by_how_much():
    keys = np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64)
    every = np.ones(5000, bool)
    chosen = sample(keys, every, 200)
    fewer = every.copy()
    fewer[::2] = False  # half of the documents are gone
    assert set(chosen[chosen % 2 == 1]) <= set(sample(keys, fewer, 200))
    assert len(set(chosen) & set(sample(keys, every, 200, salt=1))) < 40  # 8 by chance
    assert np.histogram(chosen, bins=5, range=(0, 5000))[0].min() > 20


def test_doubtful_are_the_best_of_what_is_free():
    values = np.array([5.0, -np.inf, 1.0, 2.0, 3.0, 4.0])
    assert np.flatnonzero(doubtful(values, 0.4)).tolist() == [0, 5]
