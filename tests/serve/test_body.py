"""The body of a request: strict JSON, or a refusal that says why."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from baiwen.serve.body import parse
from baiwen.serve.errors import APIError
from baiwen.serve.items import ResponseRequest
from baiwen.serve.limits import Limits
from baiwen.serve.protocol import ChatRequest, CompletionRequest, DetokenizeRequest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(
        st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(VALUES, st.booleans())
def test_what_json_writes_is_read_as_it_was(value, ascii_only):
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode(), Limits()) == value


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "not JSON"),
        (b"{", "line 1 column 2"),
        (b"{}{}", "Extra data"),
        (b'{"a": 1, "a": 2}', 'the key "a" stands twice'),
        (b'{"x": {"a": 1, "\\u0061": 2}}', 'the key "a" stands twice'),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"1e999", "too large"),
        (b"1" * 5000, "too large"),
        (json.dumps({"a": dict.fromkeys(map(str, range(4097)))}).encode(), "4,096 keys"),
        (b"\xff", "not UTF-8: byte 0"),
        ("[]".encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'"\\ud800"', "lone surrogate"),
        (b'{"\\udfff": 1}', "lone surrogate"),
        (b'"\x00"', "Invalid control character"),
        (b"[" * 65 + b"]" * 65, "nested more than 64 deep"),
        (b"[" * 100_000, "nested more than 64 deep"),
        (b'{"a":' * 100_000, "nested more than 64 deep"),
    ],
)
def test_what_is_no_json_is_refused_by_name(data, told):
    with pytest.raises(APIError, match=told):
        parse(data, Limits())


def test_pairs_of_surrogates_and_nul_are_characters():
    assert parse(b'"\\ud83d\\ude00 \\u0000"', Limits()) == "\U0001f600 \x00"


def test_as_many_levels_as_the_limit_are_read():
    assert parse(b"[" * 64 + b"]" * 64, Limits())


def test_a_hundred_thousand_keys_are_checked_in_time():
    keys = ",".join(f'"{number}": 0' for number in range(200_000))
    with pytest.raises(APIError, match="stands twice"):
        parse(f'{{{keys}, "199999": 1}}'.encode(), Limits())


@pytest.mark.parametrize(
    ("form", "field", "wrong"),
    [
        (CompletionRequest, "prompt", -1),
        (CompletionRequest, "prompt", []),
        (CompletionRequest, "prompt", {}),
        (CompletionRequest, "prompt", [-1] * 1000),
        (CompletionRequest, "stop_token_ids", ""),
        (ChatRequest, "messages", {}),
        (ChatRequest, "messages", {"role": "user", "content": [{}] * 1000}),
        (ChatRequest, "messages", {"role": "assistant", "tool_calls": [{}] * 1000}),
        (ChatRequest, "stop", 1),
        (ChatRequest, "tools", {}),
        (ResponseRequest, "input", {}),
        (ResponseRequest, "tools", {}),
        (ResponseRequest, "include", ""),
        (DetokenizeRequest, "tokens", -1),
    ],
)
def test_of_a_million_mistakes_a_few_are_looked_at(form, field, wrong):
    with pytest.raises(ValidationError) as told:
        form.model_validate({field: [wrong] * 1000})
    assert told.value.error_count() < 40
