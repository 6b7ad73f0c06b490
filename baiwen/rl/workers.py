"""Workers: engines in processes of their own, on this machine or others, placed by Ray.

    [workers]
    count = 8
    gpus = 1
    address = "auto"             # of a cluster that runs: `ray start --head`, `ray start --address`

    with cluster(workers, spec) as sampler:
        sampler.update_weights(whole(model))
        answers = sampler.generate(prompts, sampling)

The four calls are those of the engine in this process (`rollout.py`). Prompts are dealt out in
shares of a fixed size, each to the next worker that is free, and a worker forgets what it has
computed before each: so answers are a function of weights, seed and prompts, in the same bits with
any number of like workers. Weights are put into Ray's store once, as arrays; a worker that is given
a share takes those that it does not have yet, one at a time. A worker that dies, or says nothing
for `timeout` seconds, is started again, and its share is asked again.
"""

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from time import monotonic
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from baiwen import log, progress
from baiwen.config import Knobs
from baiwen.dist.devices import DTYPES
from baiwen.engine.engine import Engine
from baiwen.engine.request import Completion
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.rl.rollout import Local
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.tokenizer.vocabulary import Vocabulary

SLICE = 10.0  # seconds between two marks while workers answer

Weights = Iterable[tuple[str, Tensor]]
Ids = Sequence[int]


class Workers(Knobs):
    """Who rolls out, beside the process that trains."""

    count: Annotated[int, Field(ge=0)] = 0  # workers; 0: the engine of the training process
    gpus: Annotated[float, Field(ge=0)] = 0.0  # of a worker; 0: it computes on the CPU
    cpus: Annotated[float, Field(gt=0)] = 1.0  # of a worker
    address: str | None = None  # of the Ray cluster; none: one is started on this machine
    staleness: Annotated[int, Field(ge=0)] = 0  # updates that the weights of a rollout may be old
    share: Annotated[int, Field(gt=0)] = 16  # prompts that a worker is asked at a time
    timeout: Annotated[float, Field(gt=0)] = 900.0  # seconds to start, or to answer a share
    tries: Annotated[int, Field(gt=0)] = 3  # times that a share is asked before the run gives up
    store: Annotated[int, Field(gt=0)] | None = None  # bytes of the store of a cluster started here


@dataclass(frozen=True)
class Spec:
    """What a worker needs to have an engine: everything but the weights."""

    config: ModelConfig
    vocabulary: Vocabulary
    cache_tokens: int
    sequences: int
    dtype: str  # of matmuls: bfloat16, float32
    routes: bool = False  # whether they tell the experts that tokens went to


class Worker:
    """An engine in a process of its own."""

    def __init__(self, spec: Spec, gpu: bool, threads: int) -> None:
        torch.set_num_threads(threads)
        device = torch.device("cuda" if gpu else "cpu")
        model = Transformer(spec.config).requires_grad_(False).to(device)
        engine = Engine(
            model,
            Tokenizer(spec.vocabulary),
            cache_tokens=spec.cache_tokens,
            sequences=spec.sequences,
            routes=spec.routes,
        )
        dtype = DTYPES[spec.dtype]
        self._local = Local(
            engine, lambda: torch.autocast(device.type, dtype, dtype == torch.bfloat16)
        )
        self._version = 0

    def ready(self) -> int:
        """The number of its process, once there is an engine."""
        return os.getpid()

    def generate(
        self, version: int, weights: Mapping[str, Any], prompts: Sequence[Ids], sampling: Sampling
    ) -> list[Completion]:
        """The answers to a share of the prompts; weights: places in Ray's store, by name."""
        if version != self._version:
            ray = _ray()
            self._local.update_weights(
                (name, torch.tensor(ray.get(place))) for name, place in weights.items()
            )
            self._version = version
        self._local.pause()
        return list(self._local.generate(prompts, sampling))


@dataclass
class Asked:
    """A share that a worker is at."""

    share: list[int]  # places of its prompts
    worker: int
    tries: int  # this one included
    until: float  # when patience ends, by the monotonic clock


