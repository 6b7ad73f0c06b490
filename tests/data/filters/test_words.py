import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.filters import words

TEXTS = st.lists(
    st.text(alphabet=st.sampled_from("ab A1.,'-/: \n\té猫…😀"), max_size=30), max_size=6
)


def parts(text):
    """The words of a text, in the order of their places: what `split` measures, as strings."""
    found = words.split([text])
    spans, place = [], 0
    for length in found.lengths.tolist():
        while words.kinds(np.array([ord(text[place])], np.uint32))[0] == words.SPACE:
            place += 1
        spans.append(text[place : place + length])
        place += length
    assert not text[place:].strip()
    return spans


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # as spaCy's English tokenizer parts them, but for its "n't"
        ("It's here, (well-known) and gone.", "It 's here , ( well - known ) and gone ."),
        ("Pi is 3.14 or 3,000.5 in GPT-4 and snake_case!", None),
        ("the U.S. and J. Smith, e.g. here", "the U.S. and J. Smith , e.g. here"),
        ("wait... what--no -- 'quoted'", "wait ... what -- no -- ' quoted '"),
        ("see https://a.example/b-c?d=e, or docs/", "see https://a.example/b-c?d=e , or docs/"),
        ("one.Two and one.two 10-20 a/b", "one . Two and one.two 10 - 20 a / b"),
        ("我有 3 只猫。", "我 有 3 只 猫 。"),
        ("ไทย", "ไ ท ย"),
    ],
)
def test_words_are_parted_as_the_rules_count_them(text, expected):
    expected = expected or "Pi is 3.14 or 3,000.5 in GPT-4 and snake_case !"
    assert parts(text) == expected.split()


@given(TEXTS)
def test_a_text_has_the_same_words_in_any_company(texts):
    together = words.split(texts)
    for i, text in enumerate(texts):
        alone, own = words.split([text]), slice(together.bounds[i], together.bounds[i + 1])
        for name in ("hashes", "lengths", "flags"):
            assert getattr(together, name)[own].tolist() == getattr(alone, name).tolist()


@given(TEXTS)
def test_words_have_every_character_but_white_space(texts):
    found = words.split(texts)
    assert found.lengths.sum() == sum(len(re.sub(r"\s", "", text)) for text in texts)


@given(st.lists(st.text(alphabet="abé猫.", min_size=1, max_size=5), min_size=2, max_size=9))
def test_words_are_equal_where_their_hashes_are(some):
    texts = [" ".join(some)]
    found = parts(texts[0])
    hashes = words.split(texts).hashes.tolist()
    assert len(set(hashes)) == len(set(found))
    assert len(set(zip(hashes, found, strict=True))) == len(set(found))


def test_slices_do_not_change_the_words(monkeypatch):
    text = "It's a well-known text, of https://a.example/b and 猫 and U.S. law... " * 40
    whole = words.split([text, text])
    monkeypatch.setattr(words, "_SLICE", 64)
    assert words.split([text, text]).hashes.tolist() == whole.hashes.tolist()


def test_some_of_the_texts_keep_their_words():
    texts = ["one two", "", "three", "four five six"]
    chosen, some = words.split(texts).of([0, 3]), words.split([texts[0], texts[3]])
    assert chosen.hashes.tolist() == some.hashes.tolist()
    assert chosen.bounds.tolist() == some.bounds.tolist()
