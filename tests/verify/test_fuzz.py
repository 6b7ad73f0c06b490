"""The meta-test: every verifier accepts the oracle, refuses the rest, never raises nor hangs."""

import random
import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baiwen import verify
from baiwen.errors import UserError
from baiwen.verify import Verdict

CALL = {"name": "weather", "arguments": {"city": "Rome"}}
CALL_TEXT = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
WEATHER = {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}


@dataclass(frozen=True)
class Case:
    """A row: its truth, an answer that is right, its prompt, an answer that is right elsewhere."""

    truth: Any
    oracle: str
    prompt: str
    other: str


CASES = {
    "choice": Case(
        {"letter": "B", "options": ["Oslo", "Rome", "Bonn"]},
        "The answer is (B).",
        "Where is the Colosseum?\nA. Oslo\nB. Rome\nC. Bonn",
        "The answer is (C).",
    ),
    "code": Case(
        {"tests": "assert add(1, 2) == 3"},
        "def add(a, b):\n    return a + b",
        "Write a function add(a, b) that returns the sum of two numbers.",
        "def double(a):\n    return a * 2",
    ),
    "exact": Case("Rome", "Rome.", "What is the capital of Italy?", "Oslo"),
    "function_call": Case(
        {"function": [WEATHER], "ground_truth": [{"weather": {"city": ["Rome", "Roma"]}}]},
        '[weather(city="Roma")]',
        "What is the weather in Rome?",
        '[weather(city="Oslo")]',
    ),
    "ifeval": Case(
        {
            "instruction_id_list": ["startend:quotation", "keywords:existence"],
            "kwargs": [{}, {"keywords": ["Rome"]}],
        },
        '"Rome is old."',
        "Say something about Rome. Wrap your answer in double quotation marks.",
        "Rome is old",
    ),
    "instruction": Case(
        [{"is": "word_count", "count": 2}, {"is": "contains", "word": "sun"}],
        "Red sun.",
        "Answer in two words, one of them sun.",
        "Red moon",
    ),
    "json_value": Case(
        {"name": "Ann", "age": 31},
        '{"age": 31, "name": "Ann"}',
        'As JSON with the keys "name" and "age": Ann is 31.',
        '{"age": 32, "name": "Bob"}',
    ),
    "match": Case(["the Eiffel Tower"], "Eiffel tower", "Which tower is in Paris?", "Pisa"),
    "math": Case("46", "41+5=\\boxed{46}", "What is 41+5?", "\\boxed{47}"),
    "number": Case("46", "41+5=46", "What is 41+5?", "41+6=47"),
    "schema": Case(
        {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}},
        '{"age": 31}',
        'Give Ann\'s age as JSON: {"age": ...}. She is 31.',
        '{"name": "Ann"}',
    ),
    "tool_call": Case(
        CALL, CALL_TEXT, "What is the weather in Rome?", CALL_TEXT.replace("Rome", "Oslo")
    ),
    "words": Case(["3", "14", "27"], "3, 14, 27", "Sort: 14, 3, 27", "3, 27, 14"),
}
GARBAGE = ["", " \n\t", "?", "qwerty uiop", "{}", "[]", "null", "0", "\x00\ud800", "```\n```", "。"]
GARBAGE += ["<tool_call></tool_call>", "[f()]", "\\boxed{}", "()", '""', "x" * 10_000]

every_verifier = pytest.mark.parametrize("verifier", verify.NAMES)


def verdict(verifier: str, answer: str, truth: Any = None) -> Verdict:
    """The verdict under the case's truth; skips where this machine has no sandbox."""
    try:
        return verify.check(verifier, answer, CASES[verifier].truth if truth is None else truth)
    except UserError as error:
        pytest.skip(str(error))


def test_every_verifier_has_a_case():
    assert set(verify.NAMES) <= set(CASES)


@every_verifier
def test_the_oracle_is_right(verifier):
    assert verdict(verifier, CASES[verifier].oracle) is Verdict.right


@every_verifier
def test_an_answer_to_another_row_is_wrong(verifier):
    assert verdict(verifier, CASES[verifier].other) is Verdict.wrong


@every_verifier
def test_the_prompt_itself_is_no_answer(verifier):
    prompt = CASES[verifier].prompt
    assert verdict(verifier, prompt) in (Verdict.wrong, Verdict.undecided)


@every_verifier
def test_garbage_is_refused(verifier):
    found = {verdict(verifier, answer) for answer in GARBAGE}
    assert found <= {Verdict.wrong, Verdict.undecided}


# What steers the fuzz into the parsers, between pieces of the case and of any text.
FRAGMENTS = [
    "<tool_call>",
    "</tool_call>",
    '{"name": "f"',
    '"arguments"',
    "{",
    "}",
    "[",
    "]",
    "```",
]
FRAGMENTS += [
    "1,234",
    "/0",
    ".",
    "-",
    "−",
    "\ud800",
    "NaN",
    "1e999",
    "- ",
    "a b",
    "\n",
    "\n\n",
    "*",
]
FRAGMENTS += [
    "***",
    "<<",
    ">>",
    "《",
    "》",
    '"',
    "“",
    "。",
    "，",
    "P.S.",
    "Section 1",
    "（B）",
    "答案是",
]
FRAGMENTS += [
    "\\boxed{",
    "answer is ",
    "f(",
    "a=",
    ")",
    "None",
    "\\frac",
    "$",
    "^",
    "\x00",
    "9" * 40,
]
FUZZED = 10_000
SLOW = {"math": 500, "code": 30}  # a process answers these: milliseconds each


def fuzzed(case: Case, seed: int) -> str:
    """Pieces of the oracle and the prompt, fragments, characters of any plane, in any order."""
    draw = random.Random(seed)
    pieces = []
    for _ in range(draw.randrange(8)):
        source = draw.choice((case.oracle, case.prompt, case.other))
        start = draw.randrange(len(source))
        cut = source[start : start + draw.randrange(20)]
        pieces.append(draw.choice((cut, draw.choice(FRAGMENTS), chr(draw.randrange(0x3000)))))
    return "".join(pieces)


@every_verifier
def test_ten_thousand_answers_get_a_verdict_on_the_answer(verifier):
    case = CASES[verifier]
    answers = [fuzzed(case, seed) for seed in range(SLOW.get(verifier, FUZZED))]
    found = {answer: verdict(verifier, answer) for answer in answers}
    assert {each for each in found.values() if each not in Verdict} == set()
    assert [answer for answer, each in found.items() if each is Verdict.error] == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@every_verifier
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 99), truth=json_values)
def test_no_truth_raises(verifier, seed, truth):
    assert verdict(verifier, fuzzed(CASES[verifier], seed), truth) in Verdict


MEGABYTE = 10**6
HOSTILE = [",111" * 250_000 + "/", "\n" * MEGABYTE, "```" + "\n" * MEGABYTE + "```", "1" * MEGABYTE]
HOSTILE += ["<tool_call>" * 90_000, '{"a":' * 200_000, "- \n" * 300_000, "a b " * 250_000]
HOSTILE += ["(" * MEGABYTE, "[" * MEGABYTE, "answer is " * 100_000, "\\boxed{" * 140_000]
HOSTILE += ["-" * MEGABYTE + "1", "[f(a=" + "-" * 19_000 + "1)]", "[f" + ".a" * 9_000 + "()]"]


@every_verifier
@pytest.mark.parametrize("answer", HOSTILE, ids=range(len(HOSTILE)))
def test_no_answer_takes_long(verifier, answer):
    begin = time.process_time()
    assert verdict(verifier, answer) is not Verdict.error
    assert time.process_time() - begin < 1.0
