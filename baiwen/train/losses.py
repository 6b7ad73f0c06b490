"""Objectives: what a batch asks of the model's outputs, as a sum and a count.

An objective is a pure function `(outputs, batch, **knobs) -> Loss`. It returns a *sum* over the
tokens that count and how many those are; the loop divides once, by the count over all micro-batches
and ranks, so the result does not depend on how a step was split.

    loss = lm(model(batch.tokens, ...), batch, z_loss=1e-4)
    (loss.total / count_of_the_whole_step).backward()

The head and its cross-entropy run in chunks of tokens and masked tokens are left out before the
matmul, so `[tokens, vocabulary]` logits never exist. The gradient is formed in the same pass as the
loss (softmax minus one-hot needs the logits that are at hand), so nothing is kept or recomputed.

Shapes: B batch, T tokens of a row, N tokens in the loss, n tokens of a chunk, C hidden size,
V vocabulary rows (of this rank, where ranks share the head: `vocabulary.py`).
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from baiwen.model.documents import Documents
from baiwen.model.transformer import Outputs
from baiwen.train import vocabulary
from baiwen.train.vocabulary import Split

# Entries of a chunk's logits: 2**21 are 8 MiB in fp32, near the caches of a CPU (measured best).
CHUNK_ENTRIES = 2**21
# With a large vocabulary a chunk still has this many tokens: each chunk adds a [V, C] gradient to
# the sum, which must stay cheap beside its three matmuls.
CHUNK_LEAST = {"cpu": 256, "cuda": 1024}


class Batch(Protocol):
    """What the loop and the objectives read of a micro-batch; the loaders of `data/` make them."""

    tokens: Tensor  # [B, T]
    targets: Tensor  # [B, T] the next token; anything where mask is 0
    mask: Tensor  # [B, T] weight of each target
    positions: Tensor  # [B, T] restart with every document
    documents: Documents
    count: float  # sum of mask
    real: int  # tokens that are not padding
    chosen: Tensor | None  # [L, B, T, k], experts that tokens go to (`model/routing.py`), or None


@dataclass(frozen=True)
class Loss:
    """A sum over tokens, its count, and further sums (detached) that are logged per count."""

    total: Tensor
    count: float
    metrics: dict[str, Tensor] = field(default_factory=dict)


def lm(outputs: Outputs, batch: Batch, z_loss: float = 0.0) -> Loss:
    """Next-token cross-entropy, weighted by `batch.mask`, plus `z_loss` * logsumexp^2.

    The z-loss keeps the softmax normaliser near 1 (PaLM, Chowdhery et al. 2022, section 5: 1e-4).
    `metrics["loss"]` is the cross-entropy alone, so runs with and without z-loss compare.
    """
    total, entropy = head_loss(
        outputs.hidden, outputs.head, batch.targets, batch.mask, z_loss=z_loss
    )
    return Loss(total, batch.count, {"loss": entropy})


def head_loss(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    mask: Tensor,
    *,
    z_loss: float = 0.0,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums over tokens of the weighted loss (differentiable) and of the cross-entropy alone.

    hidden [B, T, C], head [V, C], targets and mask [B, T]; tokens whose mask is 0 cost nothing.
    Ranks that share the head, a DTensor, get the same sums, and each a part of hidden's gradient.
    `chunk` is the number of tokens whose logits exist at a time. Under autocast the matmuls run in
    its dtype; softmax, sums and the head's gradient are fp32 always.
    """
    head, split = vocabulary.here(head)
    chunk = chunk or chunk_tokens(head.shape[0], head.device)
    kept = mask.flatten().nonzero().squeeze(1)  # [N]
    results = _HeadLoss.apply(
        hidden.flatten(0, -2),  # [B*T, C]
        head,
        kept,
        targets.flatten()[kept],
        mask.flatten()[kept].float(),
        split,
        z_loss,
        chunk,
        torch.is_grad_enabled(),
    )
    return results[0], results[1]


def chunk_tokens(vocabulary: int, device: torch.device) -> int:
    """How many tokens' logits exist at a time."""
    return max(CHUNK_LEAST[device.type], CHUNK_ENTRIES // vocabulary)


class _HeadLoss(torch.autograd.Function):
    """The chunked head: forward leaves the two gradients behind, backward scales them."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: Tensor,
        head: Tensor,
        kept: Tensor,
        targets: Tensor,
        weights: Tensor,
        split: Split,
        z_loss: float,
        chunk: int,
        differentiate: bool,
    ) -> tuple[Tensor, Tensor]:
        dtype = matmul_dtype(hidden)
        matrix = head.to(dtype)  # [V, C]
        grads = None
        if differentiate:
            grads = torch.zeros_like(hidden), torch.zeros_like(head, dtype=torch.float32)
        sums = torch.zeros(2, dtype=torch.float32, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for part in torch.arange(len(kept), device=kept.device).split(chunk):
                aims = targets[part], weights[part, None], split
                sums += _chunk(hidden, matrix, kept[part], *aims, z_loss, grads)
        ctx.grads, ctx.head_dtype = grads, head.dtype
        total, entropy = sums.unbind()
        ctx.mark_non_differentiable(entropy)
        return total, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        hidden, head = ctx.grads
        del ctx.grads  # scaled in place: they serve one backward pass
        return hidden.mul_(grad), head.mul_(grad).to(ctx.head_dtype), *(None,) * 7


def _chunk(
    hidden: Tensor,
    matrix: Tensor,
    rows: Tensor,
    targets: Tensor,
    weights: Tensor,
    split: Split,
    z_loss: float,
    grads: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Loss and cross-entropy sums [2] of one chunk; adds its gradients to `grads`.

    With p = softmax(x), y the target and Z = logsumexp(x), the loss is Z - x_y + z Z^2, and its
    gradient (1 + 2 z Z) p - onehot(y). The weight of a token multiplies the [n, C] sides of the
    two matmuls, which are V / C times smaller than the [n, V] one.
    """
    states = hidden[rows].to(matrix.dtype)  # [n, C]
    logits = states @ matrix.T  # [n, V]
    found = vocabulary.softmax(logits, targets, split)
    del logits
    entropy = (found.normaliser - found.aimed).mul_(weights)
    total = entropy + z_loss * weights * found.normaliser.square()
    if grads is not None:
        if z_loss:
            found.probs.mul_(1 + 2 * z_loss * found.normaliser)
        slope = vocabulary.less_target(found.probs, targets, split).to(matrix.dtype)  # [n, V]
        del found
        grads[0][rows] = (slope @ matrix).mul_(weights).to(hidden.dtype)
        add_matmul(grads[1], slope.T, states.mul_(weights))
    return torch.stack([total.sum(), entropy.sum()])


def add_matmul(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total += left @ right`, with `total` in fp32 whatever the factors' dtype."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def matmul_dtype(hidden: Tensor) -> torch.dtype:
    """Autocast's dtype where that is on, else that of the states."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
