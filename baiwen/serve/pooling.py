"""`POST /pooling`: what a reward model thinks of a conversation, in vLLM's words.

    {"messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]}
      -> {"data": [{"index": 0, "object": "pooling", "data": [[1.7]]}], ...}

So users of Qwen2.5-Math-RM ask vLLM for a score. There `data` holds one for every token, of which
the last is meant; here it holds that one alone, and `data[-1][0]` reads both. `input` is a text,
ids, or a list of either, each a conversation as `/tokenize` writes it.
"""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from baiwen.engine.submission import Closed, QueueFull
from baiwen.serve import asked as asks
from baiwen.serve import conversation, tools
from baiwen.serve.body import JSONRoute
from baiwen.serve.errors import APIError
from baiwen.serve.generation import late, unavailable
from baiwen.serve.protocol import PoolingRequest
from baiwen.serve.service import Scoring, Served
from baiwen.serve.stream import unless_gone
from baiwen.tokenizer import control

ELSEWHERE = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
router = APIRouter(route_class=JSONRoute)
refusals = APIRouter()  # what a reward model has no answer to


@router.post("/pooling", tags=["rewards"])
async def create(asked: PoolingRequest, request: Request) -> Response:
    """The reward of each conversation."""
    service: Served = request.app.state.service
    asks.check_model(service, asked.model)
    if not isinstance(service, Scoring):
        told = f"{service.name} is a language model; /pooling is for a reward model's scores"
        raise APIError(told, code="unsupported_model")
    every = await _conversations(service, asked)
    for ids in every:
        asks.answer_tokens(service, len(ids), 0, "messages" if asked.messages else "input")
    rewards = await unless_gone(request.receive, _rewards(service, every))
    read = sum(map(len, every))
    service.metrics.tokens.labels("prompt").inc(read)
    data = [
        {"index": index, "object": "pooling", "data": [[reward]]}
        for index, reward in enumerate(rewards)
    ]
    usage = {"prompt_tokens": read, "total_tokens": read, "completion_tokens": 0}
    return JSONResponse({"object": "list", "model": service.name, "data": data, "usage": usage})


async def _conversations(service: Scoring, asked: PoolingRequest) -> list[list[int]]:
    """The ids of each conversation."""
    if (asked.input is None) == (asked.messages is None):
        raise APIError("exactly one of messages and input must be given", param="messages")
    if asked.messages is not None:
        shown = tools.described(asked.tools or ())
        more = asked.add_generation_prompt
        return [await conversation.prompt(service.tokenizer, asked.messages, shown, more)]
    texts = asked.input if isinstance(asked.input, list) else [asked.input]
    if any(isinstance(text, str) and control.IM_START in text for text in texts):
        told = (
            f"a text of input holds {control.IM_START}, which would be read as words: send the "
            "conversation as messages, or as the ids that /tokenize gives of them"
        )
        raise APIError(told, param="input")
    return await asks.prompts(service, asked.input, "input")


async def _rewards(service: Scoring, every: list[list[int]]) -> list[float]:
    """The rewards; APIError 429 where too much waits, 504 where it takes too long."""
    try:
        async with asyncio.timeout(service.limits.request_seconds):
            return await service.scorer.score(every)
    except TimeoutError as error:
        raise late(service.limits) from error
    except (QueueFull, Closed) as error:
        raise unavailable(error, service) from error


async def refuse(request: Request) -> Response:
    """Why this is not to be had here."""
    service: Served = request.app.state.service
    raise APIError(
        f"{service.name} is a reward model: it scores conversations (POST /pooling) and writes no "
        "answers",
        code="unsupported_model",
    )


for path in ELSEWHERE:
    refusals.post(path, include_in_schema=False)(refuse)