class Cluster:
    """The sampler: all workers together."""

    def __init__(self, knobs: Workers, spec: Spec) -> None:
        ray = self._ray = _ray()
        self._knobs = knobs
        threads = max(1, int(knobs.cpus))
        place = ray.remote(num_cpus=knobs.cpus, num_gpus=knobs.gpus)(Worker)
        told = ray.put(spec)
        self._start = lambda: place.remote(told, knobs.gpus > 0, threads)
        self._workers = [self._start() for _ in range(knobs.count)]
        self._version, self._weights = 0, dict[str, Any]()
        self._counts = Counter[str]()
        self._await_all()

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> list[Completion]:
        """Ask the workers, share by share, each as soon as it is free."""
        found: dict[int, list[Completion]] = {}
        waiting = deque((share, 1) for share in shares(prompts, self._knobs.share))
        free = deque(range(len(self._workers)))
        under_way: dict[Any, Asked] = {}
        while waiting or under_way:
            while waiting and free:
                share, tries = waiting.popleft()
                asked = Asked(share, free.popleft(), tries, monotonic() + self._knobs.timeout)
                under_way[self._ask(asked, prompts, sampling)] = asked
            for reference in self._settled(under_way):
                asked = under_way.pop(reference)
                answers = self._answers(reference, asked)
                free.append(asked.worker)
                if answers is None:
                    waiting.appendleft((asked.share, asked.tries + 1))
                else:
                    found |= zip(asked.share, batched(answers, sampling.n), strict=True)
        self._count(prompts, found)
        return [answer for place in range(len(prompts)) for answer in found[place]]

    def update_weights(self, weights: Weights) -> None:
        """Put them where the workers find them; they take them with their next share."""
        put = self._ray.put
        self._weights = {name: put(tensor.float().cpu().numpy()) for name, tensor in weights}
        self._version += 1

    def pause(self) -> None:
        """Nothing: what workers hold is their own."""

    def stats(self) -> Mapping[str, float]:
        """Counts since the start: prompts read, tokens generated, workers started again."""
        return dict(self._counts)

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            self._ray.kill(worker)

    def _ask(self, asked: Asked, prompts: Sequence[Ids], sampling: Sampling) -> Any:  # noqa: ANN401
        """Ray's reference to the answers to come."""
        theirs = [list(prompts[place]) for place in asked.share]
        worker = self._workers[asked.worker]
        return worker.generate.remote(self._version, self._weights, theirs, sampling)

    def _settled(self, under_way: Mapping[Any, Asked]) -> list[Any]:
        """Those that are answered, or that were waited for too long."""
        progress.mark()  # their time is bounded here, whatever the other ranks wait for
        left = min(asked.until for asked in under_way.values()) - monotonic()
        done, rest = self._ray.wait(list(under_way), timeout=min(max(0.0, left), SLICE))
        return done or [late for late in rest if under_way[late].until <= monotonic()]

    def _answers(self, reference: Any, asked: Asked) -> list[Completion] | None:  # noqa: ANN401
        """Those of a share; None where its worker is gone, and another takes its place."""
        errors = self._ray.exceptions
        try:
            answers: list[Completion] = self._ray.get(reference, timeout=0)
        except errors.RayTaskError as error:  # of our own code: it would fail again
            raise UserError(f"a rollout worker failed: {error.cause}") from error
        except errors.RayError as error:
            told = str(error).splitlines()[0]
            if asked.tries == self._knobs.tries:
                raise UserError(
                    f"a share of the prompts was asked {asked.tries} times (workers.tries), and "
                    f"each time its worker died or said nothing for {self._knobs.timeout:g} s "
                    f"(workers.timeout): {told}"
                ) from error
            log.say(f"rollout worker {asked.worker} is started again: {told}")
            self._ray.kill(self._workers[asked.worker])
            self._workers[asked.worker] = self._start()
            self._counts["restarts"] += 1
            return None
        return answers

    def _await_all(self) -> None:
        """UserError where the workers find no place in time."""
        ray, knobs = self._ray, self._knobs
        try:
            ray.get([worker.ready.remote() for worker in self._workers], timeout=knobs.timeout)
        except ray.exceptions.RayError as error:
            there = {name: ray.cluster_resources().get(name, 0) for name in ("CPU", "GPU")}
            raise UserError(
                f"{knobs.count} rollout workers of {knobs.cpus:g} CPUs and {knobs.gpus:g} GPUs "
                f"were not ready after {knobs.timeout:g} s; the cluster has {there['CPU']:g} CPUs "
                f"and {there['GPU']:g} GPUs.\nLower workers.count, workers.cpus or workers.gpus. "
                f"Ray says: {str(error).splitlines()[0]}"
            ) from error

    def _count(self, prompts: Sequence[Ids], found: Mapping[int, Sequence[Completion]]) -> None:
        self._counts["prompt_tokens"] += sum(map(len, prompts))
        self._counts["generated_tokens"] += sum(
            len(answer.tokens) for answers in found.values() for answer in answers
        )


@contextmanager
def cluster(knobs: Workers, spec: Spec) -> Iterator[Cluster]:
    """The workers, in a cluster that runs or in one that lives as long as they do.

    UserError where there is no Ray, no cluster at the address, too small a store, or no room.
    """
    ray = _ray()
    here = {"include_dashboard": False, "object_store_memory": knobs.store}
    try:
        ray.init(
            knobs.address or "local",
            log_to_driver=False,
            logging_level="error",
            **({} if knobs.address else here),
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        told = "start the rollout workers" if knobs.address is None else f"reach {knobs.address!r}"
        raise UserError(f"Ray cannot {told} (workers.address, workers.store): {error}") from error
    try:
        workers = Cluster(knobs, spec)
        yield workers
        workers.close()
    finally:
        ray.shutdown()


def shares(prompts: Sequence[Ids], size: int) -> list[list[int]]:
    """Places of the prompts, in shares of at least `size` but for the last.

    Equal prompts are in one share, in their order: the second is answered otherwise than the first.
    """
    equal: dict[tuple[int, ...], list[int]] = {}
    for place, prompt in enumerate(prompts):
        equal.setdefault(tuple(prompt), []).append(place)
    made: list[list[int]] = []
    for places in equal.values():
        if not made or len(made[-1]) >= size:
            made.append([])
        made[-1] += places
    return made


def batched(answers: Sequence[Completion], size: int) -> Iterator[list[Completion]]:
    """The answers of the first prompt, then of the second, ..."""
    return (list(answers[first : first + size]) for first in range(0, len(answers), size))


def _ray() -> Any:  # noqa: ANN401 - a library that may not be there
    """Ray, which sends no word of its use to anybody from here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return import_module("ray")
    except ImportError as error:
        raise UserError("workers need Ray: pip install baiwen[cluster]") from error
