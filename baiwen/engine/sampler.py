"""How the next token is chosen from the logits.

    Sampling(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05)  # Qwen2.5's own

The order is that of transformers: penalties and biases (`engine/edits.py`), temperature, top-k,
top-p, min-p. A draw is one number from 0 to 1 a token, computed from the seed, the prompt, the
sample and the token's place alone: what else is in the batch changes no text.

R rows, V vocabulary, K candidates of a row.
"""

import hashlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.engine.grammar import Grammar
from baiwen.errors import UserError

NUCLEUS = 1024  # candidates that hold the nucleus of most rows: looked at before a whole row sorts
PART = 512  # neighbouring tokens of a whole row that are looked at together

Way = Callable[[Tensor, Sequence["Sampling"], Tensor], Tensor]


@dataclass(frozen=True)
class Sampling:
    """How to continue a prompt. The default is greedy."""

    temperature: float = 0.0  # 0: always the likeliest token
    top_p: float = 1.0  # the likeliest tokens that together have this probability
    top_k: int = 0  # the k likeliest tokens; 0: all
    min_p: float = 0.0  # tokens with at least this share of the likeliest one's probability
    repetition_penalty: float = 1.0  # above 1: less of what is in the prompt or the answer
    presence_penalty: float = 0.0  # taken once from the logit of what is in the answer
    frequency_penalty: float = 0.0  # taken as often as the answer has it
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to a token's logit
    max_tokens: int = 512  # 0: only the prompt is read
    min_tokens: int = 0  # before which no stop id is chosen and no stop text looked for
    stop: tuple[str, ...] = ()  # texts that end the answer and are not part of it
    stop_ids: tuple[int, ...] | None = None  # None: end of turn and end of text
    seed: int | None = None  # None: another text every time
    n: int = 1  # answers a prompt
    logprobs: int = 0  # likeliest tokens recorded beside each chosen one
    prompt_logprobs: int | None = None  # the same for the prompt's tokens; None: not scored
    tempered: bool = False  # log-probabilities of logits / temperature, as drawn; else the model's
    grammar: Grammar | None = None  # what the answer must be

    def __post_init__(self) -> None:
        inf = float("inf")
        rules = {
            "temperature must be at least 0": 0 <= self.temperature < inf,
            "top_p must be above 0 and at most 1": 0 < self.top_p <= 1,
            "top_k must be at least 0": self.top_k >= 0,
            "min_p must be between 0 and 1": 0 <= self.min_p <= 1,
            "repetition_penalty must be above 0": 0 < self.repetition_penalty < inf,
            "presence_penalty must be a number": abs(self.presence_penalty) < inf,
            "frequency_penalty must be a number": abs(self.frequency_penalty) < inf,
            "logit_bias must be numbers": all(bias < inf for bias in self.logit_bias.values()),
            "max_tokens must be at least 0": self.max_tokens >= 0,
            "min_tokens must be between 0 and max_tokens": 0 <= self.min_tokens <= self.max_tokens,
            "stop must be a tuple of texts, none of them empty": not isinstance(self.stop, str)
            and all(self.stop),
            "n must be at least 1": self.n >= 1,
            "logprobs must be at least 0": self.logprobs >= 0,
            "prompt_logprobs must be at least 0": (self.prompt_logprobs or 0) >= 0,
        }
        for rule, holds in rules.items():
            if not holds:
                raise UserError(f"Sampling: {rule}; it is {getattr(self, rule.split()[0])!r}")


def chance(seed: int, prompt: Sequence[int], sample: int) -> bytes:
    """The key of a sample's draws."""
    name = hashlib.blake2b(array("q", prompt).tobytes(), digest_size=16)
    name.update(f"{seed} {sample}".encode())
    return name.digest()


def draw(key: bytes, place: int) -> float:
    """A number from 0 to 1, 1 excluded, for the token at `place` of an answer."""
    found = hashlib.blake2b(place.to_bytes(8, "little"), key=key, digest_size=8).digest()
    return (int.from_bytes(found, "little") >> 11) * 2.0**-53


def choose(logits: Tensor, samplings: Sequence[Sampling], draws: Sequence[float]) -> Tensor:
    """The next token of each row, [R]: logits [R, V] fp32, with a sampling and a draw a row."""
    rows: dict[tuple[Way, int], list[int]] = {}
    for row, sampling in enumerate(samplings):
        rows.setdefault(_way(sampling), []).append(row)
    chosen = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    for (way, _), ours in rows.items():
        index = torch.tensor(ours, device=logits.device)
        seen = logits if len(ours) == len(logits) else logits[index]
        drawn = torch.tensor([draws[row] for row in ours], dtype=torch.float64)
        chosen[index] = way(seen, [samplings[row] for row in ours], drawn.to(logits.device))
    return chosen


def _way(sampling: Sampling) -> tuple[Way, int]:
    """The cheapest way to choose exactly: one, few, those of the nucleus, or a whole row.

    Beside it how many the few are: `topk` of another number orders equal tokens in another way.
    """
    if sampling.temperature == 0:
        return _greedy, 0
    if sampling.top_k:
        return _few, sampling.top_k
    return (_nucleus if sampling.top_p < 1 else _all), 0


