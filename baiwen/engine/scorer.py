"""A reward model behind asyncio: what waits at a time is scored together, in a thread.

    async with Scorer(model, tokenizer) as scorer:
        rewards = await scorer.score([ids, ...])           # [1.7, 0.2]

Each turn takes what has come meanwhile, up to a few forwards; answers to one prompt that came one
after the other share it (`score.py`). The event loop never waits for the model.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch

from baiwen.engine import score
from baiwen.engine.capacity import longest
from baiwen.engine.submission import Closed, QueueFull
from baiwen.model.reward import RewardModel
from baiwen.tokenizer.tokenizer import Tokenizer

FORWARDS = 4  # of a turn: those that wait get their rewards, and others their place


class Scorer:
    """One reward model for many tasks; max_waiting: conversations that may wait."""

    def __init__(
        self, model: RewardModel, tokenizer: Tokenizer, *, max_waiting: int = 1024
    ) -> None:
        self.model, self.tokenizer, self.max_waiting = model, tokenizer, max_waiting
        self.context = longest(model.config)
        self.batch_tokens = score.BATCH[model.model.embed_tokens.weight.device.type]
        self.failure: Exception | None = None
        self._waiting: deque[tuple[list[int], asyncio.Future[float]]] = deque()
        self._counts: Counter[str] = Counter()
        self._closed = True

    async def __aenter__(self) -> Self:
        self._news, self._closed = asyncio.Event(), False
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        self._news.set()
        await self._worker

    async def score(self, conversations: Sequence[list[int]]) -> list[float]:
        """The reward of each; they were checked (`score.check`). QueueFull, Closed."""
        if self._closed:
            raise Closed("the server is shutting down")
        if len(self._waiting) + len(conversations) > self.max_waiting:
            raise QueueFull(f"{len(self._waiting)} conversations wait already")
        futures = [asyncio.get_running_loop().create_future() for _ in conversations]
        self._waiting.extend(zip(conversations, futures, strict=True))
        self._news.set()
        try:
            return [await future for future in futures]
        finally:
            for future in futures:  # where who asked has left
                future.cancel()

    def stats(self) -> dict[str, float]:
        """What waits, and counts since the start."""
        names = ("conversations", "tokens", "forwards")
        return {"waiting": len(self._waiting), **{name: self._counts[name] for name in names}}

    async def _work(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while turn := self._turn():
                await self._run(turn)
            if self._closed:
                return

    def _turn(self) -> list[tuple[list[int], "asyncio.Future[float]"]]:
        """The next to be scored, of those that are still waited for."""
        turn: list[tuple[list[int], asyncio.Future[float]]] = []
        room = FORWARDS * self.batch_tokens
        while self._waiting and (not turn or room >= len(self._waiting[0][0])):
            ids, future = self._waiting.popleft()
            if not future.done():
                turn.append((ids, future))
                room -= len(ids)
        return turn

    async def _run(self, turn: Sequence[tuple[list[int], "asyncio.Future[float]"]]) -> None:
        every = [ids for ids, _ in turn]
        try:
            rewards = await asyncio.to_thread(self._rewards, every)
        except Exception as error:  # those who wait must hear of it, whatever it is
            self.failure = error
            for _, future in turn:
                if not future.done():
                    future.set_exception(error)
            return
        self.failure = None  # of the latest turn: what has passed must not bar the server for good
        for (_, future), reward in zip(turn, rewards, strict=True):
            if not future.done():
                future.set_result(reward)

    def _rewards(self, every: Sequence[list[int]]) -> list[float]:
        found = []
        for batch in score.batches(self.tokenizer, every, self.batch_tokens):
            found.append(score.forward(self.model, batch))
            self._counts.update(tokens=len(batch.tokens), forwards=1)
        self._counts["conversations"] += len(every)
        return torch.cat(found).tolist()
