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
from dataclasses import asdict, replace
from itertools import count, groupby
from typing import Any, Literal, cast

import torch
from torch import Tensor

from baiwen import progress
from baiwen.engine import capacity, choice, reading
from baiwen.engine.blocks import Blocks
from baiwen.engine.capacity import KV
from baiwen.engine.choice import Row
from baiwen.engine.embed import hidden, packed
from baiwen.engine.pretrained import check
from baiwen.engine.reach import Extend, Reach
from baiwen.engine.reading import Reader, Sparsity
from baiwen.engine.request import Completion, Delta, Request, Sample, Token, completions
from baiwen.engine.routes import Routes
from baiwen.engine.runner import Runner
from baiwen.engine.sampler import Sampling
from baiwen.engine.scheduler import Chunk, Scheduler
from baiwen.errors import UserError
from baiwen.model.paged import bytes_per_token
from baiwen.model.sparse import Sparse
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.tokenizer import Tokenizer

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]  # text, ids or messages
GREEDY = Sampling()
BLOCK = 16  # tokens
STEP = {"cpu": 512, "cuda": 8192}  # tokens of a forward, by device
COUNTED = ("prompt_tokens", "generated_tokens", "proposed", "accepted")
DRAFTED = 4  # tokens that a draft guesses ahead, unless told


class Engine:
    """A model and its tokenizer, ready to answer.

    context: tokens of a prompt and its answer, at most; None: what config.json says. extend: how to
    go beyond the trained length (`reach.py`), which a longer context does by itself; without a
    context, to 4 times that length. sparse: prompts from `sparse.threshold` tokens on are read
    sparsely, in chunks of their own; answers are dense. kv: how keys and values are kept; None: as
    the weights.
    cache_tokens: tokens whose keys and values are kept; None: by the memory there is.
    step_tokens: most tokens of a forward, beside a sparse prompt's chunk; None: 512 on a CPU, where
    answers then never stand still for more than a second or two while a prompt is read densely,
    8192 on a GPU. sequences: most samples
    that run at once.
    prefix_cache: share what prompts begin with. lookup: most tokens that are guessed ahead from the
    text itself, or by `draft`, a smaller model of the same tokenizer (then 4 unless given).
    routes: completions tell the experts that a mixture's tokens went to (`routes.py`).
    graphs: decode by CUDA graphs (`graphs.py`); None: on a GPU. Elsewhere their steps run as any.
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
        check(model.config, tokenizer, "the engine")
        if draft is not None:
            check(draft.config, tokenizer, "the draft")
        kind = model.model.embed_tokens.weight.device.type
        step_tokens = max(STEP[kind], sequences) if step_tokens is None else step_tokens
        if sequences < 1 or step_tokens < sequences:
            raise UserError(
                f"step_tokens = {step_tokens} must be at least sequences = {sequences}, and both "
                "at least 1: each running sequence takes a token of every step"
            )
        if sparse is not None:
            reading.check(sparse, model.config, BLOCK)
        self.model, self.tokenizer = model, tokenizer
        models = [model] if draft is None else [model, draft]
        dtypes = [capacity.kept(one, kv) for one in models]
        size = sum(map(bytes_per_token, (one.config for one in models), dtypes))
        device = model.model.norm.weight.device
        if context is not None:
            capacity.check(size, device, context)
        reaches = [Reach.of(one.config, context, extend) for one in models]
        longest = min(reach.context for reach in reaches)
        if cache_tokens is None:
            cache_tokens = capacity.affordable(size, device, longest, sequences)
            cache_tokens = -(-max(cache_tokens, context or 0) // BLOCK) * BLOCK
        blocks = cache_tokens // BLOCK
        self.context = min(longest, blocks * BLOCK)  # tokens of a prompt and its answer
        if self.context < max(context or 0, 2):
            raise UserError(
                f"cache_tokens = {cache_tokens:,} has no room for a context of "
                f"{max(context or 0, 2):,} tokens"
            )
        within = tuple(replace(reach, context=self.context) for reach in reaches)
        self.reader = Reader(within, sparse, prefix_cache)
        self.pool = Blocks(blocks)
        self.scheduler = Scheduler(self.pool, BLOCK, step_tokens, sequences)
        graphs = kind == "cuda" if graphs is None else graphs
        held = blocks + graphs  # a block more, for rows that only fill a shape
        kept = Routes(model.config, held, BLOCK, device) if routes else None
        self.runner = Runner(
            models, self.reader, dtypes, held, BLOCK, kept, sequences if graphs else 0
        )
        self.ahead = lookup or (DRAFTED if draft else 0)  # tokens that are guessed
        self._guesses = self._drafted if draft else _looked_up
        self._counts: Counter[str] = Counter()
        self._numbers = count()
        self._requests: set[Request] = set()

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
        self._requests.add(request)
        self.scheduler.add(request.sample())
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
        return len(self._requests)

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
        self._requests -= {request for request in deltas if request.finished}
        return list(deltas.items())

    def cancel(self, request: Request) -> None:
        """Stop answering; its blocks are free at once. A finished request stays as it is."""
        if request in self._requests:
            self._requests.remove(request)
            for sample in request.samples:
                if sample.finish is None:
                    self.scheduler.remove(sample)

    def reset_cache(self) -> None:
        """Forget all keys and values, because the weights have changed; what runs is recomputed."""
        while self.scheduler.running:
            self.scheduler.preempt()
        self.pool.reset()
        self.runner.renew()

    def stats(self) -> dict[str, float]:
        """Counts since the start, and how many samples and blocks there are in what state."""
        return {
            "running": len(self.scheduler.running),
            "waiting": len(self.scheduler.waiting),
            "blocks_total": self.pool.total,
            "blocks_used": self.pool.total - self.pool.available,
            "blocks_cached": self.pool.cached,
            "preemptions": self.scheduler.preemptions,
            "cached_tokens": self.scheduler.cached_tokens,
            **{name: self._counts[name] for name in COUNTED},
            **self._sparsity(),
        }

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
            while request in self._requests:
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

    def _sparsity(self) -> dict[str, float]:
        """What was seen of all that was read sparsely."""
        if self.reader.sparse is None:
            return {}
        seen = self.runner.sparsity or Sparsity(0, 1.0, 1.0, 1.0)
        return {f"sparse_{name}": value for name, value in asdict(seen).items()}

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

    def _copy(self) -> None:
        """Make the copies that the scheduler asks for."""
        self.runner.copy(self.scheduler.copies)
        self.scheduler.copies.clear()

    def _drafted(self, allowed: Mapping[Sample, int]) -> Mapping[Sample, Sequence[int]]:
        """Guesses of the draft model."""
        self._copy()
        guesses = self.runner.guess(allowed, len(self.tokenizer))
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
                    self.model, states[start:end], request, sample.computed, len(self.tokenizer)
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
        tokens = choice.tokens(self.model, states, rows, len(self.tokenizer))
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
