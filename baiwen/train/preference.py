"""Direct preference optimisation: a chosen answer against a rejected one (Rafailov et al., 2023).

    loss = dpo(model(batch.tokens, ...), batch, beta=0.1)

With pi the model that trains, ref the one it starts from and sums over an answer's learned tokens,
an answer's log-ratio is r = log pi(answer | prompt) - log ref(answer | prompt), its implicit reward
beta r, and h = r_chosen - r_rejected. A variant is a function of h (`sigmoid`, `ipo`); what goes
into it and what is added to it are knobs of `dpo`.

Each tree of the batch is a pair: its first answer is the chosen one, its second the rejected, and
`values["ref_logprobs"]` holds log ref of both (`references.py`).

N kept tokens, A answers, P pairs (A = 2 P).
"""

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.model.transformer import Outputs
from baiwen.train.logprobs import logprobs
from baiwen.train.losses import Batch, Loss

Variant = Literal["sigmoid", "ipo"]


class Answers(Batch, Protocol):
    """A batch of answers to prompts (`data/trees.py`), as far as log-probabilities need it."""

    answer: Tensor  # int64 [N]: the answer that each kept token belongs to
    tree: Tensor  # int64 [A]: the tree that each answer belongs to
    lengths: Tensor  # float32 [A]: the sum of each answer's mask
    values: dict[str, Tensor]  # [A] each


def dpo(
    outputs: Outputs,
    batch: Answers,
    *,
    beta: float = 0.1,
    variant: Variant = "sigmoid",
    label_smoothing: float = 0.0,
    normalise: bool = False,
    nll: float = 0.0,
) -> Loss:
    """The preference loss summed over pairs; metrics with rewards, margin and accuracy.

    beta: how dear it is to leave the reference (IPO's tau).
    label_smoothing: share of pairs taken to be labelled the wrong way round, below 0.5; sigmoid
        only.
    normalise: log-ratios as means over an answer's tokens: with sigmoid the length-normalised DPO
        of Tulu 3 (Lambert et al., 2024: DPO's reference, the means of SimPO, Meng et al., 2024),
        with IPO what TRL computes.
    nll: weight of the chosen answer's mean negative log-likelihood (Pang et al., 2024).
    Margin and accuracy are those of the rewards as the loss sees them.
    """
    sums = answer_logprobs(outputs, batch)  # [A]
    ratios = sums - batch.values["ref_logprobs"]
    if normalise:
        ratios = ratios / batch.lengths
    chosen, rejected = ratios.view(-1, 2).unbind(1)  # [P] each
    h = chosen - rejected
    losses = ipo(h, beta) if variant == "ipo" else sigmoid(h, beta, label_smoothing)
    if nll:
        losses = losses - nll * (sums / batch.lengths)[::2]
    total = losses.sum()
    says = sums.detach().view(-1, 2).sum(0)  # [2]
    metrics = {
        "loss": total,
        "reward_chosen": beta * chosen.sum(),
        "reward_rejected": beta * rejected.sum(),
        "margin": beta * h.sum(),
        "accuracy": (h > 0).float().sum(),
        "logprobs_chosen": says[0],
        "logprobs_rejected": says[1],
    }
    return Loss(total, batch.count, {name: value.detach() for name, value in metrics.items()})


def sigmoid(h: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-(1 - e) log sigma(beta h) - e log sigma(-beta h) of each pair, [P] -> [P].

    Rafailov et al. (2023), equation 7; with e > 0 conservative DPO (Mitchell, 2023).
    """
    return -(1 - label_smoothing) * F.logsigmoid(beta * h) - label_smoothing * F.logsigmoid(
        -beta * h
    )


def ipo(h: Tensor, beta: float) -> Tensor:
    """(h - 1 / (2 beta))^2 of each pair, [P] -> [P] (Azar et al., 2023, equation 17)."""
    return (h - 1 / (2 * beta)).square()


def answer_logprobs(outputs: Outputs, batch: Answers) -> Tensor:
    """Log-probability of each answer, float32 [A]: the sum over its learned tokens."""
    of_tokens, _ = logprobs(outputs.hidden, outputs.head, batch.targets, batch.mask)  # [N]
    weights = batch.mask[batch.mask != 0]  # [N]
    sums = torch.zeros(len(batch.tree), dtype=of_tokens.dtype, device=of_tokens.device)
    return sums.index_add(0, batch.answer, of_tokens * weights)
