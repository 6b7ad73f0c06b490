"""Many tasks on many processes, with the answers in the order of the tasks.

    for counts in ordered(count_words, paths, workers=4):
        ...                             # as map(count_words, paths), only faster

The function and the tasks are pickled by multiprocessing itself; nothing of it reaches the disk.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from baiwen.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered(function: Callable[[T], R], tasks: Iterable[T], workers: int = 0) -> Iterator[R]:
    """Yield `function(task)` for every task, in order; an exception of a task is raised here.

    function: of a module's top level. tasks: drawn only as fast as they are worked on, so memory is
    bounded by `2 * workers` tasks and answers. workers: processes; 0 is one a core, and one is none
    but this.
    """
    workers = workers or cores()
    if workers == 1:
        yield from map(function, tasks)
        return
    # Spawned, not forked: the parent may hold threads (torch, tokenizers, a progress bar).
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, most likely for want of memory: use fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """End this worker when its parent ends, also by kill -9, which tells no child."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
