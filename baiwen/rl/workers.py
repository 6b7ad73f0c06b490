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
a share takes those that it does not have yet, one at a time. A worker that dies, or does not get on
for `timeout` seconds, is started again, and its share is asked again (`dist/crew.py`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from baiwen.dist import crew
from baiwen.dist.crew import Call, Crew, Placed
from baiwen.dist.devices import DTYPES
from baiwen.engine.engine import Engine
from baiwen.engine.request import Completion
from baiwen.engine.sampler import Sampling
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.rl.rollout import Ids, Local, Weights
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.tokenizer.vocabulary import Vocabulary


class Workers(Placed):
    """Who rolls out, beside the process that trains."""

    count: Annotated[int, Field(ge=0)] = 0  # workers; 0: the engine of the training process
    staleness: Annotated[int, Field(ge=0)] = 0  # updates that the weights of a rollout may be old
    share: Annotated[int, Field(gt=0)] = 16  # prompts that a worker is asked at a time
    tries: Annotated[int, Field(gt=0)] = 3  # times that a share is asked before the run gives up


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

    def generate(
        self, version: int, weights: Mapping[str, Any], prompts: Sequence[Ids], sampling: Sampling
    ) -> list[Completion]:
        """The answers to a share of the prompts; weights: places in Ray's store, by name."""
        if version != self._version:
            ray = crew.library()
            self._local.update_weights(
                (name, torch.tensor(ray.get(place))) for name, place in weights.items()
            )
            self._version = version
        self._local.pause()
        return list(self._local.generate(prompts, sampling))


class Cluster:
    """The sampler: all workers together."""

    def __init__(self, knobs: Workers, spec: Spec) -> None:
        self._share = knobs.share
        self._crew = Crew(knobs, Worker, spec, knobs.gpus > 0, knobs.threads)
        self._version, self._weights = 0, dict[str, Any]()
        self._counts = Counter[str]()

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> list[Completion]:
        """Ask the workers, share by share, each as soon as it is free."""
        asked = shares(prompts, self._share)
        calls = [self._call(share, prompts, sampling) for share in asked]
        found: dict[int, list[Completion]] = {}
        for number, answers in self._crew.ask(calls):
            found |= zip(asked[number], batched(answers, sampling.n), strict=True)
        self._count(prompts, found)
        return [answer for place in range(len(prompts)) for answer in found[place]]

    def update_weights(self, weights: Weights) -> None:
        """Put them where the workers find them; they take them with their next share."""
        put = crew.library().put
        self._weights = {name: put(tensor.float().cpu().numpy()) for name, tensor in weights}
        self._version += 1

    def pause(self) -> None:
        """Nothing: what workers hold is their own."""

    def stats(self) -> Mapping[str, float]:
        """Counts since the start: prompts read, tokens generated, workers started again."""
        return dict(self._counts) | {"restarts": self._crew.restarts}

    def close(self) -> None:
        """End the workers."""
        self._crew.close()

    def _call(self, share: Sequence[int], prompts: Sequence[Ids], sampling: Sampling) -> Call:
        theirs = [list(prompts[place]) for place in share]
        given = self._version, self._weights, theirs, sampling
        return Call("a share of the prompts", "generate", given)

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
    with crew.joined(knobs):
        workers = Cluster(knobs, spec)
        yield workers
        workers.close()


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
