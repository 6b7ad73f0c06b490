"""Many tasks on many processes, with the answers in the order of the tasks.

    for counts in ordered(count_words, paths, workers=4):
        ...                             # as map(count_words, paths), only faster
    with Pool(workers=4) as pool:       # the same processes for several rounds of work
        first = list(pool.map(read, chunks))
        second = list(pool.map(clean, first))

The function and the tasks are pickled by multiprocessing itself; nothing of it reaches the disk.
A process that dies (most often the system has killed it for want of memory) takes the others with
it; what they were at is done again one by one, and the task that kills its process again is named.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Any, Self, TypeVar

from baiwen import log
from baiwen.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered(function: Callable[[T], R], tasks: Iterable[T], workers: int = 0) -> Iterator[R]:
    """`Pool.map` with processes of its own."""
    with Pool(workers) as pool:
        yield from pool.map(function, tasks)


class Pool:
    """Processes that work on one task after the other; they start with the first task."""

    def __init__(self, workers: int = 0) -> None:
        """workers: processes; 0 is one a core, and one is none but this."""
        self.workers = workers or cores()
        self._processes: ProcessPoolExecutor | None = None
        # Spawned, not forked: the parent may hold threads (torch, tokenizers, a progress bar).
        self._context = multiprocessing.get_context("spawn")
        self._stopped = self._context.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Yield `function(task)` for every task, in order; an exception of a task is raised here.

        function: of a module's top level, or a `partial` of one; without effects that a second
        call would change. tasks: drawn only as fast as they are worked on, so memory is bounded by
        `2 * workers` tasks and answers.
        """
        if self.workers == 1:
            yield from map(function, tasks)
            return
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            for task in tasks:
                waiting.append((task, self._submit(function, task)))
                if len(waiting) >= 2 * self.workers:
                    yield self._first(function, waiting)
            while waiting:
                yield self._first(function, waiting)
        except (KeyboardInterrupt, SystemExit) as stop:
            self._stopped.set()  # what a worker has in its queue is not begun
            if isinstance(stop, SystemExit):  # of Ctrl-C the terminal tells the workers too
                for process in multiprocessing.active_children():
                    process.terminate()
            raise
        except BaseException:
            for _, future in waiting:
                future.cancel()
            raise
        finally:
            # None is cancelled whose process may have been ended: concurrent.futures would fail to
            # tell the others (InvalidStateError, Python 3.11) and they would be waited for forever.
            wait([future for _, future in waiting])

    def _first(self, function: Callable[[T], R], waiting: deque[tuple[T, Future[R]]]) -> R:
        """The answer to the task that has waited longest."""
        try:
            answer = waiting[0][1].result()
        except BrokenProcessPool:
            log.say("a worker process died: what was under way is done again, one by one")
            self._again(function, waiting)
            answer = waiting[0][1].result()
        waiting.popleft()
        return answer

    def _again(self, function: Callable[[T], R], waiting: deque[tuple[T, Future[R]]]) -> None:
        """Work on what a dead process has left, so that only one can die at a time."""
        for place, (task, future) in enumerate(waiting):
            if future.done() and not isinstance(future.exception(), BrokenProcessPool):
                continue
            again = self._submit(function, task)
            wait([again])
            if isinstance(again.exception(), BrokenProcessPool):
                raise UserError(
                    f"a worker process died at {_short(task)}, and again when it worked on nothing "
                    "else: most likely for want of memory. Use fewer workers, or smaller pieces"
                )
            waiting[place] = task, again

    def _submit(self, function: Callable[[T], R], task: T) -> Future[R]:
        try:
            return self._started().submit(_unless_stopped, function, task)
        except BrokenProcessPool:  # a process died since
            self._stop()
            return self._started().submit(_unless_stopped, function, task)

    def _started(self) -> ProcessPoolExecutor:
        if self._processes is None:
            self._processes = ProcessPoolExecutor(
                self.workers,
                mp_context=self._context,
                initializer=_follow_parent,
                initargs=(self._stopped,),
            )
        return self._processes

    def _stop(self) -> None:
        if self._processes is not None:
            self._processes.shutdown(cancel_futures=True)
            self._processes = None


def _short(task: Any) -> str:  # noqa: ANN401
    told = str(task)
    return told if len(told) <= 200 else f"{told[:200]} ..."


def _unless_stopped(function: Callable[[T], R], task: T) -> R:
    """In a worker: the answer, or the end that the parent is at."""
    if _STOPPED[0].is_set():
        raise KeyboardInterrupt
    return function(task)


_STOPPED: list[Event] = []  # of a worker: whether its parent begins nothing more


def _follow_parent(stopped: Event) -> None:
    """End this worker when its parent ends, also by kill -9, which tells no child.

    Ctrl-C goes to all processes of a terminal: what it means is for the parent to say.
    """
    _STOPPED.append(stopped)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
