"""How the next token is chosen from the logits.

    Sampling(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05)  # Qwen2.5's own

The order is that of transformers: repetition penalty, temperature, top-k, top-p, min-p. A draw is
one number from 0 to 1 a token, which comes from outside, so that a sequence's text depends on its
own seed and on nothing else in the batch.

B sequences, V vocabulary, K candidates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from baiwen.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How to continue a prompt. The default is greedy."""

    temperature: float = 0.0  # 0: always the likeliest token
    top_p: float = 1.0  # the likeliest tokens that together have this probability
    top_k: int = 0  # the k likeliest tokens; 0: all
    min_p: float = 0.0  # tokens with at least this share of the likeliest one's probability
    repetition_penalty: float = 1.0  # above 1: less of what is in the prompt or the answer
    max_tokens: int = 512
    stop: tuple[str, ...] = ()  # texts that end the answer and are not part of it
    stop_ids: tuple[int, ...] | None = None  # None: end of turn and end of text
    seed: int | None = None  # None: another text every time
    n: int = 1  # answers a prompt

    def __post_init__(self) -> None:
        rules = {
            "temperature must be at least 0": self.temperature >= 0,
            "top_p must be above 0 and at most 1": 0 < self.top_p <= 1,
            "top_k must be at least 0": self.top_k >= 0,
            "min_p must be between 0 and 1": 0 <= self.min_p <= 1,
            "repetition_penalty must be above 0": self.repetition_penalty > 0,
            "max_tokens must be at least 1": self.max_tokens >= 1,
            "stop must be a tuple of texts, none of them empty": not isinstance(self.stop, str)
            and all(self.stop),
            "n must be at least 1": self.n >= 1,
        }
        for rule, holds in rules.items():
            if not holds:
                raise UserError(f"Sampling: {rule}; it is {getattr(self, rule.split()[0])!r}")


def choose(logits: Tensor, sampling: Sampling, draws: Tensor, seen: Tensor | None) -> Tensor:
    """The next token of each sequence, [B].

    logits [B, V] fp32; draws [B] float64 from 0 to 1; seen [B, V] bool: the tokens that the
    repetition penalty (Keskar et al., 2019) is for, None without it.
    """
    if seen is not None:
        penalty = sampling.repetition_penalty
        logits = torch.where(
            seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits
        )
    if sampling.temperature == 0:
        return logits.argmax(-1)
    rows = logits.shape[1]
    scores, candidates = logits.topk(min(sampling.top_k or rows, rows))  # [B, K], falling
    probs = (scores.double() / sampling.temperature).softmax(-1)
    before = probs.cumsum(-1) - probs  # the probability of all likelier candidates
    kept = (before < sampling.top_p) & (probs >= sampling.min_p * probs[:, :1])
    ladder = (probs * kept).cumsum(-1)
    rung = (ladder <= draws[:, None] * ladder[:, -1:]).sum(-1, keepdim=True)
    last = kept.sum(-1, keepdim=True) - 1  # for a draw that rounds up to the very end
    return candidates.gather(1, rung.minimum(last)).squeeze(1)
