"""A crew: workers in processes of their own, on this machine or others, placed by Ray.

    with joined(placed):                        # a cluster that runs, or one of this machine
        crew = Crew(placed, Engine, spec)       # placed.count times Engine(spec)
        for place, answer in crew.ask([Call("a share", "generate", (prompts,)), ...]):
            ...                                 # as they come
        crew.close()

Each worker answers one call at a time, as long as that takes: a thread of it tells the marks that
it makes of getting on (`progress.py`). One that dies, or makes no mark for `timeout` seconds, is
started again, and its call is made again, `tries` times in all; an error of the call itself is
raised at once. Calls and answers travel by Ray and touch no disk of ours.
"""

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from time import monotonic
from typing import Annotated, Any
from uuid import uuid4

from pydantic import Field

from baiwen import log, progress
from baiwen.config import Knobs
from baiwen.errors import UserError

SLICE = 10.0  # seconds between two marks while workers answer, and two looks at those of a worker
BEAT = 1.0  # seconds between two looks of a worker at its own marks, to tell of more
START = 900.0  # seconds within which all workers have started


class Placed(Knobs):
    """Workers that Ray places."""

    count: Annotated[int, Field(gt=0)] = 1  # workers, each a process
    gpus: Annotated[float, Field(ge=0)] = 0.0  # of a worker; 0: it computes on the CPU
    cpus: Annotated[float, Field(gt=0)] = 1.0  # of a worker
    address: str | None = None  # of the Ray cluster; none: one is started on this machine
    timeout: Annotated[float, Field(gt=0)] = 900.0  # seconds to start, or to get on with a call
    tries: Annotated[int, Field(gt=0)] = 2  # times that a call is made before the run gives up
    store: Annotated[int, Field(gt=0)] | None = None  # bytes of the store of a cluster started here

    @property
    def threads(self) -> int:
        """Of a worker on the CPU."""
        return max(1, int(self.cpus))


@dataclass(frozen=True)
class Call:
    """What a worker is asked for."""

    name: str  # in the words of an error
    method: str
    given: tuple[Any, ...]


@dataclass
class Asked:
    """A call that a worker is at."""

    place: int  # among the calls
    worker: int
    tries: int  # this one included
    heard: float  # when it has last got on, by the monotonic clock
    marks: bytes | None = None  # that it had made by then


@dataclass(frozen=True)
class Worker:
    """One that was started."""

    name: str  # under which it tells its marks
    actor: Any  # Ray's handle


