"""Messages in OpenAI's words to those of the model's protocol.

    [SystemMessage(role="developer", content="Be brief."), UserMessage(role="user", content="Hi")]
      -> [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]

The protocol has no names and no ids of calls: results of tools are told from each other by their
order, which is that of the calls. So they are put into that order here, by their ids.
"""

from collections.abc import Sequence
from typing import Any

from baiwen.serve.asked import encoded
from baiwen.serve.errors import APIError
from baiwen.serve.protocol import (
    AssistantMessage,
    Content,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from baiwen.tokenizer.tokenizer import Tokenizer

Messages = Sequence[SystemMessage | UserMessage | AssistantMessage | ToolMessage]


async def prompt(
    tokenizer: Tokenizer,
    messages: Messages,
    tools: Sequence[dict[str, Any]] = (),
    generate: bool = True,
) -> list[int]:
    """The ids of a conversation, with the head of the next answer if one is to be made."""
    turns = rendered(messages)
    size = sum(len(str(turn)) for turn in turns) + len(str(tools))

    def encode() -> list[int]:
        return tokenizer.render(turns, tools=tools or None, generate=generate).ids

    return await encoded(size, encode)


def rendered(messages: Messages) -> list[dict[str, Any]]:
    """The messages as the tokenizer takes them."""
    turns: list[dict[str, Any]] = []
    order: dict[str, int] = {}  # of the latest calls, by their ids
    results: list[tuple[int, dict[str, Any]]] = []
    for place, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            results.append((_place(message, order, len(results), place), _turn(message)))
            continue
        turns += [turn for _, turn in sorted(results, key=lambda result: result[0])]
        results = []
        turns.append(_turn(message))
        if isinstance(message, AssistantMessage):
            calls = message.tool_calls or []
            order = {call.id: index for index, call in enumerate(calls) if call.id is not None}
    return [*turns, *(turn for _, turn in sorted(results, key=lambda result: result[0]))]


def _place(message: ToolMessage, order: dict[str, int], count: int, place: int) -> int:
    """Which of the calls a result belongs to."""
    name = message.tool_call_id
    if name is None or not order:
        return count
    if name not in order:
        told = f"there is no call {name[:60]!r} that this could be the result of"
        raise APIError(told, param=f"messages[{place}].tool_call_id")
    return order[name]


def _turn(message: SystemMessage | UserMessage | AssistantMessage | ToolMessage) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    turn: dict[str, Any] = {"role": role, "content": _text(message.content)}
    if isinstance(message, AssistantMessage):
        turn["content"] = turn["content"] or message.refusal or ""
        if message.tool_calls:
            functions = [call.function.model_dump() for call in message.tool_calls]
            turn["tool_calls"] = [{"function": function} for function in functions]
    return turn


def _text(content: Content | None) -> str:
    if isinstance(content, list):
        return "".join(part.text for part in content if isinstance(part, TextPart))
    return content or ""
