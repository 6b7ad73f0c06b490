"""Answers that a model wrote have the ids that the renderer gives to the same words."""

import pytest

from baiwen.tokenizer import bpe, template
from baiwen.tokenizer.answers import closed, spoken

CALL = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
SAID = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
ASKED = {"role": "user", "content": "hm?"}


@pytest.fixture(scope="module")
def small():
    return bpe.train([template.DEFAULT_SYSTEM, template.TOOLS_INSTRUCTION] * 4, vocab_size=300)


def rendered(tokenizer, answer):
    head = tokenizer.render([ASKED], generate=True).ids
    return tokenizer.render([ASKED, {"role": "assistant", **answer}]).ids[len(head) :]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("42", {"content": "42"}),
        ("", {"content": ""}),
        ("a\nb\n", {"content": "a\nb\n"}),
        (SAID, {"content": "", "tool_calls": [CALL]}),
        (f"So:\n{SAID}\n{SAID}", {"content": "So:", "tool_calls": [CALL, CALL]}),
    ],
)
def test_spoken_words_are_the_renderers_ids(small, text, answer):
    assert spoken(small, text) == rendered(small, answer)


def test_a_call_that_is_broken_keeps_its_markers(small):
    ids = spoken(small, "<tool_call>\n{oops")
    assert ids[0] == small.id("<tool_call>") and ids[-2] == small.end_of_turn


def test_closing_is_done_once(small):
    whole = rendered(small, {"content": "42"})
    for cut in range(3):
        assert closed(small, whole[: len(whole) - cut]) == whole
