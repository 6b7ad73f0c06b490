"""Signatures follow the curve that they promise."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.dedup import minhash
from baiwen.data.dedup.minhash import NONE, Shape, bands, jaccard, shingle_sets, signatures


def pairs(share, size, count):
    """Shingles of `count` pairs of documents with `size` each, and their Jaccard similarity."""
    rng = np.random.default_rng(0)
    common = round(2 * size * share / (1 + share))
    shingles = rng.integers(0, 2**64, (count, 2, size), np.uint64)
    shingles[:, 1, :common] = shingles[:, 0, :common]
    bounds = np.arange(2 * count + 1) * size
    return shingles.ravel(), bounds, common / (2 * size - common)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.8, 0.9])
def test_pairs_share_a_band_as_often_as_the_formula_says(share):
    count, shape = 2000, Shape()
    shingles, bounds, similarity = pairs(share, 50, count)
    keys = bands(shingles, bounds, shape)
    equal = keys[::2] == keys[1::2]
    one = similarity**shape.rows
    some = 1 - (1 - one) ** shape.bands
    assert equal.mean() == pytest.approx(one, abs=4 * np.sqrt(one / count / shape.bands))
    assert equal.any(1).mean() == pytest.approx(some, abs=4 * np.sqrt(some * (1 - some) / count))


def test_keys_do_not_depend_on_what_else_is_in_the_batch(monkeypatch):
    texts = ["one two three four five six " * many for many in (1, 0, 40, 7)]
    whole = signatures(pa.table({"text": texts}))["keys"].to_pylist()
    monkeypatch.setattr(minhash, "BLOCK", 3)
    single = [signatures(pa.table({"text": [text]}))["keys"].to_pylist()[0] for text in texts]
    assert whole == single
    assert whole[1] == [NONE] * 14 and NONE not in whole[0]


def test_another_seed_or_band_gives_other_keys():
    table = pa.table({"text": ["one two three four five six"]})
    one, other = (signatures(table, Shape(seed=seed))["keys"][0].as_py() for seed in (1, 2))
    assert len({*one, *other}) == 28


@given(*[st.sets(st.integers(0, 30))] * 2, st.floats(0, 1))
def test_jaccard_is_that_of_sets(left, right, least):
    arrays = [np.array(sorted(one), np.uint64) for one in (left, right)]
    wanted = len(left & right) / max(len(left | right), 1)
    assert jaccard(*arrays) == wanted
    assert jaccard(*arrays, least) == (wanted if wanted >= least else pytest.approx(0, abs=wanted))


def test_a_part_of_a_document_that_is_exactly_the_bound_of_it_is_similar():
    whole = np.arange(100, dtype=np.uint64)
    assert jaccard(whole[:55], whole, 0.55) == 0.55  # though 0.55 * 100 is more than 55


def test_shingles_are_the_different_runs_of_words():
    table = pa.table({"text": ["a b a b a b", "a b", "b a", ""]})
    found = list(shingle_sets(table["text"], Shape(words=2)))
    assert [len(one) for one in found] == [2, 1, 1, 0]
    assert found[0].tolist() == sorted([*found[1], *found[2]])
