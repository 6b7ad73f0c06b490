"""`POST /v1/responses`: OpenAI's newer way to ask for an answer, with text and function tools.

    {"input": "1 + 1 ="} -> {"object": "response", "status": "completed", "output": [
        {"type": "message", "content": [{"type": "output_text", "text": "2"}]}]}

A stream tells of the response as it grows, in the documented order:

    response.created, response.in_progress,
    response.output_item.added, response.content_part.added,
    response.output_text.delta ..., response.output_text.done,
    response.content_part.done, response.output_item.done,
    response.completed
"""

import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from baiwen.engine.request import Token
from baiwen.serve import asked as asks
from baiwen.serve import conversation, errors, items
from baiwen.serve import tools as tools_of
from baiwen.serve.body import JSONRoute
from baiwen.serve.calls import Arguments, Begun, CallReader, Event, Words, repaired
from baiwen.serve.generation import Generation
from baiwen.serve.items import ResponseRequest
from baiwen.serve.service import Service
from baiwen.serve.stream import EventStream, Frames, frame, unless_gone

router = APIRouter(route_class=JSONRoute)

Record = dict[str, Any]


@router.post("/v1/responses", tags=["responses"])
async def create(asked: ResponseRequest, request: Request) -> Response:
    """The answer, whole or as a stream of server-sent events."""
    service: Service = request.app.state.service
    asks.check_model(service, asked.model)
    fields, functions = items.sampling_fields(asked), items.tools(asked)
    form = await asks.grammar(service, fields, items.answer_format(asked))
    parallel = asked.parallel_tool_calls is not False
    plan = await tools_of.plan(service, functions, items.choice(asked), parallel, form)
    ids = await conversation.prompt(service.tokenizer, items.messages(asked), plan.shown)
    sampling = asks.sampling(
        service,
        fields,
        len(ids),
        max_tokens=asked.max_output_tokens,
        grammar=plan.grammar,
        logprobs=asked.top_logprobs or 0,
        stop_ids=plan.stop_ids,
        param="input",
    )
    generation = await Generation.start(service, ids, sampling)
    growing = _Response(service, asked, plan)
    if asked.stream:
        return EventStream(request, growing.frames(generation), generation.cancel)
    return await unless_gone(request.receive, growing.whole(generation))


