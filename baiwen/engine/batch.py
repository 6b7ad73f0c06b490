"""Answers that are generated together: one cache, one forward a token for all of them.

    batch = Batch(model, answers, sampling, vocabulary=len(tokenizer))
    while batch.answers:
        batch.step()

B answers under way, T tokens of the longest prompt, V rows of the embedding.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.engine.sampler import Sampling, choose
from baiwen.model.cache import Cache
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.stream import StreamDecoder

# Moving the cache costs about as much as a few steps, so answers leave in groups: when fewer than
# this share of a batch go on.
CROWDED = 0.75


@dataclass
class Answer:
    """An answer under way."""

    prompt: list[int]
    ends: Collection[int]  # ids after which it is finished
    rng: random.Random
    decoder: StreamDecoder
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    finish: Literal["stop", "length"] | None = None

    def push(self, token: int, logprob: float, sampling: Sampling) -> None:
        """Add a token, and see whether the answer ends with it."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in self.ends:
            self.finish = "stop"
        else:
            self.text += self.decoder.push(token)
            if len(self.ids) == sampling.max_tokens:
                self.finish = "length"
        if self.finish is not None:
            self.text += self.decoder.finish()
        places = [place for text in sampling.stop if (place := self.text.find(text)) >= 0]
        if places:
            self.text, self.finish = self.text[: min(places)], "stop"


class Batch:
    """The state of a batch between two tokens; its `answers` are those that are not finished."""

    @torch.no_grad()
    def __init__(
        self, model: Transformer, answers: Sequence[Answer], sampling: Sampling, vocabulary: int
    ) -> None:
        self.model, self.answers, self.sampling = model, list(answers), sampling
        self.vocabulary = vocabulary  # ids that may be chosen
        weight = model.model.embed_tokens.weight
        lengths = torch.tensor([len(answer.prompt) for answer in answers], device=weight.device)
        tokens = _padded([answer.prompt for answer in answers]).to(weight.device)  # [B, T]
        size = tokens.shape[1] + sampling.max_tokens
        self.cache = Cache.build(model.config, len(answers), size, weight.device, weight.dtype)
        self.logits = self._forward(tokens, lengths - 1)
        self.cache.truncate(lengths)
        self.seen: Tensor | None = None  # [B, V] bool, what the repetition penalty is for
        if sampling.repetition_penalty != 1:
            self.seen = torch.zeros_like(self.logits, dtype=torch.bool)
            for row, answer in enumerate(answers):
                self.seen[row, answer.prompt] = True

    @torch.no_grad()
    def step(self) -> None:
        """Give every answer its next token; the finished ones leave."""
        chosen = self._choose()  # [B]
        alive = [row for row, answer in enumerate(self.answers) if answer.finish is None]
        if len(alive) <= CROWDED * len(self.answers):
            self._keep(torch.tensor(alive, device=chosen.device, dtype=torch.long))
            chosen = chosen[alive]
        if alive:
            self.logits = self._forward(chosen[:, None])

    def _choose(self) -> Tensor:
        draws = torch.tensor([answer.rng.random() for answer in self.answers], dtype=torch.float64)
        seen = None if self.seen is None else self.seen[:, : self.vocabulary]
        logits = self.logits[:, : self.vocabulary]
        chosen = choose(logits, self.sampling, draws.to(logits.device), seen)
        logprobs = self.logits.log_softmax(-1).gather(1, chosen[:, None]).squeeze(1)
        tokens = zip(self.answers, chosen.tolist(), logprobs.tolist(), strict=True)
        for answer, token, logprob in tokens:
            if answer.finish is None:
                answer.push(token, logprob, self.sampling)
        if self.seen is not None:
            self.seen.scatter_(1, chosen[:, None], True)
        return chosen

    def _keep(self, rows: Tensor) -> None:
        self.answers = [self.answers[row] for row in rows.tolist()]
        if self.seen is not None:
            self.seen = self.seen[rows]
        if self.answers:
            self.cache.keep(rows)

    def _forward(self, tokens: Tensor, last: Tensor | None = None) -> Tensor:
        """tokens [B, T] -> the fp32 logits [B, V] that follow the token at place `last` [B]."""
        outputs = self.model(tokens, cache=self.cache)
        hidden = outputs.hidden[:, -1]
        if last is not None:
            hidden = outputs.hidden[torch.arange(len(tokens), device=tokens.device), last]
        return F.linear(hidden, outputs.head).float()


def _padded(prompts: Sequence[list[int]]) -> Tensor:
    """Prompts as rows [B, T], padded on the right with id 0, which no real token ever sees."""
    longest = max(map(len, prompts))
    return torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in prompts])
