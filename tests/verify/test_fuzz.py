"""Verifiers are total and quick: no answer raises, none takes long."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baiwen import verify
from baiwen.verify import Verdict

CALL = {"name": "f", "arguments": {"x": 1}}
TRUTHS = {
    "exact": "Rome",
    "instruction": [{"is": "word_count", "count": 2}, {"is": "contains", "word": "a"}],
    "json_value": {"a": [1, "b", None]},
    "math": "\\frac{1}{2}",
    "number": "12",
    "tool_call": CALL,
    "words": ["a", "b"],
}
# Fragments that steer the fuzz into the parsers, between pieces of any text.
FRAGMENTS = [
    "<tool_call>",
    "</tool_call>",
    '{"name": "f"',
    '"arguments"',
    "{",
    "}",
    "[",
    "```",
    "\n",
]
FRAGMENTS += ["1,234", "/0", ".", "-", "−", "\ud800", "NaN", "1e999", "- ", "a b"]
answers = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=12).map("".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def test_every_verifier_is_fuzzed():
    assert set(TRUTHS) == set(verify.NAMES)


@pytest.mark.parametrize("verifier", verify.NAMES)
@settings(max_examples=400, deadline=None)
@given(answer=answers)
def test_no_answer_raises(verifier, answer):
    assert verify.check(verifier, answer, TRUTHS[verifier]) in Verdict


@pytest.mark.parametrize("verifier", verify.NAMES)
@settings(max_examples=100, deadline=None)
@given(answer=answers, truth=json_values)
def test_no_truth_raises(verifier, answer, truth):
    assert verify.check(verifier, answer, truth) in Verdict


HOSTILE = [",111" * 50_000 + "/", "\n" * 200_000, "```" + "\n" * 200_000 + "```", "1" * 200_000]
HOSTILE += ["<tool_call>" * 20_000, '{"a":' * 50_000, "- \n" * 50_000, "a b " * 50_000]


@pytest.mark.parametrize("verifier", verify.NAMES)
@pytest.mark.parametrize("answer", HOSTILE, ids=range(len(HOSTILE)))
def test_no_answer_takes_long(verifier, answer):
    begin = time.process_time()
    verify.check(verifier, answer, TRUTHS[verifier])
    assert time.process_time() - begin < 1.0
