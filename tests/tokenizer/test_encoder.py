"""Encoding: the ids of `tokenizers`, whichever engine makes them."""

import dataclasses
import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from baiwen.errors import UserError
from baiwen.tokenizer import control
from baiwen.tokenizer.encoder import Encoder

NFC = normalizers.NFC().normalize_str
MARKS = [chr(code) for code in range(0x1100, 0x1200)] + [
    chr(code) for code in range(0x20000) if unicodedata.combining(chr(code))
]
WHOLE = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.text(st.sampled_from("aé e\u0301'sT 01中文。\n\r\t  .,!<|>_가\u1100\u1161😀\u200d"))


def test_published_ids(qwen):
    assert qwen.encode("Hello world") == [9707, 1879]
    assert qwen.encode(" Hello world") == [21927, 1879]


def test_golden_vectors(qwen, golden):
    rows = golden("golden_vectors_dev.jsonl.gz")
    plain = [row for row in rows if not any(name in row["text"] for name in control.NAMES)]
    assert len(plain) >= 180
    for row in plain:
        assert qwen.encode(row["text"]) == row["ids"]
    for row, ids in zip(plain, qwen.encode_many([row["text"] for row in plain]), strict=True):
        assert ids.dtype == np.uint32
        assert ids.tolist() == row["ids"]


@pytest.mark.parametrize("which", ["small", "qwen"])
@given(text=WHOLE | PLAIN)
def test_both_engines_agree(which, text, request):
    encoder = request.getfixturevalue(which)._encoder
    assert encoder.fast
    assert encoder._ids(text).tolist() == encoder._reference(text).tolist()


def test_both_engines_agree_on_combining_marks(small):
    rng = random.Random(0)
    for _ in range(3_000):
        text = "".join(rng.choice([*MARKS, "a", "q", "ộ"]) for _ in range(6))
        assert small._encoder._ids(text).tolist() == small._encoder._reference(text).tolist()


def test_text_that_python_calls_normal_is_normal_to_tokenizers():
    for mark in MARKS:
        for text in (f"a\u0301{mark}", f"a{mark}\u0323", f"a{mark}\u0301", f"\u1100{mark}"):
            assert not unicodedata.is_normalized("NFC", text) or NFC(text) == text


@given(text=WHOLE | PLAIN)
def test_decode_gives_the_normalised_text_back(small, text):
    assert small.decode(small.encode(text)) == NFC(text)


def test_a_vocabulary_out_of_rank_order_falls_back_to_the_reference(small):
    tokens = list(small.vocabulary.tokens)
    tokens[400], tokens[900] = tokens[900], tokens[400]
    encoder = Encoder(dataclasses.replace(small.vocabulary, tokens=tuple(tokens)))
    assert not encoder.fast
    swap = {400: 900, 900: 400}
    for text in ("return self.default", "import argparse as _argparse"):
        expected = [swap.get(token, token) for token in small.encode(text)]
        assert encoder.encode(text).tolist() == expected


def test_a_million_blanks_are_encoded(small):
    text = " " * 1_000_000
    assert small.decode(small.encode(text)) == text


@settings(max_examples=20)
@given(texts=st.lists(PLAIN, max_size=40), threads=st.integers(1, 4))
def test_threads_change_nothing(small, texts, threads):
    found = small.encode_many(texts, threads=threads)
    assert [ids.tolist() for ids in found] == [small.encode(text) for text in texts]


def test_half_a_character_is_a_clear_error(small):
    with pytest.raises(UserError, match=r"lone surrogate .* at 4"):
        small.encode("half\ud800")


@pytest.mark.parametrize("name", control.NAMES)
def test_the_name_of_a_control_token_is_plain_text(qwen, name):
    ids = qwen.encode(f"a{name}b")
    assert max(ids) < 151_643
    assert qwen.decode(ids) == f"a{name}b"
