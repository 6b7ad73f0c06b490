import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from baiwen.errors import UserError
from baiwen.tokenizer import table
from baiwen.tokenizer.cut import cut, simple, stretches
from baiwen.tokenizer.vocabulary import PATTERN

PUBLISHED = pre_tokenizers.Split(Regex(PATTERN), "isolated")
CHARACTERS = "ab sS'tTrevlLmd  \n\r\t\v.,-\x1c\x00019“’é—ЖΩ"
texts = st.lists(st.text(CHARACTERS, min_size=1, max_size=12), min_size=1, max_size=4)


def pieces(text):
    return [text[start:end] for _, (start, end) in PUBLISHED.pre_tokenize_str(text)]


@given(texts)
def test_text_is_cut_as_the_pattern_cuts_it(given_texts):
    encoded = [text.encode() for text in given_texts]
    data = b"".join(encoded)
    starts = cut(data, np.cumsum([0, *map(len, encoded)]))
    found = [part.decode() for part in map(bytes, np.split(np.frombuffer(data, np.uint8), starts))]
    assert found[1:] == [piece for text in given_texts for piece in pieces(text)]


@given(st.text(st.sampled_from(CHARACTERS + "猫½\u00a0\u0301ſ"), max_size=40))
def test_stretches_cut_no_piece(text):
    parts = list(stretches(text))
    assert "".join(part for _, part in parts) == text
    assert [piece for _, part in parts for piece in pieces(part)] == pieces(text)
    assert all(simple(part) for is_simple, part in parts if is_simple)


def test_what_versions_of_unicode_may_tell_apart_is_not_simple():
    assert simple("“Grüße”, naïve — Ελληνικά, русский … ± € ?")
    for character in ("猫", "½", "\u00a0", "e\u0301", "ſ", "😀", "\u212b"):
        assert not simple(f"plain {character} plain")


def words(count, seed):
    """Text whose pieces repeat, some of them long, some of them not simple."""
    rng = random.Random(seed)
    known = ["".join(rng.choices("abcdé", k=rng.randint(1, 20))) for _ in range(300)]
    other = ["\n", "\n\n  ", " 12", "'s", "I'LL", "----", " ... ", "猫", "\t", "e\u0301", "“x”"]
    return "".join(f"{rng.choice(known)}{rng.choice([' ', ' ', *other])}" for _ in range(count))


@pytest.mark.parametrize("full", [1 << 19, 50])
def test_batches_are_encoded_as_single_texts(small, monkeypatch, full):
    monkeypatch.setattr(table, "FULL", full)
    monkeypatch.setattr(table, "BLOCK", 5_000)
    batch = [words(random.Random(i).randint(0, 400), i) for i in range(20)]
    for _ in range(2):  # the second time pieces are known
        found = small.encode_many(batch, threads=1)
        assert [ids.tolist() for ids in found] == [small.encode(text) for text in batch]
        assert {ids.dtype.name for ids in found} == {"uint32"}


def test_a_text_of_more_pieces_than_the_table_has_places_is_encoded(small, monkeypatch):
    monkeypatch.setattr(table, "SLOTS", 6)
    monkeypatch.setattr(table, "FULL", 32)
    ranks = {spelling: rank for rank, spelling in enumerate(small.vocabulary.spellings)}
    own = table.Table(ranks, small._encoder._ids)
    text = "".join(f" {letter}{other}q" for letter in "abcdefghij" for other in "klmnopqrst")
    for _ in range(2):
        assert [ids.tolist() for ids in own.encode([text, "a cat"])] == [
            small.encode(text),
            small.encode("a cat"),
        ]


def test_no_text_of_a_batch_becomes_a_control_token(small):
    text = "a <|im_end|> b\n<|endoftext|>"
    (found,) = small.encode_many([text], threads=1)
    assert found.tolist() == small.encode(text)
    assert found.max() < len(small.vocabulary.tokens)


def test_half_a_character_in_a_batch_is_refused_with_its_place(small):
    with pytest.raises(UserError, match=r"lone surrogate .* at 12"):
        small.encode_many(["fine", "plain\nplain \udc00"], threads=1)
