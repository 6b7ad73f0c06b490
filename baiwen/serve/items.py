"""What a request to `/v1/responses` may hold, and the chat request that it comes to.

    {"instructions": "Be brief.", "input": "Hi"}
      -> [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]

Items are messages, calls and results of calls; those that a client sends back from an earlier
response are taken as they were sent. The server keeps nothing, so that `previous_response_id`,
conversations and background work are refused. Source: OpenAI's API reference, 2026.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from baiwen.serve.protocol import (
    AssistantMessage,
    CalledFunction,
    Count,
    Format,
    Function,
    FunctionName,
    Harmless,
    JSONSchema,
    Label,
    Many,
    NamedTool,
    ObjectFormat,
    Refused,
    SamplingFields,
    SchemaFormat,
    Some,
    StreamOptions,
    Strict,
    SystemMessage,
    Text,
    TextFormat,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)


class Part(Strict):
    """A part of a message; the last fields are those of a response that is sent back."""

    type: Literal["input_text", "output_text", "text"]
    text: Text
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class MessageItem(Strict):
    """Something that was said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Many[Part]
    id: Label | None = None
    status: Label | None = None
    phase: Label | None = None


class CallItem(Strict):
    """A call that the assistant made."""

    type: Literal["function_call"]
    call_id: Label
    name: Label
    arguments: Text
    id: Label | None = None
    status: Label | None = None


class ResultItem(Strict):
    """What a function gave back."""

    type: Literal["function_call_output"]
    call_id: Label
    output: Text | Many[Part]
    id: Label | None = None
    status: Label | None = None


Item = MessageItem | CallItem | ResultItem


class FunctionTool(Function):
    """A function that the model may call."""

    type: Literal["function"]


class NamedFunction(FunctionName):
    """The one function that must be called."""

    type: Literal["function"]


class SchemaText(JSONSchema):
    """JSON that is valid by a schema."""

    type: Literal["json_schema"]


class TextOptions(Strict):
    """What the answer's text must be."""

    format: (
        Annotated[TextFormat | ObjectFormat | SchemaText, Field(discriminator="type")] | None
    ) = None
    verbosity: Literal["medium"] | None = None


class ResponseRequest(Harmless):
    """`POST /v1/responses`."""

    input: Text | Many[Item]
    instructions: Text | None = None
    model: Label | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    text: TextOptions | None = None
    tools: Some[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include: Some[Literal["message.output_text.logprobs"]] | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    previous_response_id: Refused = None
    conversation: Refused = None
    context_management: Refused = None
    max_tool_calls: Count | None = (
        None  # of tools that the server runs itself, which it has none of
    )
    prompt: Refused = None
    reasoning: Refused = None


def sampling_fields(asked: ResponseRequest) -> SamplingFields:
    """The fields of the request that say how to draw."""
    return SamplingFields(temperature=asked.temperature, top_p=asked.top_p, seed=asked.seed)


def answer_format(asked: ResponseRequest) -> Format | None:
    """The form of the answer in the words of chats."""
    form = asked.text.format if asked.text else None
    if isinstance(form, SchemaText):
        schema = JSONSchema.model_validate(form.model_dump(exclude={"type"}, by_alias=True))
        return SchemaFormat(type="json_schema", json_schema=schema)
    return form


def tools(asked: ResponseRequest) -> list[Tool]:
    """The tools in the wrapping of chats."""
    functions = (tool.model_dump(exclude={"type"}) for tool in asked.tools or ())
    return [Tool(type="function", function=Function(**function)) for function in functions]


def choice(asked: ResponseRequest) -> str | NamedTool | None:
    """The choice of tools in the words of chats."""
    if isinstance(asked.tool_choice, NamedFunction):
        named = FunctionName(name=asked.tool_choice.name)
        return NamedTool(type="function", function=named)
    return asked.tool_choice


Turns = list[SystemMessage | UserMessage | AssistantMessage | ToolMessage]


def messages(asked: ResponseRequest) -> Turns:
    """The conversation in the words of chats; calls that follow one another are of one turn."""
    turns: Turns = []
    if asked.instructions is not None:
        turns.append(SystemMessage(role="system", content=asked.instructions))
    if isinstance(asked.input, str):
        return [*turns, UserMessage(role="user", content=asked.input)]
    for item in asked.input:
        if isinstance(item, CallItem):
            _caller(turns).tool_calls.append(_call(item))  # type: ignore[union-attr]
        elif isinstance(item, ResultItem):
            turns.append(
                ToolMessage(role="tool", content=_joined(item.output), tool_call_id=item.call_id)
            )
        else:
            turns.append(_message(item))
    return turns


def _caller(turns: Turns) -> AssistantMessage:
    """The assistant's turn that a call belongs to."""
    last = turns[-1] if turns else None
    if not isinstance(last, AssistantMessage):
        last = AssistantMessage(role="assistant", content=None)
        turns.append(last)
    if last.tool_calls is None:
        last.tool_calls = []
    return last


def _call(item: CallItem) -> ToolCall:
    function = CalledFunction(name=item.name, arguments=item.arguments)
    return ToolCall(id=item.call_id, function=function)


def _message(item: MessageItem) -> SystemMessage | UserMessage | AssistantMessage:
    text = _joined(item.content)
    if item.role == "assistant":
        return AssistantMessage(role="assistant", content=text)
    if item.role == "user":
        return UserMessage(role="user", content=text)
    return SystemMessage(role=item.role, content=text)


def _joined(content: str | Sequence[Part]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