class _Response:
    """One response as it grows, and the events that tell of it."""

    def __init__(self, service: Service, asked: ResponseRequest, plan: tools_of.Plan) -> None:
        self._service, self._asked, self._plan = service, asked, plan
        self._name, self._created = f"resp_{secrets.token_hex(24)}", int(time.time())
        self._reader = CallReader(plan.most)
        self._output: list[Record] = []
        self._open: Record | None = None  # the item that is growing
        self._pieces: list[str] = []  # of its text or arguments
        self._status = "in_progress"
        self._number = 0  # of the next event
        self._logprobs: list[Record] = []

    async def whole(self, generation: Generation) -> Response:
        """The whole response."""
        async with aclosing(self._events(generation)) as events:
            async for _ in events:
                pass
        return JSONResponse(self._record(generation))

    async def frames(self, generation: Generation) -> Frames:
        """The events of a stream; an error on the way is the last of them."""
        try:
            async with aclosing(self._events(generation)) as events:
                async for event in events:
                    yield frame(event, event["type"])
        except Exception as error:
            told = errors.shape(error)["error"]
            event = self._event("error", **{name: told[name] for name in ("message", "param")})
            yield frame({**event, "code": told["code"] or told["type"]}, "error")
            if errors.status_of(error) == 500:
                raise

    async def _events(self, generation: Generation) -> AsyncGenerator[Record, None]:
        yield self._event("response.created", response=self._record(None))
        yield self._event("response.in_progress", response=self._record(None))
        tokens: list[Token] = []  # that are not told of yet
        cut = False
        async with aclosing(generation.deltas()) as deltas:
            async for delta in deltas:
                tokens += delta.tokens[:-1] if isinstance(delta.stopped_by, int) else delta.tokens
                said = self._said(delta.text)
                if delta.finish_reason is not None:
                    said += self._reader.finish() if self._plan.read else []
                    cut = delta.finish_reason == "length"
                for event in said:
                    for told in self._grown(event, tokens):
                        yield told
                    tokens = []
        if not self._output and self._open is None:
            for told in self._opened(_message()):
                yield told
        self._status = "incomplete" if cut else "completed"
        for told in self._closed(self._status):
            yield told
        yield self._event(f"response.{self._status}", response=self._record(generation))

    def _said(self, text: str) -> list[Event]:
        if self._plan.read:
            return self._reader.push(text)
        return [Words(text)] if text else []

    def _grown(self, event: Event, tokens: Sequence[Token]) -> Iterator[Record]:
        """What an event of the answer comes to in events of the response."""
        kind = "message" if isinstance(event, Words) else "function_call"
        if isinstance(event, Begun) or self._open is None or self._open["type"] != kind:
            yield from self._closed()
            made = _call(event.name) if isinstance(event, Begun) else _message()
            yield from self._opened(made)
        assert self._open is not None
        place = {"item_id": self._open["id"], "output_index": len(self._output)}
        if isinstance(event, Arguments):
            self._pieces.append(event.text)
            name = "response.function_call_arguments.delta"
            yield self._event(name, **place, delta=event.text)
        elif isinstance(event, Words):
            self._pieces.append(event.text)
            logprobs = self._spelled(tokens)
            self._logprobs += logprobs
            told = {**place, "content_index": 0, "delta": event.text, "logprobs": logprobs}
            yield self._event("response.output_text.delta", **told)

    def _opened(self, item: Record) -> Iterator[Record]:
        self._open, self._pieces, self._logprobs = item, [], []
        index = len(self._output)
        yield self._event("response.output_item.added", output_index=index, item=dict(item))
        if item["type"] == "message":
            place = {"item_id": item["id"], "output_index": index, "content_index": 0}
            yield self._event("response.content_part.added", **place, part=_part("", []))

    def _closed(self, status: str = "completed") -> Iterator[Record]:
        """The item that was growing is done, or cut."""
        item, text = self._open, "".join(self._pieces)
        if item is None:
            return
        index, self._open = len(self._output), None
        place = {"item_id": item["id"], "output_index": index}
        item["status"] = status
        if item["type"] == "message":
            part = _part(text, self._logprobs)
            inner = {**place, "content_index": 0}
            done = {"text": text, "logprobs": self._logprobs}
            yield self._event("response.output_text.done", **inner, **done)
            yield self._event("response.content_part.done", **inner, part=part)
            item["content"] = [part]
        else:
            item["arguments"] = text if self._asked.stream else repaired(item["name"], text)
            told = {"name": item["name"], "arguments": item["arguments"]}
            yield self._event("response.function_call_arguments.done", **place, **told)
        self._output.append(item)
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _spelled(self, tokens: Sequence[Token]) -> list[Record]:
        if not self._asked.include and self._asked.top_logprobs is None:
            return []
        return self._service.spelling.chat(tokens, self._asked.top_logprobs or 0)

    def _event(self, kind: str, **fields: object) -> Record:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **fields}

    def _record(self, generation: Generation | None) -> Record:
        """The response as it stands; with a generation, it has ended."""
        asked = self._asked
        echoed = asked.model_dump(exclude_none=True, by_alias=True)
        cut = {"reason": "max_output_tokens"} if self._status == "incomplete" else None
        return {
            "id": self._name,
            "object": "response",
            "created_at": self._created,
            "status": self._status,
            "background": False,
            "error": None,
            "incomplete_details": cut,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": self._service.name,
            "output": [dict(item) for item in self._output],
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": asked.temperature,
            "text": echoed.get("text") or {"format": {"type": "text"}},
            "tool_choice": echoed.get("tool_choice", "auto"),
            "tools": echoed.get("tools", []),
            "top_logprobs": asked.top_logprobs or 0,
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None if generation is None else _usage(generation),
            "user": asked.user,
        }


def _message() -> Record:
    name = f"msg_{secrets.token_hex(24)}"
    return {
        "id": name,
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }


def _call(name: str) -> Record:
    return {
        "id": f"fc_{secrets.token_hex(24)}",
        "type": "function_call",
        "call_id": f"call_{secrets.token_hex(12)}",
        "name": name,
        "arguments": "",
        "status": "in_progress",
    }


def _part(text: str, logprobs: list[Record]) -> Record:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _usage(generation: Generation) -> Record:
    usage = generation.usage()
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": generation.cached},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }
