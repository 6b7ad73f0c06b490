"""What a model said: its words, and the tools it calls.

    Rome, then.                                           -> content "Rome, then."
    <tool_call>                                           -> tool_calls
    {"name": "weather", "arguments": {"city": "Rome"}}       [{"name": "weather",
    </tool_call>                                               "arguments": {"city": "Rome"}}]

What `render` writes is read back exactly. Models of the family, the coders above all, also write
calls in other shapes (spec 13 #6), and those that can mean one thing only are read too: a ```json
fence or <tools> for the tag, a missing end tag or line break, a bare object as the whole message,
`parameters` for `arguments`, arguments as JSON text, a list of calls, single quotes, trailing
commas. Anything else stays in the content, as it was said. Nothing here raises.
"""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from baiwen.tokenizer import control

_TAG = re.compile(r"<tool_call>|<tools>")
_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\n")
_OPEN = re.compile(f"{_TAG.pattern}|{_FENCE.pattern}")
_SPACE = re.compile(r"\s*")
_CLOSE = re.compile(r"\s*+(?:```)?+\s*+(?:</tool_call>|</tools>)|\s*+```(?!\w)")
_LIMIT = re.compile(r"```|</?tool_call>|</?tools>|\Z")
_ENDS = (control.IM_END, control.END_OF_TEXT)
_TOKEN = re.compile(
    # A string without an end goes to the end of the text, so that nothing is searched twice.
    r"""(?P<double>"(?:[^"\\]|\\.)*(?:"|\\?\Z))|'(?P<single>(?:[^'\\]|\\.)*)(?:'|\\?\Z)"""
    r"""|(?P<comma>,)(?=\s*[}\]])|\b(?P<word>True|False|None)\b""",
    re.DOTALL,
)
_WORDS = {"True": "true", "False": "false", "None": "null"}


def _finite(number: str) -> float:
    """A number with a point or an exponent; JSON has neither NaN nor infinity."""
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number} is no number of JSON")
    return value


# A raw line break inside a string is forgiven.
_DECODER = json.JSONDecoder(strict=False, parse_float=_finite, parse_constant=_finite)

Calls = list[dict[str, Any]]


@dataclass(frozen=True)
class Parsed:
    """`tool_calls`: `{"name": str, "arguments": dict}` in order, as `render` takes them."""

    content: str
    tool_calls: Calls = field(default_factory=list)


def parse(text: str) -> Parsed:
    """Content and tool calls of an assistant's answer, with or without its end marker."""
    for end in _ENDS:
        text = text.removesuffix(end)
    if calls := _bare(text):
        return Parsed("", calls)
    content, calls, position = "", [], 0
    while opened := _OPEN.search(text, position):
        found = _block(text, opened)
        if found is None:
            content += text[position : opened.end()]
            position = opened.end()
        else:
            content += text[position : opened.start()].removesuffix("\n")
            calls += found[0]
            position = found[1]
    rest = text[position:]
    return Parsed(content if calls and rest.isspace() else content + rest, calls)


def _bare(text: str) -> Calls | None:
    """The calls of a message that is one JSON value and nothing else."""
    if not text.strip().startswith(("{", "[")):
        return None
    return _calls(_value(text), strict=True)


def _block(text: str, opened: re.Match[str]) -> tuple[Calls, int] | None:
    """The calls behind an opening, and where they end; None if there are none."""
    fenced = opened[0].startswith("```")
    start = _skip(_SPACE, text, opened.end())
    if not fenced:
        start = _skip(_SPACE, text, _skip(_FENCE, text, start))
    calls: Calls = []
    end = start
    while text.startswith(("{", "["), start):
        value, end = _value_at(text, start)
        more = _calls(value, strict=fenced)
        if more is None:
            return None
        calls += more
        start = _skip(_SPACE, text, end)
    if not calls:
        return None
    closed = _CLOSE.match(text, end)
    if fenced and not closed and text[end:].strip():
        return None
    return calls, closed.end() if closed else end


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return found.end() if found else position


def _value_at(text: str, start: int) -> tuple[object, int]:
    """The JSON value at `start`, repaired if need be, and its end."""
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        limit = _LIMIT.search(text, start)
        end = limit.start() if limit else len(text)
        return _value(text[start:end]), end


def _value(text: str) -> object:
    """The one JSON value that `text` is, repaired if need be; None where it is none."""
    return _decoded(text) or _decoded(_TOKEN.sub(_repaired, text))


def _decoded(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _repaired(token: re.Match[str]) -> str:
    """Python's way of writing a value, in JSON's."""
    if token["single"] is not None:
        words = token["single"].replace("\\'", "'")
        return '"' + re.sub(r'(\\.)|"', lambda part: part[1] or '\\"', words) + '"'
    if token["word"]:
        return _WORDS[token["word"]]
    return token["double"] or ""


def _calls(value: object, strict: bool) -> Calls | None:
    """The calls that `value` is; strict where no tag says that it is meant as one."""
    values = value if isinstance(value, list) else [value]
    calls = [_call(item, strict) for item in values]
    found = [call for call in calls if call]
    return found if found and len(found) == len(calls) else None


def _call(value: object, strict: bool) -> dict[str, Any] | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    key = "parameters" if "parameters" in value and "arguments" not in value else "arguments"
    if strict and value.keys() != {"name", key}:
        return None
    arguments = value.get(key)
    if arguments in (None, ""):
        arguments = {}
    elif isinstance(arguments, str):
        arguments = _value(arguments)
    return {"name": value["name"], "arguments": arguments} if isinstance(arguments, dict) else None
