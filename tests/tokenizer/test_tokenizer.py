"""The tokenizer's own calls: decoding, streams, names."""

import random
import sys

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from baiwen.errors import UserError
from baiwen.tokenizer import control

PLANES = "a é ж 爱 ﷽ 한 \u0301 😀 𐍈 𠀋 \U000e0041 \U0010ffff"


def streamed(tokenizer, ids):
    stream = tokenizer.stream()
    return [*map(stream.push, ids), stream.finish()]


@given(ids=st.lists(st.integers(0, 1_021)))
def test_a_stream_of_any_ids_gives_what_decode_gives(small, ids):
    assert "".join(streamed(small, ids)) == small.decode(ids)


def test_a_stream_of_any_bytes_gives_what_decode_gives(small):
    rng = random.Random(0)
    for _ in range(2_000):
        ids = [rng.randrange(256) for _ in range(rng.randrange(12))]
        assert "".join(streamed(small, ids)) == small.decode(ids)


def test_decode_is_that_of_tokenizers(small, tmp_path):
    small.save(tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    rng = random.Random(0)
    for _ in range(500):
        ids = [rng.randrange(len(small)) for _ in range(10)]
        assert small.decode(ids) == library.decode(ids, skip_special_tokens=False)


def test_a_stream_never_gives_half_a_character(small):
    pushed = streamed(small, small.encode(PLANES))
    assert len(pushed) > len(PLANES)
    assert not any("\ufffd" in part for part in pushed)
    assert "".join(pushed) == PLANES


def test_a_stream_that_ends_within_a_character_says_so(small):
    first = small.encode("😀")[:1]
    assert streamed(small, first) == ["", "\ufffd"]


def test_a_control_token_ends_half_a_character(small):
    ids = [small.encode("😀")[0], small.end_of_turn]
    assert "".join(streamed(small, ids)) == "\ufffd<|im_end|>"


def test_control_tokens_can_be_left_out_of_the_text(small):
    ids = [small.id(control.TOOL_CALL), *small.encode("x"), small.end_of_turn]
    assert small.decode(ids) == "<tool_call>x<|im_end|>"
    assert small.decode(ids, control=False) == "x"


@pytest.mark.parametrize("token", [-1, 1_022, 151_936])
def test_a_token_outside_the_vocabulary_is_a_clear_error(small, token):
    with pytest.raises(UserError, match="outside the vocabulary of 1022"):
        small.decode([token])


def test_an_unknown_control_token_is_a_clear_error(small):
    with pytest.raises(UserError, match=r"no control token '<think>'"):
        small.id("<think>")


@pytest.mark.slow
def test_every_character_of_unicode_comes_whole_out_of_the_stream(small):
    """All 1,112,064 scalar values, byte by byte: never a half, never one too few."""
    points = [point for point in range(sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF]
    text = "".join(map(chr, points))
    tokens = {small.vocabulary.spellings[token]: token for token in range(256)}
    stream = small.stream()
    pieces = [stream.push(tokens[bytes([byte])]) for byte in text.encode()]
    assert all(len(piece) <= 1 for piece in pieces)
    assert "".join(pieces) == text and stream.finish() == ""
