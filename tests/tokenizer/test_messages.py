"""Messages that cannot be rendered are refused by place and reason."""

import pytest

from baiwen.errors import UserError
from baiwen.tokenizer.messages import check, check_tools

ASK = {"role": "user", "content": "Hi"}


def called(**call):
    return [ASK, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {}, **call}]}]


WRONG = {
    "at least one message": [],
    "messages must be a list": "Hi",
    r"messages\[0\] must be an object": ["Hi"],
    r"messages\[1\]\.role is 'users'.*Did you mean user\?": [ASK, {**ASK, "role": "users"}],
    r"messages\[0\]\.role is None": [{"content": "Hi"}],
    r"messages\[0\]\.content must be a text, not NoneType": [{"role": "user"}],
    r"messages\[0\]\.content must be a text, not int": [{"role": "user", "content": 3}],
    r"messages\[0\]\.content must be a text, not dict": [{"role": "tool", "content": {"a": 1}}],
    r"messages\[1\]\.content must be a text": [ASK, {"role": "assistant", "content": None}],
    r"messages\[0\]\.content\[0\] must be a part of type text": [
        {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}
    ],
    r"messages\[0\]\.content\[0\]\.text must be a text": [
        {"role": "user", "content": [{"type": "text"}]}
    ],
    r"messages\[0\]\.content holds a lone surrogate .* at character 2": [
        {"role": "user", "content": "Hi\ud800"}
    ],
    r"messages\[0\]\.tool_calls must be a list in a message of the assistant": [
        {**ASK, "tool_calls": [{"name": "f"}]}
    ],
    r"messages\[0\]\.tool_calls must be": [{"role": "assistant", "tool_calls": {"name": "f"}}],
    r"messages\[1\]\.tool_calls\[0\]\.name must be a text": called(name=None),
    r"messages\[1\]\.tool_calls\[0\]\.name is 'a\"b'": called(name='a"b'),
    r"tool_calls\[0\]\.arguments is text, but not the JSON": called(arguments="{city: Rome}"),
    r"tool_calls\[0\]\.arguments must be an object, not \[1\]": called(arguments=[1]),
    r"tool_calls\[0\]\.arguments must be an object, not \[\]": called(arguments=[]),
    r"tool_calls\[0\]\.arguments must be an object, not 'x'": called(arguments='"x"'),
    r"tool_calls\[0\]\.arguments cannot be written as JSON": called(arguments={"a": {1, 2}}),
    r"tool_calls\[0\]\.arguments holds a lone surrogate": called(arguments='{"a": "\\ud800"}'),
    r"tool_calls\[0\]\.function\.name must be a text": called(function={"arguments": {}}),
    r"tool_calls\[0\] must be an object with name": [ASK, {"role": "assistant", "tool_calls": [1]}],
}


@pytest.mark.parametrize("expected", WRONG)
def test_a_wrong_message_is_named(expected):
    with pytest.raises(UserError, match=expected):
        check(WRONG[expected])


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ({"name": "f"}, "tools must be a list of objects, not dict"),
        (["f"], r"tools\[0\] must be an object, not 'f'"),
        ([{"name": {1}}], r"tools\[0\] cannot be written as JSON"),
        ([{"maximum": float("inf")}], r"tools\[0\] cannot be written as JSON"),
        ([{}, {"name": "\udc00"}], r"tools\[1\] holds a lone surrogate"),
    ],
)
def test_a_wrong_tool_is_named(tools, expected):
    with pytest.raises(UserError, match=expected):
        check_tools(tools)


def test_arguments_nested_beyond_reason_are_a_clear_error():
    with pytest.raises(UserError, match=r"tool_calls\[0\]\.arguments"):
        check(called(arguments='{"a":' * 100_000))
