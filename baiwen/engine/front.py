"""The engine behind asyncio: one thread owns it, any number of tasks wait for what it gives.

    async with Front(engine) as front:
        submission = await front.submit("Hello", Sampling(max_tokens=64))
        async with aclosing(submission):               # cancelled, should the reader leave
            async for delta in submission:
                ...

The event loop never waits for the model: what a task wants lies in an inbox, which the thread
empties between two steps. A reader that leaves more than `buffer` deltas of a sample unread is
dropped: its request is cancelled, and it is told so when it reads on. Should the engine fail,
everyone who waits is told, and so is everyone who comes later.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import torch
from torch import Tensor

from baiwen.engine.embed import packed
from baiwen.engine.engine import GREEDY, Engine, Prompt
from baiwen.engine.request import Delta, Request
from baiwen.engine.sampler import Sampling
from baiwen.engine.submission import Closed, EngineFailed, QueueFull, Submission
from baiwen.errors import UserError

T = TypeVar("T")


class Front:
    """One engine for many tasks.

    max_waiting: prompts that may wait for their first token. buffer: deltas of a sample that its
    reader may leave unread.
    """

    def __init__(self, engine: Engine, *, max_waiting: int = 256, buffer: int = 4096) -> None:
        self.engine, self.max_waiting, self.buffer = engine, max_waiting, buffer
        self.failure: Exception | None = None
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._open: set[Submission] = set()
        self._jobs: set[asyncio.Future[Any]] = set()
        self._requests: dict[Request, Submission] = {}  # the worker's own
        self._batches: deque[Callable[[], None]] = deque()  # the same: one goes with each step
        self._closed = True
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    async def start(self) -> None:
        """Start the worker; once."""
        self._loop, self._closed = asyncio.get_running_loop(), False
        self._thread.start()

    async def stop(self) -> None:
        """Cancel what is under way and end the worker, after the step that it is in."""
        self._closed = True
        for submission in list(self._open):
            self._cancel(submission, Closed("the server is shutting down"))
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        for future in self._jobs:
            _fail(future, Closed("the server is shutting down"))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def submit(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Submission:
        """Hand in a prompt. UserError where it cannot be answered, QueueFull, Closed."""
        ids = await asyncio.to_thread(self.engine.ids, prompt)
        self.engine.check(ids, sampling)
        self._refuse()
        if self.waiting >= self.max_waiting:
            raise QueueFull(f"{self.waiting} prompts wait already")
        submission = Submission(ids, sampling.n, self.buffer, self._cancel)
        self._open.add(submission)
        self._inbox.put(partial(self._add, submission, sampling))
        return submission

    async def embed(
        self, prompts: Sequence[Prompt], pooling: Literal["mean", "last"] = "mean"
    ) -> Tensor:
        """`Engine.embed`, in batches between which the others get on."""
        self._refuse()
        every = [await asyncio.to_thread(self.engine.ids, prompt) for prompt in prompts]
        for ids in every:
            self.engine.check(ids, Sampling(max_tokens=0))
        batches = list(packed(every, self.engine.scheduler.step_tokens)) or [[]]
        return torch.cat([await self._run(partial(self.engine.embed, b, pooling)) for b in batches])

    @property
    def waiting(self) -> int:
        """Prompts that have given nothing yet."""
        return sum(not submission.started for submission in self._open)

    def stats(self) -> dict[str, float]:
        """Those of the engine."""
        return self.engine.stats()

    def _refuse(self) -> None:
        if self.failure is not None:
            raise self._failed()
        if self._closed:
            raise Closed("the server is shutting down")

    def _cancel(self, submission: Submission, error: Exception | None = None) -> None:
        """On the event loop: end a submission, and let the worker free what it has."""
        if submission in self._open:
            submission.drop(error)
            self._open.discard(submission)
            self._inbox.put(partial(self._drop, submission))

    def _end(self, submission: Submission, error: Exception | None) -> None:
        """On the event loop: nothing more will come."""
        submission.end(error)
        self._open.discard(submission)

    async def _run(self, job: Callable[[], T]) -> T:
        """Let the worker do something between two steps, of all that is asked one thing a time."""
        if self.failure is not None:
            raise self._failed()
        if not self._thread.is_alive():
            raise Closed("the server is shutting down")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.add(future)
        self._inbox.put(partial(self._batches.append, partial(self._do, job, future)))
        try:
            return await future
        finally:
            self._jobs.discard(future)

    # On the worker's thread.

    def _work(self) -> None:
        try:
            while self._listen():
                if self._batches:
                    self._batches.popleft()()
                found = self.engine.step()
                news = [(self._requests[request], request.error, d) for request, d in found]
                for request, _ in found:
                    if request.finished:
                        del self._requests[request]
                self._tell(self._deliver, news)
        except Exception as error:  # whatever it is, those who wait must hear of it
            self._tell(self._die, error)

    def _listen(self) -> bool:
        """Do what is asked; without work, wait for some. False when it is time to go."""
        while True:
            try:
                job = self._inbox.get(block=not self.engine.unfinished and not self._batches)
            except queue.Empty:
                return True
            if job is None:
                return False
            job()

    def _add(self, submission: Submission, sampling: Sampling) -> None:
        try:
            submission.request = self.engine.add(submission.prompt, sampling)
        except UserError as error:
            self._tell(self._end, submission, error)
        else:
            self._requests[submission.request] = submission

    def _drop(self, submission: Submission) -> None:
        request = submission.request
        if request is not None and request in self._requests:
            del self._requests[request]
            self.engine.cancel(request)

    def _do(self, job: Callable[[], T], future: "asyncio.Future[T]") -> None:
        if future.done():  # who asked has left
            return
        try:
            result = job()
        except Exception as error:  # the fault of who asked, who alone is told
            self._tell(_fail, future, error)
        else:
            self._tell(_give, future, result)

    def _tell(self, function: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(function, *args)

    # On the event loop.

    def _deliver(self, news: Iterable[tuple[Submission, Exception | None, list[Delta]]]) -> None:
        for submission, error, deltas in news:
            if submission not in self._open:  # it was cancelled while the step ran
                continue
            submission.take(deltas)
            if error is not None:
                self._end(submission, error)
            elif submission.ended:
                self._open.discard(submission)

    def _die(self, failure: Exception) -> None:
        self.failure = failure
        for submission in list(self._open):
            self._end(submission, self._failed())
        for future in self._jobs:
            _fail(future, self._failed())

    def _failed(self) -> EngineFailed:
        error = EngineFailed(f"the engine has failed: {self.failure}")
        error.__cause__ = self.failure
        return error


def _give(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[T]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
