"""`POST /v1/chat/completions`: messages in, the assistant's next turn out.

    {"messages": [{"role": "user", "content": "1 + 1 ="}]}
      -> {"choices": [{"message": {"role": "assistant", "content": "2"}, "finish_reason": "stop"}]}

`finish_reason` is `tool_calls` where a finished answer calls tools, whether it was free to or
forced; `length` where it was cut, calls or not.
"""

import json
import secrets
import time
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from baiwen.engine.request import Delta, Token
from baiwen.serve import asked as asks
from baiwen.serve import conversation, tools
from baiwen.serve.body import JSONRoute
from baiwen.serve.calls import Arguments, Begun, CallReader, Event, Words, repaired
from baiwen.serve.errors import APIError
from baiwen.serve.generation import Answer, Generation
from baiwen.serve.protocol import ChatRequest, TextFormat
from baiwen.serve.service import Service
from baiwen.serve.stream import DONE, EventStream, Frames, frame, telling, unless_gone

router = APIRouter(route_class=JSONRoute)


@router.post("/v1/chat/completions", tags=["chat"])
async def create(asked: ChatRequest, request: Request) -> Response:
    """The assistant's next turn, whole or as a stream of server-sent events."""
    service: Service = request.app.state.service
    asks.check_model(service, asked.model)
    if asked.top_logprobs and not asked.logprobs:
        raise APIError("top_logprobs needs logprobs: true", param="top_logprobs")
    if asked.stream_options is not None and not asked.stream:
        raise APIError("stream_options needs stream: true", param="stream_options")
    form = await asks.grammar(service, asked, asked.response_format)
    parallel = asked.parallel_tool_calls is not False
    plan = await tools.plan(service, asked.tools, asked.tool_choice, parallel, form)
    ids = await conversation.prompt(service.tokenizer, asked.messages, plan.shown)
    sampling = asks.sampling(
        service,
        asked,
        len(ids),
        max_tokens=_most(asked),
        grammar=plan.grammar,
        logprobs=asked.top_logprobs or 0,
        stop_ids=plan.stop_ids,
        param="messages",
    )
    generation = await Generation.start(service, ids, sampling)
    turn = _Turn(service, asked, plan, sampling.n)
    if asked.stream:
        return EventStream(request, telling(turn.frames(generation)), generation.cancel)
    return await unless_gone(request.receive, turn.whole(generation))


def _most(asked: ChatRequest) -> int | None:
    """The longest answer; `max_tokens` is the older name."""
    if None not in (asked.max_tokens, asked.max_completion_tokens):
        raise APIError("max_tokens is the older name of max_completion_tokens: give one of them")
    return asked.max_completion_tokens if asked.max_tokens is None else asked.max_tokens


class _Turn:
    """The answers to one request, in the words of chats."""

    def __init__(self, service: Service, asked: ChatRequest, plan: tools.Plan, n: int) -> None:
        self._service, self._asked, self._plan = service, asked, plan
        self._name, self._created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
        self._readers = [CallReader(plan.most) for _ in range(n)]

    async def whole(self, generation: Generation) -> Response:
        """All answers at once."""
        answers = await generation.answers()
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        return JSONResponse(
            {**self._frame("chat.completion"), "choices": choices, "usage": generation.usage()}
        )

    async def frames(self, generation: Generation) -> Frames:
        """The answers as they come: the role, the pieces, the reasons to finish, the usage."""
        for index in range(len(self._readers)):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        async with aclosing(generation.deltas()) as deltas:
            async for delta in deltas:
                for piece in self._pieces(delta):
                    yield piece
        if self._usage:
            head = self._frame("chat.completion.chunk")
            yield frame({**head, "choices": [], "usage": generation.usage()})
        yield DONE

    def _choice(self, index: int, answer: Answer) -> dict[str, Any]:
        check_form(self._asked, answer)
        reader = self._readers[index]
        said = [*self._events(reader, answer.text), *self._rest(reader)]
        message: dict[str, Any] = {"role": "assistant", "content": words(said), "refusal": None}
        if reader.count:
            message["content"] = message["content"] or None
            message["tool_calls"] = called(said)
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(answer.said),
            "finish_reason": self._finish(reader, answer.finish_reason, answer.stopped_by),
        }

    def _pieces(self, delta: Delta) -> Iterable[bytes]:
        """The chunks that tell of what a step added to an answer."""
        reader, tokens = self._readers[delta.sample], list(delta.tokens)
        if isinstance(delta.stopped_by, int):
            tokens.pop()
        said = self._events(reader, delta.text)
        if delta.finish_reason is not None:
            said = [*said, *self._rest(reader)]
        if not said and tokens and self._asked.logprobs:
            said = [Words("")]
        for event in said:
            yield self._chunk(delta.sample, piece(event), self._logprobs(tokens))
            tokens = []
        if delta.finish_reason is not None:
            finish = self._finish(reader, delta.finish_reason, delta.stopped_by)
            yield self._chunk(delta.sample, {}, finish=finish)

    def _events(self, reader: CallReader, text: str) -> list[Event]:
        if self._plan.read:
            return reader.push(text)
        return [Words(text)] if text else []

    def _rest(self, reader: CallReader) -> list[Event]:
        return reader.finish() if self._plan.read else []

    def _finish(
        self, reader: CallReader, finish: str | None, stopped_by: str | int | None
    ) -> str | None:
        ended = finish == "stop" and not isinstance(stopped_by, str)
        return "tool_calls" if ended and reader.count else finish

    def _logprobs(self, tokens: list[Token]) -> dict[str, Any] | None:
        if not self._asked.logprobs:
            return None
        found = self._service.spelling.chat(tokens, self._asked.top_logprobs or 0)
        return {"content": found, "refusal": None}

    def _frame(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._name,
            "object": kind,
            "created": self._created,
            "model": self._service.name,
            "system_fingerprint": None,
        }

    @property
    def _usage(self) -> bool:
        options = self._asked.stream_options
        return options is not None and bool(options.include_usage)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finish: str | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        usage = {"usage": None} if self._usage else {}
        return frame({**self._frame("chat.completion.chunk"), "choices": [choice], **usage})


def words(said: Iterable[Event]) -> str:
    """The content that the events come to."""
    return "".join(event.text for event in said if isinstance(event, Words))


def called(said: Iterable[Event]) -> list[dict[str, Any]]:
    """The calls that the events come to."""
    calls: list[dict[str, Any]] = []
    for event in said:
        if isinstance(event, Begun):
            calls.append(_call(event.name, ""))
        elif isinstance(event, Arguments):
            calls[event.index]["function"]["arguments"] += event.text
    for call in calls:
        function = call["function"]
        function["arguments"] = repaired(function["name"], function["arguments"])
    return calls


def piece(event: Event) -> dict[str, Any]:
    """The delta of a chunk that tells of one event."""
    if isinstance(event, Words):
        return {"content": event.text}
    if isinstance(event, Begun):
        return {"tool_calls": [{"index": event.index, **_call(event.name, "")}]}
    return {"tool_calls": [{"index": event.index, "function": {"arguments": event.text}}]}


def _call(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def check_form(asked: ChatRequest, answer: Answer) -> None:
    """An answer that had to be JSON, and has ended of itself, is JSON."""
    free = asked.response_format is None or isinstance(asked.response_format, TextFormat)
    if not free and answer.finish_reason == "stop" and not isinstance(answer.stopped_by, str):
        json.loads(answer.text)
