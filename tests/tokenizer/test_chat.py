"""Rendering: the published template string for string, ids and loss mask as meant."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from baiwen.tokenizer import control

TOOL = {"type": "function", "function": {"name": "weather", "description": '天气 "now" <b>\''}}
CALL = {"name": "weather", "arguments": {"city": "罗马", "days": 2}}
ASK = {"role": "user", "content": "How warm is it?"}
TWO_CALLS = [
    {"role": "system", "content": "Be brief."},
    ASK,
    {"role": "assistant", "content": "Let me see.", "tool_calls": [{"function": CALL}, CALL]},
    {"role": "tool", "content": "21"},
    {"role": "tool", "content": "19"},
    {"role": "assistant", "content": "21 and 19."},
]

WORDS = st.text(st.sampled_from("ab é中文 \n\t<>|{}\"'\\/:,0😀")) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=8
)
NAMES = st.from_regex(r"[a-zA-Z0-9_.-]{1,12}", fullmatch=True)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(WORDS, VALUES, max_size=3)
CALLS = st.fixed_dictionaries({"name": NAMES, "arguments": OBJECTS})
WRAPPED = CALLS | st.fixed_dictionaries({"type": st.just("function"), "function": CALLS})
ANSWERS = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": WORDS}, optional={"tool_calls": st.lists(WRAPPED)}
)
OTHERS = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "tool"]), "content": WORDS}
)
CONVERSATIONS = st.lists(ANSWERS | OTHERS, min_size=1, max_size=6)
TOOLS = st.none() | st.lists(OBJECTS, max_size=2)


@pytest.fixture(scope="session")
def theirs(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    small.save(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def published(shared):
    return (shared / "tokenizer" / "qwen2.5" / "chat_template.jinja").read_text(encoding="utf-8")


def parts(tokenizer, rendered, loss):
    """The text of each run of tokens whose mask is `loss`."""
    runs, previous = [], None
    for token, mask in zip(rendered.ids, rendered.mask, strict=True):
        if mask == loss:
            runs = runs if previous == mask else [*runs, []]
            runs[-1].append(token)
        previous = mask
    return [tokenizer.decode(run) for run in runs]


def test_golden_vectors(qwen, golden):
    rows = golden("chat_template_vectors_dev.jsonl.gz")
    assert len(rows) == 24
    for row in rows:
        found = qwen.render(row["messages"], row["tools"], row["add_generation_prompt"])
        assert (found.text, found.ids) == (row["text"], row["ids"])


@settings(max_examples=100)
@given(messages=CONVERSATIONS, tools=TOOLS, generate=st.booleans())
def test_text_is_that_of_the_published_template_and_of_ours(
    small, theirs, published, messages, tools, generate
):
    text = small.render(messages, tools, generate).text
    for template in (published, None):
        assert text == theirs.apply_chat_template(
            messages,
            tools=tools,
            add_generation_prompt=generate,
            chat_template=template,
            tokenize=False,
        )


def test_ids_and_mask_are_those_of_transformers_with_our_template(small, theirs):
    for messages in (TWO_CALLS, TWO_CALLS[1:], TWO_CALLS[:3], [ASK]):
        found = theirs.apply_chat_template(
            messages, tools=[TOOL], return_dict=True, return_assistant_tokens_mask=True
        )
        rendered = small.render(messages, [TOOL])
        assert rendered.ids == found["input_ids"]
        assert rendered.mask == found["assistant_masks"]


def test_our_template_reads_parts_and_absent_content(small, theirs):
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": "{}"}]},
        {"role": "tool", "content": [{"type": "text", "text": "c"}]},
    ]
    text = theirs.apply_chat_template(messages, tokenize=False)
    assert text == small.render(messages).text
    assert "user\nab<|im_end|>" in text


def test_arguments_as_json_text_are_not_encoded_twice(small):
    text = {**CALL, "arguments": json.dumps(CALL["arguments"])}
    messages = [[ASK, {"role": "assistant", "tool_calls": [call]}] for call in (CALL, text)]
    assert small.render(messages[0]) == small.render(messages[1])


@pytest.mark.parametrize("arguments", [None, "", {}])
def test_a_call_without_arguments_has_an_empty_object(small, arguments):
    call = {"name": "now", "arguments": arguments}
    text = small.render([ASK, {"role": "assistant", "tool_calls": [call]}]).text
    assert '{"name": "now", "arguments": {}}' in text


def test_loss_covers_what_the_assistant_says_and_its_end(small):
    assert parts(small, small.render(TWO_CALLS, [TOOL]), loss=1) == [
        'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "罗马", "days": 2}}\n'
        '</tool_call>\n<tool_call>\n{"name": "weather", "arguments": {"city": "罗马", "days": 2}}\n'
        "</tool_call><|im_end|>",
        "21 and 19.<|im_end|>",
    ]


def test_loss_can_be_meant_for_the_last_answer_only(small):
    both, last = (small.render(TWO_CALLS, train=which) for which in ("all", "last"))
    assert both.ids == last.ids
    assert parts(small, last, loss=1) == ["21 and 19.<|im_end|>"]


def test_a_conversation_without_answer_has_no_loss(small):
    for train in ("all", "last"):
        assert not any(small.render([ASK], generate=True, train=train).mask)


@pytest.mark.parametrize("which", ["small", "qwen"])
@settings(max_examples=60)
@given(messages=CONVERSATIONS, answer=ANSWERS, tools=TOOLS)
def test_a_prompt_is_a_prefix_of_prompt_and_answer(which, messages, answer, tools, request):
    tokenizer = request.getfixturevalue(which)
    prompt = tokenizer.render(messages, tools, generate=True)
    whole = tokenizer.render([*messages, answer], tools, train="last")
    size = len(prompt.ids)
    assert whole.ids[:size] == prompt.ids
    assert not any(whole.mask[:size])
    assert whole.mask[size:] == [1] * (len(whole.ids) - size - 1) + [0]  # the last is a line feed
    assert whole.ids[-2] == tokenizer.end_of_turn


def test_an_answer_that_begins_with_line_breaks_keeps_them(qwen):
    found = qwen.render([ASK, {"role": "assistant", "content": "\n\nYes"}])
    assert parts(qwen, found, loss=1) == ["\n\nYes<|im_end|>"]
    assert found.text.endswith("<|im_start|>assistant\n\n\nYes<|im_end|>\n")


def test_tools_are_described_with_real_markers(small):
    rendered = small.render([ASK], [TOOL])
    assert rendered.ids.count(small.id(control.TOOL_CALL)) == 2
    assert small.decode(rendered.ids) == rendered.text
