"""Which tools a prompt shows, and what the answer must then be: `tools` and `tool_choice`.

    none       the model sees no tools, and its words are words
    auto       it may call; its calls are read from what it says
    required   a grammar lets it say nothing but calls
    a name     nothing but one call of that function

With a `strict` function the calls of `auto`, too, keep to the functions' schemas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from baiwen.engine.grammar import Grammar
from baiwen.serve.asked import check_count, compiled
from baiwen.serve.errors import APIError
from baiwen.serve.protocol import NamedTool, Tool
from baiwen.serve.service import Service
from baiwen.tokenizer import control

Choice = str | NamedTool | None


@dataclass(frozen=True)
class Plan:
    """What a request's tools come to."""

    shown: tuple[dict[str, Any], ...] = ()  # in the prompt
    read: bool = False  # are calls looked for in the answer?
    most: int | None = None  # calls of one answer
    grammar: Grammar | None = None
    stop_ids: tuple[int, ...] = ()


async def plan(
    service: Service,
    tools: Sequence[Tool] | None,
    choice: Choice,
    parallel: bool,
    grammar: Grammar | None,
) -> Plan:
    """The plan for a request; `grammar` is what its answer must be already, if anything."""
    tools = tools or ()
    _check(tools, choice, service)
    if not tools or choice == "none":
        return Plan(grammar=grammar)
    forced = choice == "required" or isinstance(choice, NamedTool)
    strict = any(tool.function.strict for tool in tools)
    if grammar is not None:
        raise APIError(
            "with tools that may be called, the answer's form cannot be constrained as well: set "
            "tool_choice to none, or leave response_format and structured_outputs out",
            param="tool_choice",
        )
    shown = described(tools)
    name = choice.function.name if isinstance(choice, NamedTool) else None
    several = parallel and name is None
    ends = () if several else (service.tokenizer.id(control.TOOL_CALL_END),)
    if forced or strict:
        arguments = (shown, name, several, not forced)
        grammar = await compiled(service.tokenizer, Grammar.tool_calls, *arguments)
    return Plan(shown, True, None if several else 1, grammar, ends)


def described(tools: Sequence[Tool]) -> tuple[dict[str, Any], ...]:
    """The tools as the prompt shows them; `strict` is for us, not for the model."""
    hidden = {"function": {"strict"}}
    return tuple(tool.model_dump(exclude_none=True, exclude=hidden) for tool in tools)


def _check(tools: Sequence[Tool], choice: Choice, service: Service) -> None:
    check_count("tools", len(tools), service.limits.tools)
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise APIError("two tools have the same name", param="tools")
    if choice not in (None, "none") and not tools:
        raise APIError("tool_choice is set, but there are no tools", param="tool_choice")
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        told = f"there is no tool {choice.function.name[:80]!r}; there are: {', '.join(names[:8])}"
        raise APIError(told, param="tool_choice.function.name")
