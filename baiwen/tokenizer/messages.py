"""Messages as users write them, checked and brought to one form.

    [{"role": "user", "content": "How warm is it in Rome?"},
     {"role": "assistant", "content": None,
      "tool_calls": [{"type": "function",
                      "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]},
     {"role": "tool", "content": "21 degrees"}]

The fields are OpenAI's and transformers'. Content is a text or a list of parts
`{"type": "text", "text": ...}`, which are joined; an assistant that calls tools may have none. A
call may come without its `function` wrapper, and its arguments as an object or as the JSON text of
one. Other fields (`name`, `tool_call_id`, ...) have no place in the protocol and are left aside.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baiwen.errors import UserError
from baiwen.mistakes import nearest

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Call:
    """One tool call; `arguments` is the JSON text of an object."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One checked message."""

    role: str
    content: str
    calls: tuple[Call, ...] = ()


def check(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The messages in one form; `UserError` names the message and the field that is wrong."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise UserError("messages must be a list of at least one message with role and content")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def check_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """The JSON text of each tool, in the order of its keys."""
    if tools is not None and (not isinstance(tools, Sequence) or isinstance(tools, str)):
        raise UserError(f"tools must be a list of objects, not {type(tools).__name__}")
    return [_json(tool, f"tools[{index}]") for index, tool in enumerate(tools or ())]


def _message(message: Mapping[str, Any], where: str) -> Message:
    if not isinstance(message, Mapping):
        raise UserError(f"{where} must be an object with role and content, not {message!r:.60}")
    role, calls = message.get("role"), message.get("tool_calls") or ()
    if role not in ROLES:
        hint = nearest(str(role), ROLES)
        raise UserError(f"{where}.role is {role!r}, expected one of {', '.join(ROLES)}.{hint}")
    if calls and (role != "assistant" or not isinstance(calls, Sequence)):
        raise UserError(f"{where}.tool_calls must be a list in a message of the assistant")
    content = _content(message.get("content"), bool(calls), f"{where}.content")
    made = (_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls))
    return Message(role, content, tuple(made))


def _content(content: object, optional: bool, where: str) -> str:
    if content is None and optional:
        return ""
    if isinstance(content, list):
        parts = (_part(part, f"{where}[{index}]") for index, part in enumerate(content))
        return "".join(parts)
    return _sound(content, where)


def _part(part: object, where: str) -> str:
    if not isinstance(part, Mapping) or part.get("type") != "text":
        raise UserError(f"{where} must be a part of type text; this model reads nothing else")
    return _sound(part.get("text"), f"{where}.text")


def _call(call: object, where: str) -> Call:
    if isinstance(call, Mapping) and isinstance(call.get("function"), Mapping):
        call, where = call["function"], f"{where}.function"
    if not isinstance(call, Mapping):
        raise UserError(f"{where} must be an object with name and arguments, not {call!r:.60}")
    name = _sound(call.get("name"), f"{where}.name")
    if json.dumps(name, ensure_ascii=False) != f'"{name}"':  # the protocol writes it unescaped
        raise UserError(f"{where}.name is {name!r}: quotes, backslashes and line breaks may not be")
    return Call(name, _json(_arguments(call.get("arguments"), where), f"{where}.arguments"))


def _arguments(arguments: object, where: str) -> object:
    """The object itself, so that JSON text is not encoded a second time."""
    if arguments in (None, ""):
        return {}
    if isinstance(arguments, str):
        try:
            return json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{where}.arguments is text, but not the JSON of an object: {error}"
            ) from error
    return arguments


def _json(value: object, where: str) -> str:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must be an object, not {value!r:.60}")
    try:
        return _sound(json.dumps(value, ensure_ascii=False, allow_nan=False), where)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where} cannot be written as JSON: {error}") from error


def _sound(text: object, where: str) -> str:
    """`text`, which must be a string of whole characters."""
    if not isinstance(text, str):
        raise UserError(f"{where} must be a text, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} holds a lone surrogate (half a character) at character {error.start}"
        ) from error
    return text