def _greedy(logits: Tensor, _samplings: Sequence[Sampling], _draws: Tensor) -> Tensor:
    """The likeliest token, of equally likely ones the first."""
    parts = logits.shape[1] // PART
    if parts < 2:
        return logits.argmax(-1)
    whole, rest = logits[:, : parts * PART].unflatten(1, (parts, PART)), logits[:, parts * PART :]
    part = whole.amax(-1).argmax(-1)  # [R]; a maximum is found much faster than its place
    inside = whole[torch.arange(len(logits), device=logits.device), part]  # [R, PART]
    value, place = inside.max(-1)
    token = part * PART + place
    if rest.shape[1] == 0:
        return token
    last, place = rest.max(-1)
    return torch.where(last > value, parts * PART + place, token)


def _knob(samplings: Sequence[Sampling], name: str, like: Tensor) -> Tensor:
    """One setting of every row, [R, 1] float64."""
    values = [getattr(sampling, name) for sampling in samplings]
    return torch.tensor(values, dtype=torch.float64).to(like.device)[:, None]


def _temperatures(samplings: Sequence[Sampling], like: Tensor) -> Tensor:
    """Those of every row, [R, 1] fp32; the smallest do not round to 0, as 0 / 0 is NaN."""
    temperatures = _knob(samplings, "temperature", like).float()
    return temperatures.clamp_(min=torch.finfo(torch.float32).tiny)


def _few(logits: Tensor, samplings: Sequence[Sampling], draws: Tensor) -> Tensor:
    """Rows with the same top-k: the likeliest tokens are all that is looked at."""
    scores, candidates = logits.topk(min(samplings[0].top_k, logits.shape[1]))  # [R, K], falling
    weights = _weights(scores, samplings)
    place = _fall(weights, weights.sum(-1, keepdim=True), samplings, draws)
    return candidates.gather(1, place).squeeze(1)


def _nucleus(logits: Tensor, samplings: Sequence[Sampling], draws: Tensor) -> Tensor:
    """Rows with a top-p alone: few candidates hold it, or else the row is sorted."""
    size = min(NUCLEUS, logits.shape[1])
    temperatures = _temperatures(samplings, logits)
    top = logits.amax(-1, keepdim=True)
    whole = logits.sub(top).div_(temperatures).exp_().sum(-1, keepdim=True, dtype=torch.float64)
    scores, candidates = logits.topk(size)
    weights = _weights(scores, samplings)
    chosen = candidates.gather(1, _fall(weights, whole, samplings, draws)).squeeze(1)
    if size == logits.shape[1]:
        return chosen
    missed = weights.sum(-1) < _knob(samplings, "top_p", logits).squeeze(1) * whole.squeeze(1)
    for row in missed.nonzero().flatten().tolist():
        asked, some = samplings[row : row + 1], slice(row, row + 1)
        scores, candidates = logits[some].sort(descending=True)
        place = _fall(_weights(scores, asked), whole[some], asked, draws[some])
        chosen[some] = candidates.gather(1, place).squeeze(1)
    return chosen


def _all(logits: Tensor, samplings: Sequence[Sampling], draws: Tensor) -> Tensor:
    """Rows that any token may follow, save those below min-p: nothing is sorted."""
    temperatures = _temperatures(samplings, logits)
    weights = logits.sub(logits.amax(-1, keepdim=True)).div_(temperatures).exp_()  # [R, V], <= 1
    if any(sampling.min_p for sampling in samplings):
        weights *= weights >= _knob(samplings, "min_p", logits)
    parts = F.pad(weights, (0, -weights.shape[1] % PART)).unflatten(1, (-1, PART))
    ends = parts.sum(-1).cumsum(-1, dtype=torch.float64)  # [R, V / PART]
    target = draws[:, None] * ends[:, -1:]
    part = _landing(ends, target)  # [R, 1]
    inside = parts[torch.arange(len(logits), device=logits.device), part.squeeze(1)].double()
    target = target - (ends.gather(1, part) - inside.sum(-1, keepdim=True))
    return (part * PART + _landing(inside.cumsum(-1), target)).squeeze(1)


def _weights(scores: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """What each candidate [R, K] weighs, the likeliest, which comes first, 1; float64."""
    return ((scores - scores[:, :1]).double() / _knob(samplings, "temperature", scores)).exp()


def _fall(weights: Tensor, whole: Tensor, samplings: Sequence[Sampling], draws: Tensor) -> Tensor:
    """Where the draws land among falling candidates: weights [R, K] of `whole` [R, 1] -> [R, 1]."""
    before = weights.cumsum(-1) - weights  # what all likelier candidates weigh
    kept = (before < _knob(samplings, "top_p", weights) * whole) & (
        weights >= _knob(samplings, "min_p", weights)
    )
    ladder = (weights * kept).cumsum(-1)
    return _landing(ladder, draws[:, None] * ladder[:, -1:])


def _landing(ladder: Tensor, target: Tensor) -> Tensor:
    """The first place of each rising row [R, K] that is above its target [R, 1], [R, 1].

    A target that rounds up to the very end lands where the row last rose.
    """
    end = (ladder < ladder[:, -1:]).sum(-1, keepdim=True)
    return (ladder <= target).sum(-1, keepdim=True).minimum(end)
