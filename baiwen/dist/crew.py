"""A crew: workers in processes of their own, on this machine or others, placed by Ray.

    with joined(placed):                        # a cluster that runs, or one of this machine
        crew = Crew(placed, Engine, spec)       # placed.count times Engine(spec)
        for place, answer in crew.ask([Call("a share", "generate", (prompts,)), ...]):
            ...                                 # as they come
        crew.close()

Each worker answers one call at a time. One that dies, or says nothing for `timeout` seconds, is
started again, and its call is made again, `tries` times in all; an error of the call itself is
raised at once. Calls and answers travel by Ray and touch no disk of ours.
"""

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from time import monotonic
from typing import Annotated, Any

from pydantic import Field

from baiwen import log, progress
from baiwen.config import Knobs
from baiwen.errors import UserError

SLICE = 10.0  # seconds between two marks while workers answer
START = 900.0  # seconds within which all workers have started


class Placed(Knobs):
    """Workers that Ray places."""

    count: Annotated[int, Field(gt=0)] = 1  # workers, each a process
    gpus: Annotated[float, Field(ge=0)] = 0.0  # of a worker; 0: it computes on the CPU
    cpus: Annotated[float, Field(gt=0)] = 1.0  # of a worker
    address: str | None = None  # of the Ray cluster; none: one is started on this machine
    timeout: Annotated[float, Field(gt=0)] = 86_400.0  # seconds to answer a call
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
    until: float  # when patience ends, by the monotonic clock


class Crew:
    """The workers, all of one class."""

    def __init__(self, placed: Placed, made: Callable[..., object], *given: object) -> None:
        ray = self._ray = library()
        self._placed = placed
        kind = ray.remote(num_cpus=placed.cpus, num_gpus=placed.gpus)(made)
        told = [ray.put(one) for one in given]
        self._start = lambda: kind.remote(*told)
        self.workers = [self._start() for _ in range(placed.count)]
        self.restarts = 0  # workers that were started again
        self._await_all()

    def ask(self, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        """The place of each call and its answer, as they come; each goes to the next free worker.

        UserError where a call fails, or `tries` workers died of it or said nothing in time.
        """
        waiting = deque((place, 1) for place in range(len(calls)))
        free = deque(range(len(self.workers)))
        under_way: dict[Any, Asked] = {}
        while waiting or under_way:
            while waiting and free:
                place, tries = waiting.popleft()
                until = monotonic() + self._placed.timeout
                asked = Asked(place, free.popleft(), tries, until)
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
            self._ray.kill(worker)

    def _made(self, asked: Asked, call: Call) -> Any:  # noqa: ANN401
        """Ray's reference to the answer to come."""
        return getattr(self.workers[asked.worker], call.method).remote(*call.given)

    def _settled(self, under_way: Mapping[Any, Asked]) -> list[Any]:
        """Those that are answered, or that were waited for too long."""
        progress.mark()  # their time is bounded here, whatever other ranks wait for
        left = min(asked.until for asked in under_way.values()) - monotonic()
        done, rest = self._ray.wait(list(under_way), timeout=min(max(0.0, left), SLICE))
        return done or [late for late in rest if under_way[late].until <= monotonic()]

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
                    f"worker died or said nothing for {self._placed.timeout:g} s "
                    f"(workers.timeout): {told}"
                ) from error
            log.say(f"worker {asked.worker}, at {name}, is started again: {told}")
            self._ray.kill(self.workers[asked.worker])
            self.workers[asked.worker] = self._start()
            self.restarts += 1
            return None

    def _await_all(self) -> None:
        """UserError where the workers find no place in time, or one cannot start."""
        ray, placed = self._ray, self._placed
        patience = min(START, placed.timeout)
        try:
            ray.get([worker.__ray_ready__.remote() for worker in self.workers], timeout=patience)
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
