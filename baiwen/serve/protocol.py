"""Requests in OpenAI's words: what may be asked, and within which bounds.

    ChatRequest.model_validate({"messages": [{"role": "user", "content": "Hi"}], "n": 2})
    ChatRequest.model_validate({"messages": [...], "audio": {}})   # refused by name

A field that we cannot honour is refused, never passed over: an answer that ignores what was asked
is worse than none. Fields that change nothing here (`user`, `store`, ...) are taken, since clients
send them. `top_k`, `min_p`, `repetition_penalty`, `min_tokens`, `stop_token_ids` and
`structured_outputs` are vLLM's. Source: OpenAI's API reference, 2026.
"""

from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
# A list is read up to its first mistake: a body of a million of them would take gigabytes to tell.
Some = Annotated[list[T], Field(fail_fast=True)]
Many = Annotated[list[T], Field(fail_fast=True, min_length=1)]
Text = Annotated[str, Field(max_length=8 * 2**20)]
Label = Annotated[str, Field(max_length=512)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Tokens = Many[TokenId]
Prompts = Text | Tokens | Many[Text] | Many[Tokens]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Refused: TypeAlias = None  # a field of OpenAI's that we do not serve: null, or left out


class Strict(BaseModel):
    """An object in which every field is known, and of its type: "1" is no number."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Harmless(Strict):
    """Fields that clients send and that change nothing here."""

    user: Label | None = None
    metadata: Annotated[dict[str, str], Field(max_length=64)] | None = None
    store: bool | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None


class StreamOptions(Strict):
    """`include_usage`: a last event that holds the usage."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class StructuredOutputs(Strict):
    """What the answer must be: exactly one of these."""

    json_: dict[str, Any] | None = Field(None, alias="json")
    regex: Text | None = None
    choice: Annotated[Many[Text], Field(max_length=1024)] | None = None
    grammar: Text | None = None  # Lark, in llguidance's dialect


class SamplingFields(Harmless):
    """How to continue a prompt; what is left out is taken from the model's folder."""

    model: Label | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None  # 0 and -1: all
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    max_tokens: Count | None = None
    min_tokens: Count | None = None
    stop: Label | Some[Label] | None = None
    stop_token_ids: Annotated[Some[TokenId], Field(max_length=64)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    structured_outputs: StructuredOutputs | None = None


# Messages.


class TextPart(Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: Text


Content = Text | Many[TextPart]


class Said(Strict):
    """What every message may have; `name` has no place in the model's protocol."""

    name: Label | None = None


class SystemMessage(Said):
    """Instructions; `developer` is OpenAI's newer word."""

    role: Literal["system", "developer"]
    content: Content


class UserMessage(Said):
    """What the user says."""

    role: Literal["user"]
    content: Content


class CalledFunction(Strict):
    """A function and the JSON text of its arguments."""

    name: Label
    arguments: Text


class ToolCall(Strict):
    """A call that the assistant made."""

    id: Label | None = None
    type: Literal["function"] = "function"
    function: CalledFunction
    index: Count | None = None  # left over from a stream


class AssistantMessage(Said):
    """What the assistant said and called."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: Some[ToolCall] | None = None
    refusal: Text | None = None
    annotations: Some[dict[str, Any]] | None = None
    audio: Refused = None
    function_call: Refused = None


class ToolMessage(Strict):
    """What a tool gave back."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Label | None = None
    name: Label | None = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


# Tools and formats.


class Function(Strict):
    """A function that the model may call; `parameters` is the JSON schema of an object."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """A function, in the wrapping that OpenAI has for tools."""

    type: Literal["function"]
    function: Function


class FunctionName(Strict):
    """The name of a function."""

    name: Label


class NamedTool(Strict):
    """The one function that must be called."""

    type: Literal["function"]
    function: FunctionName


class JSONSchema(Strict):
    """A schema that the answer must be valid by."""

    name: Label
    description: Text | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextFormat(Strict):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(Strict):
    """JSON that is valid by a schema."""

    type: Literal["json_schema"]
    json_schema: JSONSchema


Format = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


# Requests.


class ChatRequest(SamplingFields):
    """`POST /v1/chat/completions`."""

    messages: Many[Message]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: Format | None = None
    tools: Some[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    modalities: Some[Literal["text"]] | None = None
    prediction: dict[str, Any] | None = None  # a hint for speed
    audio: Refused = None
    functions: Refused = None
    function_call: Refused = None
    reasoning_effort: Refused = None
    verbosity: Refused = None
    web_search_options: Refused = None


class CompletionRequest(SamplingFields):
    """`POST /v1/completions`: text or ids, one or many."""

    prompt: Prompts
    suffix: Text | None = None  # what follows the gap that is to be filled
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None  # only n itself


class EmbeddingRequest(Harmless):
    """`POST /v1/embeddings`."""

    model: Label | None = None
    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None  # only the model's own
    pooling: Literal["mean", "last"] | None = None


class PoolingRequest(Harmless):
    """`POST /pooling`: conversations for a reward model (vLLM's words)."""

    model: Label | None = None
    messages: Many[Message] | None = None
    tools: Some[Tool] | None = None
    add_generation_prompt: bool = False
    input: Prompts | None = None
    task: Literal["classify", "token_classify"] | None = None  # vLLM's for reward models
    encoding_format: Literal["float"] | None = None
    use_activation: Literal[False] | None = None  # rewards have no bounds
    truncate_prompt_tokens: Refused = None


class TokenizeRequest(Strict):
    """`POST /tokenize`: a text, or messages as the model gets them (vLLM's words)."""

    model: Label | None = None
    prompt: Text | None = None
    messages: Many[Message] | None = None
    tools: Some[Tool] | None = None
    add_generation_prompt: bool = True
    add_special_tokens: bool | None = None  # there is no token to add
    return_token_strs: bool | None = None


class DetokenizeRequest(Strict):
    """`POST /detokenize`."""

    model: Label | None = None
    tokens: Some[TokenId]
