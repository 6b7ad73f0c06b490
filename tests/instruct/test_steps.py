"""The written-out steps are right, each of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.instruct.arithmetic import add, multiply, subtract
from baiwen.instruct.counting import tally
from baiwen.instruct.table import markdown
from baiwen.instruct.task import document

numbers = st.integers(10, 99_999)


def holds(step):
    """Is the equation of a step true, its note left aside?"""
    left, right = re.match(r"([\d+*-]+)=(\d+)", step).groups()
    return eval(left) == int(right)


def written(steps):
    """The number that the last digits of the steps spell, units first."""
    digits = [re.match(r"[^=]*=(\d+)", step)[1] for step in steps]
    return int(digits[-1] + "".join(digit[-1] for digit in reversed(digits[:-1])))


@given(numbers, numbers)
def test_the_columns_of_a_sum_add_up_to_it(left, right):
    steps, total = add(left, right)
    assert all(map(holds, steps))
    assert written(steps) == total == left + right


@given(numbers, numbers)
def test_the_columns_of_a_difference_spell_it(left, right):
    left, right = max(left, right), min(left, right)
    steps, rest = subtract(left, right)
    assert all(map(holds, steps))
    assert written(steps) == rest == left - right


@given(numbers, st.integers(2, 9))
def test_the_columns_of_a_product_spell_it(left, right):
    steps, product = multiply(left, right)
    assert all(map(holds, steps))
    assert written(steps) == product == left * right


def test_a_borrow_is_said_and_carried_into_the_next_column():
    assert subtract(432, 385) == (["12-5=7 borrow 1", "12-8=4 borrow 1", "3-3=0"], 47)


@pytest.mark.parametrize("word", ["banana", "tree", "sky"])
def test_the_last_count_of_a_tally_is_the_count(word):
    marked = tally(word, "a", "")
    assert "".join(marked).translate(str.maketrans("", "", "0123456789")) == word
    assert [m for m in marked if m[0] == "a"] == [f"a{n + 1}" for n in range(word.count("a"))]


def test_a_table_is_markdown():
    assert markdown([["name", "age"], ["Tom", "31"]]) == "| name | age |\n|---|---|\n| Tom | 31 |"


def test_messages_read_as_a_document():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "And 3 + 3?"},
    ]
    expected = "System: Be brief.\nQuestion: 2 + 2?\nAnswer: 4\nQuestion: And 3 + 3?\nAnswer:"
    assert document(messages) == expected


def test_a_tool_call_reads_as_the_protocol_writes_it():
    call = {"name": "f", "arguments": {"x": "山"}}
    messages = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": "", "tool_calls": [{"function": call}]},
    ]
    text = document(messages, tools=[{"name": "f"}])
    assert text == (
        'Tools: {"name": "f"}\nQuestion: Go.\n'
        'Answer: <tool_call>\n{"name": "f", "arguments": {"x": "山"}}\n</tool_call>'
    )
