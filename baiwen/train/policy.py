"""Policy optimisation: answers become likelier, or less so, by how well they did in their group.

    loss = policy(model(batch.tokens, ...), batch, algorithm="grpo", beta=1e-3)

Of a token o_t of answer i, with the advantage A_i that its group gives it, pi the model that trains
and pi_old the one that rolled out,

    rho = pi(o_t) / pi_old(o_t)                                     how much likelier it is by now
    loss = -mean of gain(rho, A_i) + beta (r - ln r - 1), r = pi_ref(o_t) / pi(o_t)

| algorithm | gain | mean over | source |
| --- | --- | --- | --- |
| grpo | min(rho A, clip(rho, 1 - eps, 1 + eps) A) | tokens, then answers | 2402.03300; spec 9.3 |
| dr_grpo | the same; A without the deviation | answers, their tokens / max_tokens | 2503.20783 |
| dapo | the same with a higher clip: 1 + eps_high | all tokens alike | 2503.14476 |
| gspo | the same with rho = (prod of the answer's rho)^(1 / length) | answers | 2507.18071 |
| cispo | min(rho, 1 + eps_high) A ln pi(o_t), the first factor constant | all tokens | 2506.13585 |

The last term is the k3 estimate of KL(pi || pi_ref), never negative (Schulman, 2020). On-policy,
one update a rollout, pi_old is pi: rho is exactly 1, its gradient is that of ln pi, and no second
forward is needed. Where several updates share a rollout, `old_logprobs` are the trainer's at the
time of the rollout, and what the sampler drew differently is weighed by min(pi_old / pi_sampler,
truncation): truncated importance sampling (Yao et al., 2025).

N tokens in the loss, A answers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from baiwen.model.transformer import Outputs
from baiwen.train.logprobs import logprobs
from baiwen.train.losses import Batch, Loss

Name = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo"]


class Answers(Batch, Protocol):
    """A batch of answers (`data/trees.py`) and what is known of them.

    values: advantages [A]; old_logprobs [N] off-policy; ref_logprobs [N] if beta > 0;
    sampler_logprobs [N] where the mismatch is measured or corrected.
    """

    answer: Tensor  # int64 [N], which answer each token belongs to
    lengths: Tensor  # [A], sum of the mask of each
    values: dict[str, Tensor]


@dataclass(frozen=True)
class Clip:
    """The ratios that still count: from 1 - low to 1 + high."""

    low: float
    high: float


def clipped(ratio: Tensor, advantage: Tensor, _logp: Tensor, clip: Clip) -> Tensor:
    """min(rho A, clip(rho) A): no reward for going further than the clip (PPO)."""
    bounded = ratio.clamp(1 - clip.low, 1 + clip.high)
    return torch.minimum(ratio * advantage, bounded * advantage)


def weighted(ratio: Tensor, advantage: Tensor, logp: Tensor, clip: Clip) -> Tensor:
    """min(rho, 1 + high) A ln pi: the clip bounds a token's weight and silences none."""
    return ratio.detach().clamp(max=1 + clip.high) * advantage * logp


def by_token(change: Tensor, _batch: Answers, _weight: Tensor) -> Tensor:
    """Each token's own ratio: change [N] is ln pi - ln pi_old."""
    return change.exp()


def by_answer(change: Tensor, batch: Answers, weight: Tensor) -> Tensor:
    """One ratio for all tokens of an answer: the geometric mean of theirs."""
    sums = change.new_zeros(len(batch.lengths)).index_add(0, batch.answer, change * weight)  # [A]
    return (sums / batch.lengths).exp()[batch.answer]


@dataclass(frozen=True)
class Algorithm:
    """What tells one way from another."""

    count: Literal["answers", "tokens"]  # what the loss is a mean over
    clip: Clip  # the default
    ratio: Callable[[Tensor, Answers, Tensor], Tensor] = by_token
    gain: Callable[[Tensor, Tensor, Tensor, Clip], Tensor] = clipped
    constant_length: bool = False  # an answer's sum is divided by max_tokens, not by its length
    normalised: bool = True  # advantages are divided by the group's standard deviation


