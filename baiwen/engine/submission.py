"""A prompt that was handed in to a `Front`: its deltas as they come, and what may end it early.

    async with aclosing(submission):               # cancelled, should the reader leave
        async for delta in submission:
            ...

All of this is on the event loop but `request`, which the engine's thread sets.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

from baiwen.engine.reading import Sparsity
from baiwen.engine.request import Delta, Request, Token


class QueueFull(Exception):  # noqa: N818 - what happened, not a kind of error
    """As many prompts wait already as may."""


class Closed(Exception):  # noqa: N818 - what happened, not a kind of error
    """The front is shutting down, or has: it takes nothing more."""


class TooSlow(Exception):  # noqa: N818 - what happened, not a kind of error
    """The reader left too much unread, and its request was cancelled."""


class EngineFailed(Exception):  # noqa: N818 - what happened, not a kind of error
    """The engine has failed, by a fault of its own; `__cause__` says how."""


class Submission:
    """A prompt under way; iterating over it gives its deltas, or raises what has ended it."""

    def __init__(
        self,
        prompt: list[int],
        samples: int,
        buffer: int,
        cancel: Callable[["Submission", Exception | None], None],
    ) -> None:
        """buffer: deltas of a sample that may be left unread."""
        self.prompt = prompt
        self.request: Request | None = None
        self.started = self.ended = False  # whether anything has come, whether all has
        self._unfinished, self._most, self._cancel = samples, buffer * samples, cancel
        self._unread: deque[Delta] = deque()
        self._news = asyncio.Event()
        self._error: Exception | None = None

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that were in the cache already; known with the first delta."""
        return self.request.cached_tokens if self.request else 0

    @property
    def sparsity(self) -> Sparsity | None:
        """What was seen of a prompt that was read sparsely; known with the first delta."""
        return self.request.sparsity if self.request else None

    @property
    def prompt_tokens(self) -> list[Token]:
        """The prompt with its log-probabilities, if asked for; known with the first delta."""
        return self.request.prompt_tokens if self.request else []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        while not self._unread:
            if self._error is not None:
                raise self._error
            if self.ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._unread.popleft()

    def cancel(self, error: Exception | None = None) -> None:
        """Stop it, if it is not finished: its reader is told so by `error`, or by its end.

        What is unread is lost; its blocks are free before the next step.
        """
        self._cancel(self, error)

    async def aclose(self) -> None:
        """The same, for `contextlib.aclosing`."""
        self.cancel()

    def take(self, deltas: Iterable[Delta]) -> None:
        """What a step gave. A reader that has left too much unread is dropped."""
        self.started = True
        for delta in deltas:
            self._unread.append(delta)
            self._unfinished -= delta.finish_reason is not None
        if self._unfinished == 0:
            self.ended = True
        elif len(self._unread) > self._most:
            self.cancel(TooSlow(f"more than {self._most} deltas were left unread"))
        self._news.set()

    def end(self, error: Exception | None) -> None:
        """Nothing more will come; what is unread can still be read."""
        self.ended, self._error = True, error
        self._news.set()

    def drop(self, error: Exception | None) -> None:
        """Nothing more will come, and what is unread is lost."""
        self._unread.clear()
        self.end(error)
