"""The engine: many prompts answered together, one forward a step.

    engine = Engine(model, tokenizer)
    engine.generate(["1 + 1 ="], Sampling(max_tokens=4))[0].text
    for piece in engine.stream([{"role": "user", "content": "Hello"}]):
        print(piece, end="")

    request = engine.add("Hello", Sampling(n=2))       # or by hand, with others that come and go
    while engine.unfinished:
        for request, deltas in engine.step():
            ...

Keys and values lie in blocks (`model/paged.py`) that prompts which begin alike share. Ids that the
tokenizer does not have (rows that only pad the embedding) are never chosen. The weights may change
between steps: `reset_cache` then.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Literal, cast

import torch
from torch import Tensor

from baiwen.engine import capacity, reading
from baiwen.engine.blocks import Blocks
from baiwen.engine.capacity import KV
from baiwen.engine.core import Core
from baiwen.engine.embed import hidden, packed
from baiwen.engine.pretrained import check
from baiwen.engine.reach import Extend
from baiwen.engine.reading import Reader
from baiwen.engine.request import Completion, Delta, Request, completions
from baiwen.engine.room import Room
from baiwen.engine.runner import Runner
from baiwen.engine.sampler import Sampling
from baiwen.engine.scheduler import Scheduler
from baiwen.errors import UserError
from baiwen.model.sparse import Sparse
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.tokenizer import Tokenizer

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]  # text, ids or messages
GREEDY = Sampling()
BLOCK = 16  # tokens
STEP = {"cpu": 512, "cuda": 8192}  # tokens of a forward, by device
DRAFTED = 4  # tokens that a draft guesses ahead, unless told


class Engine:
    """A model and its tokenizer, ready to answer.

    context: tokens of a prompt and its answer, at most; None: what config.json says. extend: how to
    go beyond the trained length (`reach.py`), which a longer context does by itself; without a
    context, to 4 times that length. sparse: prompts from `sparse.threshold` tokens on are read
    sparsely, in chunks of their own; answers are dense. kv: how keys and values are kept; None: as
    the weights. cache_tokens: tokens whose keys and values are kept; None: by the memory there is.

    step_tokens: most tokens of a forward, beside a sparse prompt's chunk; None: 512 on a CPU, where
    answers then never stand still for more than a second or two while a prompt is read densely,
    8192 on a GPU. sequences: most samples that run at once. prefix_cache: share what prompts begin
    with. lookup: most tokens that are guessed ahead from the text itself, or by `draft`, a smaller
    model of the same tokenizer (then 4 unless given). routes: completions tell the experts that a
    mixture's tokens went to (`routes.py`). graphs: decode by CUDA graphs (`graphs.py`); None: on a
    GPU. Elsewhere their steps run as any.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        context: int | None = None,
        extend: Extend | None = None,
        sparse: Sparse | None = None,
        kv: KV | None = None,
        cache_tokens: int | None = None,
        step_tokens: int | None = None,
        sequences: int = 64,
        prefix_cache: bool = True,
        lookup: int = 0,
        draft: Transformer | None = None,
        routes: bool = False,
        graphs: bool | None = None,
    ) -> None:
        models = [model] if draft is None else [model, draft]
        for one, name in zip(models, ("the engine", "the draft"), strict=False):
            check(one.config, tokenizer, name)
        kind = model.model.norm.weight.device.type
        step_tokens = max(STEP[kind], sequences) if step_tokens is None else step_tokens
        if sequences < 1 or step_tokens < sequences:
            raise UserError(
                f"step_tokens = {step_tokens} must be at least sequences = {sequences}, and both "
                "at least 1: each running sequence takes a token of every step"
            )
        if sparse is not None:
            reading.check(sparse, model.config, BLOCK)
        room = Room.of(models, BLOCK, sequences, context, extend, kv, cache_tokens)
        self.model, self.tokenizer, self.context = model, tokenizer, room.context
        self.reader = Reader(room.reaches, sparse, prefix_cache)
        self.pool = Blocks(room.blocks)
        self.scheduler = Scheduler(self.pool, BLOCK, step_tokens, sequences)
        recorded = sequences if graphs or (graphs is None and kind == "cuda") else 0
        self.runner = Runner(models, self.reader, room, BLOCK, routes=routes, graphs=recorded)
        ahead = lookup or (DRAFTED if draft else 0)
        self._core = Core(self.scheduler, self.runner, len(tokenizer), ahead)
        self._numbers = count()

    def add(self, prompt: Prompt, sampling: Sampling = GREEDY, first: int = 0) -> Request:
        """Queue a prompt; its deltas come with the steps that follow.

        first: where its samples begin among those that the seed gives this prompt. Raises UserError
        for a prompt that is empty, too long, or holds ids that the model does not have.
        """
        ids = self.ids(prompt)
        self.check(ids, sampling)
        number = next(self._numbers)
        read = self.reader.of(len(ids), min(len(ids) + sampling.max_tokens, self.context))
        request = Request(number, ids, sampling, self.tokenizer, self.context, read, first)
        self._core.add(request)
        return request

    def ids(self, prompt: Prompt) -> list[int]:
        """A prompt in ids; messages end with the head of the assistant's turn."""
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        if len(prompt) and isinstance(prompt[0], Mapping):
            messages = cast(Sequence[Mapping[str, Any]], prompt)
            return self.tokenizer.render(messages, generate=True).ids
        return list(cast(Sequence[int], prompt))

    def check(self, ids: Sequence[int], sampling: Sampling) -> None:
        """UserError for a prompt that cannot be answered, or a sampling that has no meaning."""
        if not ids:
            raise UserError("a prompt is empty; give it at least one token, such as end_of_text")
        rows = min(model.config.vocab_size for model in self.runner.models)
        if min(ids) < 0 or max(ids) >= rows:
            wrong = next(token for token in ids if not 0 <= token < rows)
            raise UserError(f"a prompt holds the id {wrong}; the model has 0 to {rows - 1}")
        least = len(ids) + min(sampling.max_tokens, 1)
        if least > self.context:
            raise UserError(
                f"a prompt has {len(ids)} tokens, which with its answer is more than the "
                f"{self.context} that the model and the cache have room for: "
                f"{least - self.context} too many"
            )
        for token in (*sampling.logit_bias, *(sampling.stop_ids or ())):
            if not 0 <= token < len(self.tokenizer):
                raise UserError(
                    f"logit_bias or stop_ids: there is no token {token}; the tokenizer has 0 to "
                    f"{len(self.tokenizer) - 1}"
                )

    def answer(self, prompt: int) -> int:
        """Tokens for the answer to a prompt of so many, where nobody says how many it may have.

        What fits without a larger factor (`Reach.answer`), which would change how all is read.
        """
        return self.reader.answer(prompt)

    @property
    def told(self) -> str:
        """How far and how it reads, in a line."""
        return self.reader.told

    @property
    def unfinished(self) -> int:
        """Requests that are under way."""
        return len(self._core.requests)

    def step(self) -> list[tuple[Request, list[Delta]]]:
        """One forward over chunks of prompts and next tokens, and what it gives each request."""
        return self._core.step()

    def cancel(self, request: Request) -> None:
        """Stop answering; its blocks are free at once. A finished request stays as it is."""
        self._core.cancel(request)

    def reset_cache(self) -> None:
        """Forget all keys and values, because the weights have changed; what runs is recomputed."""
        self._core.reset()

    def stats(self) -> dict[str, float]:
        """Counts since the start, and how many samples and blocks there are in what state."""
        return self._core.stats()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling = GREEDY) -> list[Completion]:
        """Continue every prompt: `sampling.n` completions of the first, then of the second, ...

        With a seed, the text of a prompt does not depend on what else is asked; a prompt that is
        asked twice gets a second answer, as from `n=2`. Raises UserError as `add` does, before
        anything is computed.
        """
        asked: Counter[tuple[int, ...]] = Counter()  # answers of each prompt so far
        every = [self.ids(prompt) for prompt in prompts]
        for ids in every:
            self.check(ids, sampling)
        requests = []
        for ids in every:
            requests.append(self.add(ids, sampling, asked[tuple(ids)]))
            asked[tuple(ids)] += sampling.n
        return self._finished(requests)

    def stream(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Iterator[str]:
        """The text of one completion in pieces, whole characters, as soon as each is certain.

        What else was added goes on meanwhile, and its deltas are lost: one or the other.
        """
        request = self.add(prompt, replace(sampling, n=1))
        try:
            while request in self._core.requests:
                for other, deltas in self.step():
                    if other is request:
                        yield from (delta.text for delta in deltas if delta.text)
            if request.error is not None:
                raise request.error
        finally:
            self.cancel(request)

    @torch.inference_mode()
    def embed(self, prompts: Sequence[Prompt], pooling: Literal["mean", "last"] = "mean") -> Tensor:
        """What each prompt is to the model, [N, C] fp32: its hidden states' mean, or the last.

        UserError as for `add`, or where there are no prompts.
        """
        if not prompts:
            raise UserError("there is nothing to embed")
        every = [self.ids(prompt) for prompt in prompts]
        most = capacity.longest(self.model.config)
        for ids in every:
            self.check(ids, Sampling(max_tokens=0))
            if len(ids) > most:
                raise UserError(
                    f"a prompt has {len(ids):,} tokens, {len(ids) - most:,} more than the {most:,} "
                    "that are embedded: without a cache, no request extends what the model reads"
                )
        found = [
            row.mean(0) if pooling == "mean" else row[-1]
            for batch in packed(every, self.scheduler.step_tokens)
            for row in hidden(self.model, batch)
        ]
        return torch.stack(found)

    def _finished(self, requests: Sequence[Request]) -> list[Completion]:
        """Step until these are finished; the completions of the first, then of the second, ..."""
        deltas: dict[Request, list[Delta]] = {request: [] for request in requests}
        left = set(requests)
        try:
            while left:
                for request, found in self.step():
                    if request.error is not None:
                        raise request.error
                    if request in left:
                        deltas[request] += found
                        left -= {request} if request.finished else set()
        finally:
            for request in left:
                self.cancel(request)
        return [done for request, found in deltas.items() for done in completions(request, found)]
