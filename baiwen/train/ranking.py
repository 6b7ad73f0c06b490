"""Ranking: a reward model learns which of a prompt's answers are better (spec 9.2).

    loss = ranking(model(batch.tokens, ...), batch)

Of a prompt with k right answers and n - k wrong ones, Qwen2.5-Math-RM takes

    -1 / (k (n - k)) * sum over right i, wrong j of log sigmoid(r_i - r_j)

which for one right and one wrong answer is the pairwise loss of Bradley and Terry. Here an answer
is better than another of its prompt if its `values["rank"]` is higher, so that right and wrong are
1 and 0, and finer orders are taken as they are.

A answers, P pairs of a better and a worse one, Q prompts.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.model.reward import Rewards
from baiwen.train.losses import Batch, Loss


class Ranked(Batch, Protocol):
    """A batch of answers to prompts (`data/trees.py`), as far as their order needs it."""

    tree: Tensor  # int64 [A]: the prompt that each answer belongs to
    last: Tensor  # int64 [A]: the flat place of each answer's last token
    values: dict[str, Tensor]  # "rank": [A]


def ranking(outputs: Rewards, batch: Ranked, *, center: float = 0.0) -> Loss:
    """The loss summed over prompts, each the mean over its pairs; counted in prompts.

    center: weight of (r_better + r_worse)^2, which keeps rewards near 0, where the loss alone
    leaves their level open (Eisenstein et al., 2023, section 3: 0.01). Metrics are means over
    pairs, then prompts: `loss` without the centring, `accuracy` (the better answer has the higher
    reward), `margin` (by how much) and `score` (the mean reward). A prompt without a pair adds
    nothing and is for the caller to leave out.
    """
    rewards = answer_rewards(outputs, batch)  # [A]
    better, worse = pairs(batch.tree, batch.values["rank"])  # [P] each
    above, below = rewards[better], rewards[worse]
    margins, sums = above - below, above + below
    weights = _shares(batch.tree[better])  # [P]
    entropy = -(weights * F.logsigmoid(margins)).sum()
    # Without a pair the sum is 0 and still belongs to the graph: every rank has a backward pass.
    total = entropy + center * (weights * sums.square()).sum() + 0.0 * outputs.documents.sum()
    metrics = {
        "loss": entropy,
        "accuracy": (weights * (margins > 0)).sum(),
        "margin": (weights * margins).sum(),
        "score": (weights * sums / 2).sum(),
    }
    return Loss(total, batch.count, {name: value.detach() for name, value in metrics.items()})


def answer_rewards(outputs: Rewards, batch: Ranked) -> Tensor:
    """The reward of each answer, [A]: that of the document which its last token ends."""
    return outputs.documents[batch.documents.index.flatten()[batch.last]]


def pairs(tree: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Answers [P] and as many of the same prompt that rank below them, int64 [P]."""
    above = (tree[:, None] == tree) & (rank[:, None] > rank)  # [A, A]
    better, worse = above.nonzero(as_tuple=True)
    return better, worse


def _shares(prompts: Tensor) -> Tensor:
    """Of each pair its share of its prompt's pairs, [P] -> [P]."""
    found = torch.zeros(int(prompts.max()) + 1 if len(prompts) else 0, device=prompts.device)
    return 1 / found.scatter_add(0, prompts, torch.ones_like(prompts, dtype=found.dtype))[prompts]
