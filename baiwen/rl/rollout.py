"""Rollouts: prompts in ids to answers in ids, with the sampler's own log-probabilities.

    sampler = Local(Engine(model, tokenizer))
    sampler.update_weights(whole(model))                     # after every update
    groups = roll_out(sampler, prompts, sampling, room=1024)  # sampling.n answers of each prompt

What samples is behind four calls: `generate`, `update_weights`, `pause`, `stats`. The engine in
this process is one; it answers with the very weights that train, reads a prompt once for its group,
and the ids that it drew are those that are trained on: nothing is decoded and encoded again.

An answer may have several turns: where `respond` has something to say to a turn (the output of a
tool, and the head of the next turn), those ids go on in the same answer, with mask 0, since the
model did not choose them.

Of a mixture whose engine tells them, the experts of every token come with the answer, so that the
model that trains sends tokens to the same ones (R3: Ma et al., 2025, 2510.11370).
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from baiwen import progress
from baiwen.engine.engine import Engine
from baiwen.engine.request import Completion
from baiwen.engine.sampler import Sampling
from baiwen.train import dtensor

THREADS = 8  # turns that are answered at once

Ids = Sequence[int]
Weights = Iterable[tuple[str, Tensor]]  # names and whole tensors
# The ids that follow a turn of the answer to this prompt (its place in the list); none: it is over.
Respond = Callable[[int, Completion], Sequence[int]]


class Sampler(Protocol):
    """What rolls out: the engine of this process, or workers elsewhere."""

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> Sequence[Completion]:
        """`sampling.n` answers of the first prompt, then of the second, as they were drawn.

        With a seed they are a function of weights, seed and prompt; a prompt that is given twice
        gets other answers the second time.
        """

    def update_weights(self, weights: Weights) -> None:
        """Answer with these weights from here on: names and whole tensors.

        All of them are taken, one at a time: each may be gathered from other ranks as it is asked
        for.
        """

    def pause(self) -> None:
        """Nothing is asked for until the next `update_weights`."""

    def stats(self) -> Mapping[str, float]:
        """Counts since the start."""


class Local:
    """The engine in this process.

    Its model is the one that trains; or, where that one is split over ranks, a whole copy, which
    takes over the weights. `context` is what the forward passes of training run in.
    """

    def __init__(
        self, engine: Engine, context: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self.engine, self.context = engine, context
        self._weights = dict(engine.model.named_parameters())

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> Sequence[Completion]:
        """Answer all of them together."""
        with self.context():
            return self.engine.generate(prompts, sampling)

    @torch.no_grad()
    def update_weights(self, weights: Weights) -> None:
        """Copy what is not the same tensor, and forget what other weights have computed."""
        for name, tensor in weights:
            if self._weights[name].data_ptr() != tensor.data_ptr():
                self._weights[name].copy_(tensor)
        self.engine.reset_cache()

    def pause(self) -> None:
        """Give back all blocks of the cache."""
        self.engine.reset_cache()

    def stats(self) -> Mapping[str, float]:
        """Those of the engine."""
        return self.engine.stats()


def whole(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights by name, gathered from all ranks one at a time where they are split."""
    for name, parameter in model.named_parameters():
        yield name, dtensor.whole(parameter)


@dataclass(frozen=True)
class Answer:
    """All turns of an answer; `mask` is 0 for the tokens that the model did not choose."""

    ids: list[int]
    mask: list[float]
    logprobs: list[float]  # of the sampler, 0 where mask is 0
    text: str  # what the last turn says
    finish: str  # stop, length
    turns: int = 1
    # Experts of the prompt's tokens and of these but the last, base64 of `Completion.routes`.
    routes: str = ""

    @classmethod
    def of(cls, turn: Completion) -> "Answer":
        """That of a single turn."""
        routes = b64encode(turn.routes).decode()
        mask = [1.0] * len(turn.ids)
        return cls(turn.ids, mask, turn.logprobs, turn.text, turn.finish_reason, routes=routes)

    @property
    def truncated(self) -> bool:
        """Whether it was cut off."""
        return self.finish == "length"

    def then(self, given: Sequence[int], turn: Completion) -> "Answer":
        """The answer with what was said to it and what it says next."""
        quiet = [0.0] * len(given)
        return Answer(
            [*self.ids, *given, *turn.ids],
            [*self.mask, *quiet, *[1.0] * len(turn.ids)],
            [*self.logprobs, *quiet, *turn.logprobs],
            turn.text,
            turn.finish_reason,
            self.turns + 1,
            self._routes_then(turn),
        )

    def _routes_then(self, turn: Completion) -> str:
        """What this turn was drawn by; of the next, whose prompt it is, only what comes after."""
        mine = b64decode(self.routes)
        return b64encode(mine + turn.routes[len(mine) :]).decode()


def roll_out(
    sampler: Sampler,
    prompts: Sequence[Ids],
    sampling: Sampling,
    *,
    room: int,
    respond: Respond | None = None,
    turns: int = 1,
) -> list[list[Answer]]:
    """`sampling.n` answers of each prompt, of up to `turns` turns of `sampling.max_tokens` each.

    room: the most tokens of a prompt and its answer; one without room for another whole turn ends
    as truncated. respond: is called from several threads.
    """
    sampling = replace(sampling, tempered=True)
    said = list(sampler.generate(prompts, sampling))
    answers = [Answer.of(turn) for turn in said]
    under_way = dict(enumerate(said))
    for _ in range(1, turns if respond else 1):
        assert respond
        ended = [number for number, turn in under_way.items() if turn.finish_reason == "stop"]
        with ThreadPoolExecutor(THREADS) as pool:  # some tools take their time
            said_to = pool.map(
                respond,
                [number // sampling.n for number in ended],
                [under_way[number] for number in ended],
            )
            given = dict(zip(ended, progress.marked(said_to), strict=True))
        contexts = {}
        for number, ids in given.items():
            context = [*prompts[number // sampling.n], *answers[number].ids, *ids]
            if ids and len(context) + sampling.max_tokens <= room:
                contexts[number] = context
            elif ids:
                answers[number] = replace(answers[number], finish="length")
        said = list(sampler.generate(list(contexts.values()), replace(sampling, n=1)))
        under_way = dict(zip(contexts, said, strict=True))
        for number, turn in under_way.items():
            answers[number] = answers[number].then(given[number], turn)
    return [answers[first : first + sampling.n] for first in range(0, len(answers), sampling.n)]
