"""Messages and tools to the pieces of a prompt (spec 2.2): markers apart from words.

    [{"role": "user", "content": "Hi"}], generate=True
      -> <|im_start|>  "system\\n"     "You are Qwen, ..."  <|im_end|>  "\\n"
         <|im_start|>  "user\\n"       "Hi"                 <|im_end|>  "\\n"
         <|im_start|>  "assistant\\n"

A piece is a control token, written by id, or words, in which no control token is ever read:
whatever a user, a tool, a name or a schema says, it stays words. An assistant's calls belong in
`tool_calls`: a `<tool_call>` in its content is words, too.

Neighbouring words are encoded as one text, as transformers does, with one border: an assistant's
answer begins a text of its own. So the ids of a prompt (`generate=True`) are a prefix of the ids
of the same prompt with its answer, whatever the answer is, and the loss mask cuts no token. Ids
equal those of the published template but for an answer whose first blanks hold a line break: there,
one token would hold the header's line break and the answer's. The text is equal always.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from baiwen.tokenizer import control, messages, template
from baiwen.tokenizer.messages import Call, Message


class Piece(NamedTuple):
    """A control token, or words; `answer` is the number of the assistant's turn that says it."""

    text: str
    control: bool = False
    answer: int | None = None


def pieces(
    conversation: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    generate: bool = False,
) -> Iterator[Piece]:
    """The pieces of a conversation; with `generate`, the head of the next answer at the end."""
    turns = messages.check(conversation)
    with_system = turns[0].role == "system"
    system = turns[0].content if with_system else template.DEFAULT_SYSTEM
    yield from _turn("system", [Piece(system), *_tools(messages.check_tools(tools))])
    answers = 0
    for role, group in groupby(turns[with_system:], key=lambda turn: turn.role):
        if role == "tool":
            yield from _results(result.content for result in group)
            continue
        for turn in group:
            yield from _answer(turn, answers) if role == "assistant" else _said(turn)
            answers += role == "assistant"
    if generate:
        yield from _head("assistant")


def reply(results: Sequence[str]) -> Iterator[Piece]:
    """What stands between an answer that calls tools, end marker and all, and the next one."""
    yield Piece("\n")
    yield from _results(results)
    yield from _head("assistant")


def joined(parts: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces with neighbouring words as one, up to the border of an answer."""
    for (is_control, answer), group in groupby(parts, key=lambda part: (part.control, part.answer)):
        if is_control:
            yield from group
        else:
            yield Piece("".join(part.text for part in group), answer=answer)


def _said(turn: Message) -> Iterator[Piece]:
    return _turn(turn.role, [Piece(turn.content)])


def _turn(role: str, words: Iterable[Piece]) -> Iterator[Piece]:
    yield from _head(role)
    yield from words
    yield Piece(control.IM_END, control=True)
    yield Piece("\n")


def _head(role: str) -> Iterator[Piece]:
    yield Piece(control.IM_START, control=True)
    yield Piece(f"{role}\n")


def _answer(turn: Message, answer: int) -> Iterator[Piece]:
    yield from _head("assistant")
    yield Piece(turn.content, answer=answer)
    for place, call in enumerate(turn.calls):
        yield Piece("\n" if turn.content or place else "", answer=answer)
        yield from _call(call, answer)
    yield Piece(control.IM_END, control=True, answer=answer)
    yield Piece("\n")


def _call(call: Call, answer: int) -> Iterator[Piece]:
    yield Piece(control.TOOL_CALL, control=True, answer=answer)
    yield Piece(f'\n{{"name": "{call.name}", "arguments": {call.arguments}}}\n', answer=answer)
    yield Piece(control.TOOL_CALL_END, control=True, answer=answer)


def _results(results: Iterable[str]) -> Iterator[Piece]:
    """Consecutive tool results share one turn of the user."""
    words = "\n".join(f"<tool_response>\n{result}\n</tool_response>" for result in results)
    return _turn("user", [Piece(words)])


def _tools(schemas: Sequence[str]) -> Iterator[Piece]:
    """The tools in the system's turn; the markers in our own words about calls are real ones."""
    if not schemas:
        return
    yield Piece("".join((template.TOOLS_INTRODUCTION, *(f"\n{schema}" for schema in schemas))))
    markers = {"{open}": control.TOOL_CALL, "{close}": control.TOOL_CALL_END}
    for part in re.split(r"(\{open\}|\{close\})", template.TOOLS_INSTRUCTION):
        yield Piece(markers[part], control=True) if part in markers else Piece(part)
