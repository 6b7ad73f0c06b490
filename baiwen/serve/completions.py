"""`POST /v1/completions`: prompts continued as they stand, with no chat around them.

    {"prompt": "1 + 1 =", "echo": true, "logprobs": 1, "max_tokens": 0}
      -> {"choices": [{"text": "1 + 1 =", "logprobs": {"tokens": [...], ...}}]}

A prompt is a text, in which control tokens are words, or ids, or a list of either. `echo` with
`logprobs` scores the prompt, as lm-eval's `local-completions` asks for it. With a `suffix` the
model fills the gap between prompt and suffix (Qwen2.5-Coder's infilling, spec 2.3).
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from baiwen.engine.grammar import Grammar
from baiwen.engine.request import Delta, Token
from baiwen.engine.sampler import Sampling
from baiwen.serve import asked as asks
from baiwen.serve.body import JSONRoute
from baiwen.serve.errors import APIError
from baiwen.serve.generation import Answer, Generation, cancel, start, usage
from baiwen.serve.logprobs import Offsets
from baiwen.serve.protocol import CompletionRequest
from baiwen.serve.service import Service
from baiwen.serve.stream import DONE, EventStream, Frames, frame, telling, unless_gone
from baiwen.tokenizer import control
from baiwen.tokenizer.chat import Piece

router = APIRouter(route_class=JSONRoute)

DEFAULT_TOKENS = 16  # OpenAI's
_FIM_ENDS = (
    control.FIM_PREFIX,
    control.FIM_MIDDLE,
    control.FIM_SUFFIX,
    control.FIM_PAD,
    control.REPO_NAME,
    control.FILE_SEP,
)


@router.post("/v1/completions", tags=["completions"])
async def create(asked: CompletionRequest, request: Request) -> Response:
    """Each prompt continued `n` times, whole or as a stream of server-sent events."""
    service: Service = request.app.state.service
    asks.check_model(service, asked.model)
    _check(asked)
    prompts = await _prompts(service, asked)
    grammar = await asks.grammar(service, asked)
    samplings = [_sampling(service, asked, ids, grammar) for ids in prompts]
    _check_scores(asked, sum(map(len, prompts)), service.limits.scores)
    asks.check_count("answers", sum(one.n for one in samplings), service.limits.answers)
    generations = await start(service, list(zip(prompts, samplings, strict=True)))
    text = _Text(service, asked, samplings[0].n)
    if asked.stream:
        frames = telling(text.frames(generations))
        return EventStream(request, frames, lambda: cancel(generations))
    return await unless_gone(request.receive, text.whole(generations))


def _check(asked: CompletionRequest) -> None:
    if asked.best_of not in (None, asked.n or 1):
        raise APIError("best_of must be left out, or be n", param="best_of")
    if asked.suffix is not None and asked.echo:
        raise APIError("echo and suffix do not go together", param="suffix")
    if asked.suffix is not None and not isinstance(asked.prompt, str):
        raise APIError("a suffix goes with one prompt, a text", param="suffix")
    if asked.stream_options is not None and not asked.stream:
        raise APIError("stream_options needs stream: true", param="stream_options")


def _check_scores(asked: CompletionRequest, tokens: int, most: int) -> None:
    scores = tokens * (1 + asked.logprobs) if asked.echo and asked.logprobs is not None else 0
    if scores > most:
        told = f"the logprobs of the prompts are {scores:,}; this server tells at most {most:,}"
        raise APIError(told, param="logprobs")


async def _prompts(service: Service, asked: CompletionRequest) -> list[list[int]]:
    """The ids of each prompt."""
    tokenizer = service.tokenizer
    given: Any = asked.prompt
    if asked.suffix is not None:
        pieces = [
            Piece(control.FIM_PREFIX, control=True),
            Piece(given),
            Piece(control.FIM_SUFFIX, control=True),
            Piece(asked.suffix),
            Piece(control.FIM_MIDDLE, control=True),
        ]
        size = len(given) + len(asked.suffix)
        return [await asks.encoded(size, lambda: tokenizer.assemble(pieces))]
    return await asks.prompts(service, given, "prompt")


def _sampling(
    service: Service,
    asked: CompletionRequest,
    ids: list[int],
    grammar: Grammar | None,
) -> Sampling:
    ends = _FIM_ENDS if asked.suffix is not None else ()
    scored = asked.logprobs if asked.echo else None
    return asks.sampling(
        service,
        asked,
        len(ids),
        max_tokens=DEFAULT_TOKENS if asked.max_tokens is None else asked.max_tokens,
        grammar=grammar,
        logprobs=asked.logprobs or 0,
        prompt_logprobs=scored,
        stop_ids=tuple(map(service.tokenizer.id, ends)),
    )


class _Text:
    """The answers to one request, in the words of completions: choice = prompt * n + sample."""

    def __init__(self, service: Service, asked: CompletionRequest, n: int) -> None:
        self._service, self._asked, self._n = service, asked, n
        options = asked.stream_options
        self._usage = options is not None and bool(options.include_usage)
        self._name, self._created = f"cmpl-{secrets.token_hex(12)}", int(time.time())
        self._offsets: dict[int, Offsets] = {}  # of the choices that have begun

    async def whole(self, generations: Sequence[Generation]) -> Response:
        """All answers at once."""
        try:
            every = await asyncio.gather(*(generation.answers() for generation in generations))
        finally:
            cancel(generations)  # the others, if one has failed
        pairs = zip(generations, every, strict=True)
        answers = ((generation, answer) for generation, found in pairs for answer in found)
        choices = [self._more(index, *answer) for index, answer in enumerate(answers)]
        return JSONResponse(self._frame(choices, usage(generations)))

    async def frames(self, generations: Sequence[Generation]) -> Frames:
        """The answers as they come, those of several prompts side by side."""
        async with aclosing(merged(generations)) as deltas:
            async for place, delta in deltas:
                more = self._more(place * self._n + delta.sample, generations[place], delta)
                yield frame(self._frame([more], None))
        if self._usage:
            yield frame(self._frame([], usage(generations)))
        yield DONE

    def _more(self, index: int, generation: Generation, said: Answer | Delta) -> dict[str, Any]:
        """More of a choice, or all of it; an echo goes with the first."""
        before, logprobs = "", None
        if index not in self._offsets:
            before, logprobs = self._opening(generation)
            self._offsets[index] = self._service.spelling.offsets(len(before))
        if self._asked.logprobs is not None:
            more = self._legacy(said.tokens, self._offsets[index])
            logprobs = {name: [*(logprobs or {}).get(name, ()), *more[name]] for name in more}
        told = {"text": before + said.text, "logprobs": logprobs}
        return {"index": index, **told, "finish_reason": said.finish_reason}

    def _opening(self, generation: Generation) -> tuple[str, dict[str, Any] | None]:
        """What stands before an answer: nothing, or the echo of its prompt."""
        if not self._asked.echo:
            return "", None
        text = self._service.tokenizer.decode(generation.prompt)
        if self._asked.logprobs is None:
            return text, None
        return text, self._legacy(generation.scored, self._service.spelling.offsets(0))

    def _legacy(self, tokens: Sequence[Token], offsets: Offsets) -> dict[str, Any]:
        return self._service.spelling.legacy(tokens, self._asked.logprobs or 0, offsets)

    def _frame(self, choices: list[dict[str, Any]], used: dict[str, Any] | None) -> dict[str, Any]:
        told = {"usage": used} if used is not None or self._usage else {}
        return {
            "id": self._name,
            "object": "text_completion",
            "created": self._created,
            "model": self._service.name,
            "system_fingerprint": None,
            "choices": choices,
            **told,
        }


async def merged(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, Delta], None]:
    """The deltas of several prompts, each with the place of its prompt, as they come."""
    arrived: asyncio.Queue[tuple[int, Delta] | Exception | None] = asyncio.Queue(maxsize=1)

    async def forward(place: int) -> None:
        try:
            async with aclosing(generations[place].deltas()) as deltas:
                async for delta in deltas:
                    await arrived.put((place, delta))
        except Exception as error:
            await arrived.put(error)
        else:
            await arrived.put(None)

    tasks = [asyncio.create_task(forward(place)) for place in range(len(generations))]
    try:
        running = len(tasks)
        while running:
            found = await arrived.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                running -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
