"""A tool call in the protocol's form (spec 2.2): the right tool with the right arguments.

    check('<tool_call>\\n{"name": "weather", "arguments": {"city": "Rome"}}\\n</tool_call>',
          {"name": "weather", "arguments": {"city": "Rome"}})      -> right

The truth is one call or a list of calls, in order; or, where many arguments are right, a name and
the schema that those of one call meet: `{"name": "weather", "schema": {"required": ["city"]}}`.
Text before the first call is allowed, as the protocol allows it; between or after calls it is not.
"""

import json
import re
from typing import Any, TypeGuard

from baiwen.verify import json_value, schema
from baiwen.verify.verdict import Verdict

_OPEN = re.compile(r"<tool_call>\s*+")
_CLOSE = re.compile(r"\s*+</tool_call>\s*+(?:\Z|(?=<tool_call>))")


def check(answer: str, truth: dict[str, Any] | list[dict[str, Any]]) -> Verdict:
    """Are the calls in `answer` those of `truth`: names equal, arguments equal as JSON or valid?"""
    if isinstance(truth, dict) and truth.keys() == {"name", "schema"}:
        return _valid(answer, truth)
    expected = truth if isinstance(truth, list) else [truth]
    if not expected or not all(_is_call(call) for call in expected):
        return Verdict.error
    try:
        found = calls(answer)
    except ValueError:
        return Verdict.wrong
    return Verdict.of(json_value.equal(found, expected))


def _valid(answer: str, truth: dict[str, Any]) -> Verdict:
    """Is `answer` a single call of that name, its arguments valid under the schema?"""
    try:
        found = calls(answer)
    except ValueError:
        found = []
    call = found[0] if len(found) == 1 else {"name": None, "arguments": {}}
    verdict = schema.check(json.dumps(call["arguments"]), truth["schema"])
    named = call["name"] == truth["name"]
    return verdict if named or verdict is Verdict.error else Verdict.wrong


def calls(text: str) -> list[dict[str, Any]]:
    """The calls that end `text`, as `{"name", "arguments"}`; `ValueError` for a broken one."""
    found: list[dict[str, Any]] = []
    opened = _OPEN.search(text)
    while opened:
        call, end = json_value.value_at(text, opened.end())
        closed = _CLOSE.match(text, end)
        if not closed or not _is_call(call):
            raise ValueError("not a tool call")
        found.append(call)
        opened = _OPEN.match(text, closed.end())
    return found


def _is_call(call: object) -> TypeGuard[dict[str, Any]]:
    return (
        isinstance(call, dict)
        and call.keys() == {"name", "arguments"}
        and isinstance(call["name"], str)
        and isinstance(call["arguments"], dict)
    )
