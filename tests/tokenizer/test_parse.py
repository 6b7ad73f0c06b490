"""Parsing: what render wrote comes back; what models garble is read if it can mean one thing."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baiwen.tokenizer.parse import Parsed, parse

CALL = {"name": "weather", "arguments": {"city": "Rome"}}
OTHER = {"name": "now", "arguments": {}}
JSON, NEXT = json.dumps(CALL), json.dumps(OTHER)
AS_TEXT = json.dumps({**CALL, "arguments": json.dumps(CALL["arguments"])})
ASK = {"role": "user", "content": "?"}

WORDS = st.text(st.sampled_from("ab é中 \n\t<>|{}[]\"'\\:,0"), max_size=12)
TAGGED = st.lists(
    WORDS | st.sampled_from(["<tool_call>", "</tool_call>", "```", "\n", JSON, "<tools>", "'"]),
    max_size=6,
).map("".join)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | TAGGED,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
CALLS = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[a-z_]{1,9}", fullmatch=True),
        "arguments": st.dictionaries(TAGGED, VALUES, max_size=3),
    }
)
PLAIN = st.text(st.sampled_from("ab é中 \n\t<>|.:,0"), max_size=20)

ONE_CALL = {
    "as the protocol has it": f"<tool_call>\n{JSON}\n</tool_call>",
    "end of turn": f"<tool_call>\n{JSON}\n</tool_call><|im_end|>",
    "no line breaks": f"<tool_call>{JSON}</tool_call>",
    "no end tag": f"<tool_call>\n{JSON}",
    "no end tag, end of turn": f"<tool_call>\n{JSON}\n<|im_end|>",
    "blank lines around": f"<tool_call>\n\n  {JSON}  \n\n</tool_call>\n\n",
    "a fence within": f"<tool_call>\n```json\n{JSON}\n```\n</tool_call>",
    "tools as the tag": f"<tools>\n{JSON}\n</tools>",
    "the wrong end tag": f"<tool_call>\n{JSON}\n</tools>",
    "a fence as the tag": f"```json\n{JSON}\n```",
    "a fence without its end": f"```json\n{JSON}\n",
    "a nameless fence": f"```\n{JSON}\n```",
    "bare": JSON,
    "bare with blanks": f"\n {JSON}\n",
    "bare, printed over lines": json.dumps(CALL, indent=4),
    "bare list": f"[{JSON}]",
    "list within": f"<tool_call>\n[{JSON}]\n</tool_call>",
    "parameters": f"<tool_call>\n{JSON.replace('arguments', 'parameters')}\n</tool_call>",
    "bare parameters": JSON.replace("arguments", "parameters"),
    "arguments as text": f"<tool_call>\n{AS_TEXT}\n</tool_call>",
    "function wrapper": f'<tool_call>\n{{"type": "function", "function": {JSON}}}\n</tool_call>',
    "an id beside": f'<tool_call>\n{{"id": 3, {JSON[1:]}\n</tool_call>',
    "single quotes": "<tool_call>\n{'name': 'weather', 'arguments': {'city': 'Rome'}}</tool_call>",
    "bare single quotes": "{'name': 'weather', 'arguments': {'city': 'Rome'}}",
    "trailing commas": '<tool_call>{"name": "weather", "arguments": {"city": "Rome",},}',
    "a comma, an end tag": f"<tool_call>{JSON[:-2]},}}}}</tool_call>",
}


@pytest.mark.parametrize("form", ONE_CALL)
def test_a_call_in_many_forms_is_one_call(form):
    assert parse(ONE_CALL[form]) == Parsed("", [CALL])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'It''s", None),
        (
            "{'a': 'it\\'s \"so\"', 'b': [True, None, False,],}",
            {"a": 'it\'s "so"', "b": [1, None, 0]},
        ),
        ("{'a': \"it's\", \"b\": 'True'}", {"a": "it's", "b": "True"}),
        ("{'a': 'back\\\\slash, \\n'}", {"a": "back\\slash, \n"}),
    ],
)
def test_python_spelling_is_repaired_where_it_is_unambiguous(text, expected):
    said = f"<tool_call>{{'name': 'f', 'arguments': {text}}}</tool_call>"
    calls = [{"name": "f", "arguments": expected}] if expected else []
    assert parse(said).tool_calls == calls


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("Hello.", "Hello.", []),
        ("", "", []),
        ("Hello.<|im_end|>", "Hello.", []),
        (f"Let me see.\n<tool_call>\n{JSON}\n</tool_call>", "Let me see.", [CALL]),
        (f"A\n<tool_call>\n{JSON}\n</tool_call>\nB", "A\nB", [CALL]),
        (
            f"<tool_call>\n{JSON}\n</tool_call>\n<tool_call>\n{NEXT}\n</tool_call>",
            "",
            [CALL, OTHER],
        ),
        (f"<tool_call>\n{JSON}\n<tool_call>\n{NEXT}", "", [CALL, OTHER]),
        (f"<tool_call>\n{JSON}\n{NEXT}\n</tool_call>", "", [CALL, OTHER]),
        (f"<tool_call>\n{JSON}\n```python\n1\n```", "\n```python\n1\n```", [CALL]),
        (f"First:\n```json\n{JSON}\n```\nthen wait.", "First:\nthen wait.", [CALL]),
    ],
)
def test_words_and_calls_are_told_apart(text, content, calls):
    assert parse(text) == Parsed(content, calls)


@pytest.mark.parametrize(
    "text",
    [
        "Write <tool_call> before a call and </tool_call> behind it.",
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Ro',
        '<tool_call>\n{"name": "weather", "arguments": ["Rome"]}\n</tool_call>',
        '<tool_call>\n{"arguments": {"city": "Rome"}}\n</tool_call>',
        '<tool_call>\n{"name": 3, "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "weather", "arguments": false}\n</tool_call>',
        "<tool_call>\n{'name': 'f', 'arguments': {'a': 'it's'}}\n</tool_call>",
        "<tool_call></tool_call>",
        '<tool_call>\n{"name": "f", "arguments": {"a": NaN}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": {"a": -1e999}}\n</tool_call>',
        '{"name": "Ada", "age": 36}',
        '{"name": "Ada"}',
        '```json\n{"name": "Ada", "arguments": {}, "age": 36}\n```',
        f"```json\n{JSON}\nand so on",
        "```python\nprint({'name': 'f', 'arguments': {}})\n```",
        f"Say {JSON} to call it.",
    ],
)
def test_what_is_no_call_stays_in_the_content(text):
    assert parse(text) == Parsed(text, [])


@settings(max_examples=150)
@given(content=PLAIN, calls=st.lists(CALLS, max_size=3))
def test_what_render_wrote_is_read_back(small, content, calls):
    answer = {"role": "assistant", "content": content, "tool_calls": calls}
    rendered = small.render([ASK, answer])
    said = [token for token, mask in zip(rendered.ids, rendered.mask, strict=True) if mask]
    assert parse(small.decode(said)) == Parsed(content, calls)


@settings(max_examples=300)
@given(text=TAGGED | st.text())
def test_nothing_raises(text):
    found = parse(text)
    assert isinstance(found.content, str)
    assert all(call.keys() == {"name", "arguments"} for call in found.tool_calls)


@pytest.mark.parametrize(
    "piece",
    [
        "<tool_call>",
        "<tool_call>{",
        '<tool_call>{"',
        "```json\n",
        "[",
        "{'",
        '{"name":',
        "\\",
        "'\"",
    ],
)
def test_long_nonsense_takes_no_time(piece):
    text = "<tool_call>" + piece * 5_000
    start = time.process_time()
    assert parse(text) == Parsed(text, [])
    assert time.process_time() - start < 2


def test_blanks_after_a_call_take_no_time():
    start = time.process_time()
    found = parse(f'<tool_call>{{"name": "f", "arguments": {{}}}}{" " * 40_000}and more')
    assert [call["name"] for call in found.tool_calls] == ["f"]
    assert time.process_time() - start < 1


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_string_of_nothing_but_escaped_quotes_takes_no_time(quote):
    text = f"<tool_call>{{{quote}" + f"\\{quote}" * 20_000
    start = time.process_time()
    assert parse(text) == Parsed(text, [])
    assert time.process_time() - start < 2
