"""Text that streams: whole characters, stop texts wherever tokens end."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.engine.text import Text
from baiwen.tokenizer.stream import StreamDecoder

SPELLINGS = st.lists(st.binary(min_size=1, max_size=4), max_size=12)


def shown(pieces, stop):
    """What is shown after each piece and at the end, and the stop text that ended it."""
    text = Text(StreamDecoder(lambda token: pieces[token]), stop)
    found = []
    for token in range(len(pieces)):
        found.append(text.push(token))
        if text.stopped is not None:
            return found, text.stopped
    return [*found, text.finish()], text.stopped


def first_complete(text, stop):
    """What stands before the stop text that is complete first, by brute force."""
    for end in range(1, len(text) + 1):
        matching = [one for one in stop if text[:end].endswith(one)]
        if matching:
            longest = max(matching, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(st.text("abc爱", max_size=14), st.data())
def test_a_stop_text_ends_the_answer_wherever_tokens_end(text, data):
    stop = tuple(data.draw(st.lists(st.text("abc爱", min_size=1, max_size=4), max_size=3)))
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)))) | {0, len(raw)})
    pieces = [raw[a:b] for a, b in pairwise(cuts)]
    found, stopped = shown(pieces, stop)
    assert ("".join(found), stopped) == first_complete(text, stop)


@given(SPELLINGS)
def test_all_pieces_together_are_the_whole_text(pieces):
    found, _ = shown(pieces, ())
    assert "".join(found) == b"".join(pieces).decode(errors="replace")


@given(st.text("ab", max_size=10), st.text("ab", min_size=1, max_size=4))
def test_nothing_is_shown_that_a_stop_text_takes_back_and_no_more_is_held_than_must_be(text, stop):
    pieces = [letter.encode() for letter in text]
    found, _ = shown(pieces, (stop,))
    so_far, whole = "", first_complete(text, (stop,))[0]
    for count, piece in enumerate(found[: len(pieces)], 1):
        so_far += piece
        assert whole.startswith(so_far)
        held = text[len(so_far) : count]
        assert so_far == whole or stop.startswith(held)


def test_before_stops_count_nothing_is_looked_for():
    text = Text(StreamDecoder(lambda token: [b"a", b"bc"][token]), ("ab", "c"))
    assert text.push(0, stops=False) == "a"
    assert text.push(1) == "b"
    assert text.stopped == "c"


@pytest.mark.parametrize(("pieces", "expected"), [([b"\xe7\x88"], "�"), ([b"x", b"\xe7"], "x�")])
def test_half_a_character_at_the_end_is_shown_as_such(pieces, expected):
    assert "".join(shown(pieces, ())[0]) == expected
