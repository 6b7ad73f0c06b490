"""Calls in an answer: however it is cut, the events come to what `Tokenizer.parse` reads."""

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.serve.calls import Arguments, Begun, CallReader, Words, repaired
from baiwen.tokenizer.parse import parse


def read(parts, most=None):
    reader, events = CallReader(most), []
    for part in parts:
        events += reader.push(part)
    events += reader.finish()
    return summed(events)


def summed(events):
    calls = []
    for event in events:
        if isinstance(event, Begun):
            calls.append([event.name, ""])
        elif isinstance(event, Arguments):
            calls[event.index][1] += event.text
    return "".join(event.text for event in events if isinstance(event, Words)), calls


def cut(text, places):
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(
        ["</tool_call>", "<tool_call>", '"', "\\", '\\"</tool_call>', "{", "]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
OBJECTS = st.dictionaries(st.text(), JSON, max_size=3)
CALLS = st.lists(st.tuples(NAMES, OBJECTS), min_size=1, max_size=3)
PLACES = st.lists(st.integers(0, 10_000), max_size=12)


def written(words, calls):
    blocks = [
        f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'
        for name, arguments in calls
    ]
    return "\n".join([words] * bool(words) + blocks)


@given(st.text(st.characters(exclude_characters="<`{[")), CALLS, PLACES)
def test_calls_of_the_protocol_are_read_however_they_are_cut(words, calls, places):
    text = written(words, calls)
    content, found = read(cut(text, places))
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
    assert content == words == parse(text).content


SCRAPS = st.lists(
    st.sampled_from(
        ["<tool_call>", "</tool_call>", "<tools>", "\n", " ", "{", "}", '"', "'", "\\", "[", "]",
         ",", "```", "```json\n", '{"name": "a", "arguments": {', '{"name": "b", "arguments": {}}',
         "'name': 'c'", "words", "<tool", "<", "é", "True"]),
    max_size=14,
).map("".join)  # fmt: skip


@given(SCRAPS, PLACES, st.sampled_from([None, 1]))
def test_any_answer_comes_to_the_same_however_it_is_cut(text, places, most):
    assert read(cut(text, places), most) == read([text], most)


@given(SCRAPS.filter(lambda text: not parse(text).tool_calls and "name" not in text), PLACES)
def test_an_answer_without_calls_is_words_to_the_last_character(text, places):
    assert read(cut(text, places)) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "a", "arguments": {"x": 1}}\n```',
        '{"name": "a", "arguments": {"x": 1}}',
        '[{"name": "a", "arguments": {}}, {"name": "b", "parameters": {"y": "z"}}]',
        "<tool_call>{'name': 'a', 'arguments': {'x': True,}}</tool_call> after",
        '<tools>{"name": "a", "arguments": {}}</tools> \n ',
        '<tool_call>\n{"name": "a", "arguments": {"x": [1, {"y": "}"}]}}',
        '<tool_call>\n{"name": "a", "arguments": {}}\n{"name": "b", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"arguments": {"x": 1}, "name": "a"}\n</tool_call>',
        "Use <tool_call> tags for that.",
    ],
)
def test_other_shapes_are_read_by_the_rules_of_the_tokenizer(text):
    content, calls = read(list(text))
    parsed = parse(text)
    assert content == parsed.content
    assert [[name, json.loads(made)] for name, made in calls] == [
        [call["name"], call["arguments"]] for call in parsed.tool_calls
    ]


def test_arguments_come_while_they_grow():
    reader = CallReader()
    assert reader.push('Now.\n<tool_call>\n{"name": "f", "arg') == [Words("Now.")]
    assert reader.push('uments": {"a": "x') == [Begun(0, "f"), Arguments(0, '{"a": "x')]
    assert reader.push('</tool_call>"') == [Arguments(0, '</tool_call>"')]
    assert reader.push("}}\n</tool_call>") == [Arguments(0, "}")]


def test_nothing_is_taken_after_the_last_call_that_may_be_made():
    text = written("", [("a", {}), ("b", {})]) + " and words"
    assert read([text], most=1) == ("", [["a", "{}"]])


def test_words_are_shown_at_once():
    reader = CallReader()
    assert reader.push("Let me see") == [Words("Let me see")]
    assert reader.push(", it is <") == [Words(", it is ")]
    assert reader.push("b>bold</b>") == [Words("<b>bold</b>")]


def test_arguments_that_can_mean_one_thing_only_are_repaired():
    assert json.loads(repaired("f", "{'a': True,}")) == {"a": True}
    assert repaired("f", '{"a":  1}') == '{"a":  1}'
    assert repaired("f", '{"a": ') == '{"a": '


@pytest.mark.parametrize(
    ("answer", "name", "arguments"),
    [
        ('<tool_call>\n{"name": "a\\ud800", "arguments": {}}\n</tool_call>', "a\ufffd", "{}"),
        ('```json\n{"name": "a", "arguments": {"x": "\\ud800"}}\n```', "a", r'{"x": "\ud800"}'),
        ("<tool_call>{'name': '\\udc00', 'arguments': {}}</tool_call>", "\ufffd", "{}"),
    ],
)
def test_half_a_character_in_a_call_can_be_sent(answer, name, arguments):
    reader = CallReader()
    events = [*reader.push(answer), *reader.finish()]
    assert events == [Begun(0, name), Arguments(0, arguments)]


def test_half_a_character_in_repaired_arguments_stays_escaped():
    assert repaired("a", r"{'x': '\ud800'}") == r'{"x": "\ud800"}'


@pytest.mark.parametrize("opening", ['<tool_call>{"name": "', "```\n"])
def test_a_block_without_an_end_is_read_in_time(opening):
    reader = CallReader()
    begun = time.perf_counter()
    reader.push(opening)
    for _ in range(8_000):
        reader.push(' ab\\"')
    assert time.perf_counter() - begun < 3
