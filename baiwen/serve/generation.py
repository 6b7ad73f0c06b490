"""A prompt under way in the engine: measured, bounded in time, cancelled when nobody waits for it.

generation = await Generation.start(service, ids, sampling)
async for delta in generation.deltas(): ...
generation.usage()     {"prompt_tokens": 9, "completion_tokens": 16, "total_tokens": 25, ...}

answers = await generation.answers()      # or all of it at once
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any

from baiwen.engine.reading import Sparsity
from baiwen.engine.request import Delta, Token
from baiwen.engine.sampler import Sampling
from baiwen.engine.submission import Closed, QueueFull, Submission, TooSlow
from baiwen.serve.errors import APIError
from baiwen.serve.limits import Limits
from baiwen.serve.service import Served, Service


@dataclass
class Answer:
    """One sample of a prompt, as far as it has come."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish_reason: str | None = None
    stopped_by: str | int | None = None

    def add(self, delta: Delta) -> None:
        """Go on with what a step added."""
        self.text += delta.text
        self.tokens += delta.tokens
        self.finish_reason, self.stopped_by = delta.finish_reason, delta.stopped_by

    @property
    def said(self) -> list[Token]:
        """The tokens without the one that ended the answer."""
        return self.tokens[:-1] if isinstance(self.stopped_by, int) else self.tokens


class Generation:
    """The answers to one prompt, while they are made."""

    def __init__(self, service: Service, submission: Submission, samples: int) -> None:
        self._service, self._submission, self._samples = service, submission, samples
        self._begun = time.perf_counter()
        self.prompt = submission.prompt
        self.generated = 0

    @classmethod
    async def start(cls, service: Service, ids: Sequence[int], sampling: Sampling) -> "Generation":
        """Hand a prompt to the engine; APIError 429 where too many wait already."""
        try:
            submission = await service.front.submit(ids, sampling)
        except (QueueFull, Closed) as error:
            raise unavailable(error, service) from error
        return cls(service, submission, sampling.n)

    @property
    def cached(self) -> int:
        """Tokens of the prompt that did not have to be computed."""
        return self._submission.cached_tokens

    @property
    def sparsity(self) -> Sparsity | None:
        """What was seen of the prompt, where it was read sparsely."""
        return self._submission.sparsity

    @property
    def scored(self) -> list[Token]:
        """The prompt's tokens with their log-probabilities, where the sampling asks for them."""
        return self._submission.prompt_tokens

    async def answers(self) -> list[Answer]:
        """All samples, when they are done."""
        answers = [Answer() for _ in range(self._samples)]
        async with aclosing(self.deltas()) as deltas:
            async for delta in deltas:
                answers[delta.sample].add(delta)
        return answers

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        """What each step adds; APIError 504 where it takes longer than the server allows."""
        metrics, limits = self._service.metrics, self._service.limits
        latest = [0.0] * self._samples
        wait = asyncio.get_running_loop().call_later
        clock = wait(limits.request_seconds, self._submission.cancel, late(limits))
        try:
            async for delta in self._submission:
                now = time.perf_counter()
                before = latest[delta.sample]
                if before:
                    metrics.between.observe((now - before) / max(1, len(delta.tokens)))
                else:
                    metrics.first.observe(now - self._begun)
                latest[delta.sample] = now
                self.generated += len(delta.tokens)
                yield delta
        except TooSlow as error:
            raise APIError(f"the answer was not read in time: {error}", 408) from error
        except Closed as error:
            raise unavailable(error, self._service) from error
        finally:
            clock.cancel()
            self._submission.cancel()
            metrics.whole.observe(time.perf_counter() - self._begun)
            metrics.tokens.labels("prompt").inc(len(self.prompt))
            metrics.tokens.labels("cached").inc(self.cached)
            metrics.tokens.labels("generated").inc(self.generated)

    def cancel(self) -> None:
        """Give the engine's room back; nothing is lost by doing so twice, or at the end."""
        self._submission.cancel()

    def usage(self) -> dict[str, Any]:
        """Tokens read and written, in OpenAI's words."""
        return usage([self])


def late(limits: Limits) -> APIError:
    """What takes longer than a request may."""
    return APIError(f"the answer takes longer than {limits.request_seconds:g} s", 504)


def unavailable(error: Exception, service: Served) -> APIError:
    """Why the engine takes nothing, or nothing more comes from it."""
    retry = {"Retry-After": str(service.limits.retry_seconds)}
    if isinstance(error, QueueFull):
        told = "too many requests wait for an answer already; try again in a moment"
        return APIError(told, 429, code="rate_limit_exceeded", headers=retry)
    return APIError("the server is about to stop", 503, headers=retry)


async def start(service: Service, asked: Sequence[tuple[list[int], Sampling]]) -> list[Generation]:
    """Hand several prompts of one request to the engine: all of them, or none."""
    begun: list[Generation] = []
    try:
        for ids, sampling in asked:
            begun.append(await Generation.start(service, ids, sampling))
    except BaseException:
        cancel(begun)
        raise
    return begun


def cancel(generations: Sequence[Generation]) -> None:
    """Give the engine's room back."""
    for generation in generations:
        generation.cancel()


def usage(generations: Sequence[Generation]) -> dict[str, Any]:
    """What several prompts of one request took together."""
    prompt = sum(len(generation.prompt) for generation in generations)
    cached = sum(generation.cached for generation in generations)
    generated = sum(generation.generated for generation in generations)
    sparse: Sparsity | None = None
    for generation in generations:
        sparse = generation.sparsity.after(sparse) if generation.sparsity else sparse
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {
            "cached_tokens": cached,
            **({"sparsity": asdict(sparse)} if sparse else {}),
        },
    }