ALGORITHMS: Mapping[Name, Algorithm] = {
    # 2402.03300 gives no eps; 0.2 is PPO's (1707.06347).
    "grpo": Algorithm("answers", Clip(0.2, 0.2)),
    "dr_grpo": Algorithm("answers", Clip(0.2, 0.2), constant_length=True, normalised=False),
    "dapo": Algorithm("tokens", Clip(0.2, 0.28)),
    "gspo": Algorithm("answers", Clip(3e-4, 4e-4), ratio=by_answer),
    # 2506.13585 gives no bound; a ratio of 5 is ScaleRL's (2510.13786).
    "cispo": Algorithm("tokens", Clip(1.0, 4.0), gain=weighted),
}


def policy(
    outputs: Outputs,
    batch: Answers,
    *,
    algorithm: Name = "grpo",
    clip: Clip | None = None,
    beta: float = 0.0,
    temperature: float = 1.0,
    max_tokens: int = 1,
    truncation: float | None = None,
    bound: float = 0.1,
) -> Loss:
    """The loss of rolled-out answers: its sum over what `batch` counts.

    clip: None: the algorithm's own. temperature: at which the answers were drawn. max_tokens: of an
    answer, for dr_grpo. truncation: the cap of the correction for the sampler; None: none.
    bound: a difference of log-probabilities, trainer to sampler, beyond which a token is counted.
    """
    way = ALGORITHMS[algorithm]
    clip = clip or way.clip
    logp, entropy = logprobs(
        outputs.hidden, outputs.head, batch.targets, batch.mask, temperature=temperature
    )  # [N], [N]
    old = batch.values.get("old_logprobs", logp.detach())
    advantage = batch.values["advantages"][batch.answer]  # [N]
    weight = batch.mask.flatten()[batch.mask.flatten() != 0].float()  # [N]
    each = weight / batch.lengths[batch.answer] if way.count == "answers" else weight

    ratio = way.ratio(logp - old, batch, weight)
    gain = way.gain(ratio, advantage, logp, clip)
    if truncation is not None:
        gain = gain * (old - batch.values["sampler_logprobs"]).exp().clamp(max=truncation)
    loss = -gain
    metrics = {
        "ratio": ratio.detach(),
        "clipped_low": ((ratio < 1 - clip.low) & (advantage < 0)).float(),
        "clipped_high": ((ratio > 1 + clip.high) & (advantage > 0)).float(),
        "entropy": entropy,
    }
    if beta:
        kl = k3(batch.values["ref_logprobs"] - logp)
        loss = loss + beta * kl
        metrics["kl"] = kl.detach()
    if "sampler_logprobs" in batch.values:
        metrics |= mismatch(old - batch.values["sampler_logprobs"], bound)
    of_loss = weight / max_tokens if way.constant_length else each
    total = (loss * of_loss).sum()
    sums = {name: (value * each).sum() for name, value in metrics.items()}
    return Loss(total, batch.count, {"loss": total.detach(), **sums})


def k3(difference: Tensor) -> Tensor:
    """r - ln r - 1, given ln r: never negative.

    Its mean over draws from q, with r = p / q, is KL(q || p) (Schulman, 2020).
    """
    return difference.expm1() - difference


def mismatch(difference: Tensor, bound: float) -> dict[str, Tensor]:
    """How far the trainer is from the sampler of the same weights: ln pi_old - ln pi_sampler [N].

    Its KL divergence by k3, the mean distance, and the share of tokens beyond `bound`.
    """
    distance = difference.abs()
    return {
        "mismatch_kl": k3(difference),
        "mismatch": distance,
        "mismatch_beyond": (distance > bound).float(),
    }