class Crew:
    """The workers, all of one class."""

    def __init__(self, placed: Placed, made: Callable[..., object], *given: object) -> None:
        ray = self._ray = library()
        _told()  # or an error before anything is started
        self._placed = placed
        self._kind = ray.remote(num_cpus=placed.cpus, num_gpus=placed.gpus)(Telling)
        self._given = [ray.put(one) for one in (made, *given)]
        self.workers = [self._start() for _ in range(placed.count)]
        self.restarts = 0  # workers that were started again
        self._await_all()

    def ask(self, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        """The place of each call and its answer, as they come; each goes to the next free worker.

        UserError where a call fails, or `tries` workers died of it or did not get on.
        """
        waiting = deque((place, 1) for place in range(len(calls)))
        free = deque(range(len(self.workers)))
        under_way: dict[Any, Asked] = {}
        while waiting or under_way:
            while waiting and free:
                place, tries = waiting.popleft()
                asked = Asked(place, free.popleft(), tries, monotonic())
                under_way[self._made(asked, calls[place])] = asked
            for reference in self._settled(under_way):
                asked = under_way.pop(reference)
                answer = self._answer(reference, asked, calls[asked.place].name)
                free.append(asked.worker)
                if answer is None:
                    waiting.appendleft((asked.place, asked.tries + 1))
                else:
                    yield asked.place, answer[0]

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            self._end(worker)

    def _start(self) -> Worker:
        name = uuid4().hex
        return Worker(name, self._kind.remote(name, *self._given))

    def _end(self, worker: Worker) -> None:
        self._ray.kill(worker.actor)
        _told()._internal_kv_del(worker.name)

    def _made(self, asked: Asked, call: Call) -> Any:  # noqa: ANN401
        """Ray's reference to the answer to come."""
        return self.workers[asked.worker].actor.answer.remote(call.method, *call.given)

    def _settled(self, under_way: Mapping[Any, Asked]) -> list[Any]:
        """Those that are answered, or that have not got on for too long."""
        progress.mark()  # their time is bounded here, whatever other ranks wait for
        patience = self._placed.timeout
        pause = min(SLICE, patience / 4)
        done, rest = self._ray.wait(list(under_way), timeout=pause)
        for asked in map(under_way.__getitem__, rest):
            if monotonic() - asked.heard >= pause:
                marks = _told()._internal_kv_get(self.workers[asked.worker].name)
                if marks != asked.marks:
                    asked.marks, asked.heard = marks, monotonic()
        return done or [late for late in rest if monotonic() - under_way[late].heard >= patience]

    def _answer(self, reference: Any, asked: Asked, name: str) -> tuple[Any] | None:  # noqa: ANN401
        """The answer, alone; None where its worker is gone, and another takes its place."""
        errors = self._ray.exceptions
        try:
            return (self._ray.get(reference, timeout=0),)
        except errors.RayTaskError as error:  # of our own code: it would fail again
            raise UserError(f"{_worker(error)} failed at {name}: {error.cause}") from error
        except errors.RayError as error:
            told = str(error).splitlines()[0]
            if asked.tries == self._placed.tries:
                raise UserError(
                    f"{name} was asked for {asked.tries} times (workers.tries), and each time its "
                    f"worker died or did not get on for {self._placed.timeout:g} s "
                    f"(workers.timeout): {told}"
                ) from error
            log.say(f"worker {asked.worker}, at {name}, is started again: {told}")
            self._end(self.workers[asked.worker])
            self.workers[asked.worker] = self._start()
            self.restarts += 1
            return None

    def _await_all(self) -> None:
        """UserError where the workers find no place in time, or one cannot start."""
        ray, placed = self._ray, self._placed
        patience = min(START, placed.timeout)
        try:
            ready = [worker.actor.__ray_ready__.remote() for worker in self.workers]
            ray.get(ready, timeout=patience)
        except ray.exceptions.GetTimeoutError as error:
            there = {name: ray.cluster_resources().get(name, 0) for name in ("CPU", "GPU")}
            raise UserError(
                f"{placed.count} workers of {placed.cpus:g} CPUs and {placed.gpus:g} GPUs were not "
                f"ready after {patience:g} s; the cluster has {there['CPU']:g} CPUs and "
                f"{there['GPU']:g} GPUs.\nLower workers.count, workers.cpus or workers.gpus."
            ) from error
        except ray.exceptions.RayError as error:
            told = str(error).splitlines()[-1]  # of the worker's traceback
            raise UserError(f"{_worker(error)} did not start: {told}") from error


class Telling:
    """A worker in its own process: what was made there, and a thread that tells its marks."""

    def __init__(self, name: str, made: Callable[..., object], *given: object) -> None:
        threading.Thread(target=_tell, args=(name,), daemon=True).start()
        self._made = made(*given)

    def answer(self, method: str, *given: object) -> Any:  # noqa: ANN401
        """What a method of it gives."""
        return getattr(self._made, method)(*given)


def _tell(name: str) -> None:
    """Leave the number of this process's marks under a name, as often as there are more."""
    before = -1
    while True:
        marks = progress.marks()
        if marks != before:
            _told()._internal_kv_put(name, str(marks), overwrite=True)
        before = marks
        time.sleep(BEAT)


def _told() -> Any:  # noqa: ANN401 - a library that may not be there
    """Where workers tell: the cluster's own store of words, by which Ray's libraries speak."""
    ray = library()
    try:
        return import_module("ray.experimental.internal_kv")
    except ImportError as error:
        raise UserError(
            f"Ray {ray.__version__} has no ray.experimental.internal_kv, by which workers tell "
            "that they get on: install one that has it, such as 2.60"
        ) from error


def _worker(error: Exception) -> str:
    """The worker of an error of Ray's, with its machine where that is told."""
    place = re.search(r"ip=([\w.:]+)", str(error))
    return f"a worker on {place[1]}" if place else "a worker"


@contextmanager
def joined(placed: Placed) -> Iterator[None]:
    """Within a cluster that runs, or in one of this machine that lives as long as the context.

    UserError where there is no Ray, no cluster at the address, or too small a store.
    """
    ray = library()
    here = {"include_dashboard": False, "object_store_memory": placed.store}
    try:
        ray.init(
            placed.address or "local",
            log_to_driver=False,
            logging_level="error",
            **({} if placed.address else here),
        )
    except Exception as error:  # where its processes are slow to start, Ray raises no finer kind
        told = "start workers here" if placed.address is None else f"reach {placed.address!r}"
        raise UserError(f"Ray cannot {told} (workers.address, workers.store): {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def library() -> Any:  # noqa: ANN401 - a library that may not be there
    """Ray, which sends no word of its use to anybody from here; UserError without it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return import_module("ray")
    except ImportError as error:
        raise UserError("workers need Ray: pip install baiwen[cluster]") from error
