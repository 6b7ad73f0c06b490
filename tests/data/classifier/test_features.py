"""What a classifier sees of a text, against a reader with regular expressions and sets."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baiwen.data.classifier.features import SHAPES, Features, features, joined

LOOK = Features()
HALF = 1 << (LOOK.bits - 1)
TEXT = st.text(st.sampled_from("ab1 .\nÄé中の"), max_size=40)


def seen(text, look=LOOK):
    return set(features(pa.array([text]), look).ids.tolist())


def test_words_and_pairs_are_counted_once_each():
    ids = features(pa.array(["one two one two Three"]), LOOK).ids
    assert len(ids) == len(set(ids.tolist())) == 3 + 3  # one two three, one-two two-one two-three
    assert (ids < HALF).sum() == 3


def test_the_order_of_words_matters_to_pairs_alone():
    one, other = seen("red green blue"), seen("blue green red")
    assert {i for i in one if i < HALF} == {i for i in other if i < HALF}
    assert not {i for i in one if i >= HALF} & {i for i in other if i >= HALF}


def test_chinese_characters_are_words_and_thai_ones_threes():
    assert len(seen("中文字")) == 3 + 2
    thai = "ภาษาไทยเป็นภาษาราชการ"
    shared = seen(thai) & seen("เรียน" + thai[:12])
    assert len(shared) >= 9  # threes that both have, though no word is the same


def test_only_the_first_characters_are_read():
    look = Features(characters=10)
    assert seen("abc def 12 and much more", look) == seen("abc def 12", look)
    assert seen("中" * 10 + "文", look) == seen("中" * 10, look)


@settings(max_examples=40)
@given(st.lists(TEXT, min_size=1, max_size=6))
def test_a_text_is_seen_alike_whatever_stands_beside_it(texts):
    together = features(pa.array(texts, pa.string()), LOOK)
    alone = joined([features(pa.array([text], pa.string()), LOOK) for text in texts])
    for name in ("ids", "bounds", "shapes"):
        assert np.array_equal(getattr(together, name), getattr(alone, name))
    some = np.arange(len(texts))[::-2]
    assert np.array_equal(together.take(some).ids, joined(
        [features(pa.array([texts[i]], pa.string()), LOOK) for i in some]
    ).ids)  # fmt: skip


def test_more_texts_than_are_looked_at_together_keep_their_order():
    texts = [f"text number {number}" for number in range(1200)]
    found = features(pa.chunked_array([texts[:700], texts[700:]]), LOOK)
    assert len(found) == 1200
    last = found.ids[found.bounds[1199] :]
    assert set(last.tolist()) == seen(texts[-1])


@given(TEXT)
def test_shapes_are_what_counting_gives(text):
    found = dict(zip(SHAPES, features(pa.array([text], pa.string()), LOOK).shapes[0], strict=True))
    size = max(len(text.encode()), 1)
    lines = re.findall(r"[^\n]+\n", text)
    count = len(lines) + 1
    expected = {
        "bytes": np.log2(len(text.encode()) + 1),
        "line": np.log2(size / count),
        "digits": text.count("1") / size,
        "capitals": 0,
        "punctuation": text.count(".") / size,
        "foreign": 1 - len(text) / size,
        "sentences": sum(line.endswith(".\n") for line in lines) / count,
    }
    assert {name: pytest.approx(value, abs=1e-6) for name, value in expected.items()} == {
        name: found[name] for name in expected
    }


def test_no_text_and_no_texts_are_seen_too():
    found = features(pa.array(["", None], pa.string()), LOOK)
    assert len(found) == 2 and not len(found.ids) and np.isfinite(found.shapes).all()
    assert len(features(pa.chunked_array([], pa.string()), LOOK)) == 0
