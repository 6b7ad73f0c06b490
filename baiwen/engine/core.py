"""The loop of an engine: one forward a step, and what it gives each request.

    core = Core(scheduler, runner, known=len(tokenizer), ahead=0)
    core.add(request)
    while core.requests:
        for request, deltas in core.step():
            ...

N tokens of a step, C hidden size.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby

import torch
from torch import Tensor

from baiwen import progress
from baiwen.engine import choice
from baiwen.engine.choice import Row
from baiwen.engine.reading import Sparsity
from baiwen.engine.request import Delta, Request, Sample, Token
from baiwen.engine.runner import Runner
from baiwen.engine.scheduler import Chunk, Scheduler

COUNTED = ("prompt_tokens", "generated_tokens", "proposed", "accepted")


class Core:
    """The requests under way, and counts since the start.

    known: ids from here on only pad the embedding. ahead: most tokens that are guessed, by the
    runner's draft if it has one, else from the text itself.
    """

    def __init__(self, scheduler: Scheduler, runner: Runner, known: int, ahead: int) -> None:
        self.scheduler, self.runner, self.known, self.ahead = scheduler, runner, known, ahead
        self.requests: set[Request] = set()
        self._guesses = self._drafted if len(runner.models) > 1 else _looked_up
        self._counts: Counter[str] = Counter()

    def add(self, request: Request) -> None:
        """Queue a request, which has no samples yet."""
        self.requests.add(request)
        self.scheduler.add(request.sample())

    def cancel(self, request: Request) -> None:
        """Stop answering; its blocks are free at once. A finished request stays as it is."""
        if request in self.requests:
            self.requests.remove(request)
            for sample in request.samples:
                if sample.finish is None:
                    self.scheduler.remove(sample)

    def reset(self) -> None:
        """Forget all keys and values, because the weights have changed; what runs is recomputed."""
        while self.scheduler.running:
            self.scheduler.preempt()
        self.scheduler.pool.reset()
        self.runner.renew()

    def stats(self) -> dict[str, float]:
        """Counts since the start, and how many samples and blocks there are in what state."""
        pool = self.scheduler.pool
        found: dict[str, float] = {
            "running": len(self.scheduler.running),
            "waiting": len(self.scheduler.waiting),
            "blocks_total": pool.total,
            "blocks_used": pool.total - pool.available,
            "blocks_cached": pool.cached,
            "preemptions": self.scheduler.preemptions,
            "cached_tokens": self.scheduler.cached_tokens,
            **{name: self._counts[name] for name in COUNTED},
        }
        if self.runner.sparse is None:
            return found
        seen = self.runner.sparsity or Sparsity(0, 1.0, 1.0, 1.0)
        return found | {f"sparse_{name}": value for name, value in asdict(seen).items()}

    @torch.inference_mode()
    def step(self) -> list[tuple[Request, list[Delta]]]:
        """One forward over chunks of prompts and next tokens, and what it gives each request."""
        chunks = self.scheduler.step(self._guesses, self.ahead)
        if not chunks:
            return []
        progress.mark()
        self._copy()
        states = self.runner.run(chunks)  # [N, C]
        rows = list(self._read(chunks, states))
        deltas: dict[Request, list[Delta]] = {}
        for sample, delta in self._answers(rows, states):
            deltas.setdefault(sample.request, []).append(delta)
        for request in {row.sample.request for row in rows}:
            if request.error is not None:
                deltas[request] = []
                self.cancel(request)
        self.requests -= {request for request in deltas if request.finished}
        return list(deltas.items())

    def _copy(self) -> None:
        """Make the copies that the scheduler asks for."""
        self.runner.copy(self.scheduler.copies)
        self.scheduler.copies.clear()

    def _drafted(self, allowed: Mapping[Sample, int]) -> Mapping[Sample, Sequence[int]]:
        """Guesses of the draft model."""
        self._copy()
        guesses = self.runner.guess(allowed, self.known)
        return {sample: sample.allowed(ids) for sample, ids in guesses.items()}

    def _read(self, chunks: Sequence[Chunk], states: Tensor) -> Iterator[Row]:
        """Book what a forward has computed; the rows of states [N, C] where tokens are chosen."""
        start = 0
        for chunk in chunks:
            sample, last = chunk.sample, chunk.last
            request = sample.request
            end = start + chunk.count
            if request.unscored:
                request.prompt_tokens += choice.prompt_tokens(
                    self.runner.models[0], states[start:end], request, sample.computed, self.known
                )
            fresh = min(chunk.count, len(request.prompt) - sample.computed)
            self._counts["prompt_tokens"] += max(fresh, 0)
            self.scheduler.computed(sample, chunk.count)
            for one in self._ready(sample) if last else ():
                for ahead in range(len(chunk.guesses) + 1):
                    yield Row(one, end - 1 + ahead, chunk.guesses[:ahead])
            start = end + len(chunk.guesses)

    def _ready(self, sample: Sample) -> list[Sample]:
        """Those whose next token can be chosen: when a prompt is read, all samples of it."""
        missing = sample.request.sampling.n - len(sample.request.samples)
        others = [sample.request.sample() for _ in range(missing)]
        return [sample, *self.scheduler.fork(sample, others)]

    def _answers(self, rows: Sequence[Row], states: Tensor) -> Iterator[tuple[Sample, Delta]]:
        """Choose the tokens of the rows, of which those after a wrong guess are dropped."""
        if not rows:
            return
        tokens = choice.tokens(self.runner.models[0], states, rows, self.known)
        paired = zip(rows, tokens, strict=True)
        for sample, group in groupby(paired, key=lambda pair: pair[0].sample):
            *_, (row, _) = pairs = list(group)
            chosen = choice.accepted(row.guesses, [token for _, token in pairs])
            if sample.request.error is None:
                yield sample, self._extend(sample, chosen, len(row.guesses))

    def _extend(self, sample: Sample, chosen: Sequence[Token], guessed: int) -> Delta:
        """Go on with the chosen tokens, and give the blocks back if that is the end."""
        delta = sample.extend(chosen)
        self._counts["generated_tokens"] += len(delta.tokens)
        self._counts["proposed"] += guessed
        self._counts["accepted"] += len(chosen) - 1
        if sample.finish is not None:
            if self.runner.routes is not None:  # the last token is in no forward pass
                sample.routes = self.runner.routes.read(sample.table, len(sample.ids) - 1)
            self.scheduler.remove(sample)
        elif guessed:
            self.scheduler.computed(sample, len(chosen) - 1)
        return delta


def _looked_up(allowed: Mapping[Sample, int]) -> Mapping[Sample, Sequence[int]]:
    """Guesses from what each sample has so far."""
    return {
        sample: sample.allowed(sample.lookup.guess(sample.ids, most))
        for sample, most in allowed.items()
    }
