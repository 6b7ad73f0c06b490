"""Log-probabilities of given tokens under the model, with their gradient, without the logits.

Preference and policy objectives weigh every token by what they find out from its log-probability,
so the gradient of the head cannot be formed in the forward pass, as `losses.head_loss` does.

    logps, entropies = logprobs(outputs.hidden, outputs.head, batch.targets, batch.mask)  # [N] each
    loss = -(advantages * logps).sum()

The head runs in chunks of tokens, and `[tokens, vocabulary]` logits never exist unless they are few
(`KEPT_ENTRIES`): then what the gradient needs of them waits for the backward pass, which else
computes it again.

Shapes: B batch, T tokens of a row, N tokens with a mask, n tokens of a chunk, C hidden size,
V vocabulary rows (of this rank, where ranks share the head: `vocabulary.py`).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from baiwen.train import vocabulary
from baiwen.train.losses import add_matmul, chunk_tokens, matmul_dtype
from baiwen.train.vocabulary import Split

# Entries of all logits up to which they are kept for backward: 2**26 are 256 MiB in fp32.
KEPT_ENTRIES = 2**26


def logprobs(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    mask: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N] of the targets, and entropies [N] (no gradient), fp32, in nats.

    hidden [B, T, C], head [V, C], targets and mask [B, T]. Of the N tokens whose mask is not 0, in
    reading order; the others cost nothing. Logits are divided by `temperature`. `chunk` is the
    number of tokens whose logits exist at a time. Under autocast the matmuls run in its dtype;
    softmax, sums and the head's gradient are fp32 always.
    """
    head, split = vocabulary.here(head)
    kept = mask.flatten().nonzero().squeeze(1)  # [N]
    results = _Logprobs.apply(
        hidden.flatten(0, -2),  # [B*T, C]
        head,
        kept,
        targets.flatten()[kept],
        split,
        temperature,
        chunk or chunk_tokens(head.shape[0], head.device),
        torch.is_grad_enabled() and len(kept) * head.shape[0] <= KEPT_ENTRIES,
    )
    return results[0], results[1]


class _Logprobs(torch.autograd.Function):
    """The chunked head: forward keeps the slopes of the logits, or backward makes them again."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: Tensor,
        head: Tensor,
        kept: Tensor,
        targets: Tensor,
        split: Split,
        temperature: float,
        chunk: int,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        matrix = head.to(matmul_dtype(hidden))  # [V, C]
        logps, entropies = hidden.new_empty(2, len(kept), dtype=torch.float32).unbind()
        slopes, shares = [], []
        with torch.autocast(hidden.device.type, enabled=False):
            for part in _parts(len(kept), chunk):
                states = hidden[kept[part]].to(matrix.dtype)  # [n, C]
                logits = _logits(states, matrix, temperature)  # [n, V]
                found = vocabulary.softmax(logits, targets[part], split)
                logps[part] = (found.aimed - found.normaliser)[:, 0]
                mean = torch.linalg.vecdot(found.probs, logits.float())
                entropies[part] = found.normaliser[:, 0] - vocabulary.total(mean, split)
                shares.append(found.share)
                if keep:
                    slope = vocabulary.less_target(found.probs, targets[part], split)
                    slopes.append(slope.to(matrix.dtype))
        ctx.save_for_backward(hidden, head, kept, targets, *slopes)
        ctx.temperature, ctx.chunk, ctx.dtype = temperature, chunk, matrix.dtype
        ctx.split, ctx.shares = split, shares
        ctx.mark_non_differentiable(entropies)
        return logps, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        hidden, head, kept, targets, *slopes = ctx.saved_tensors
        matrix = head.to(ctx.dtype)
        grad_hidden = torch.zeros_like(hidden)
        grad_head = torch.zeros_like(head, dtype=torch.float32)
        weights = (-grad / ctx.temperature)[:, None]  # [N, 1]: slopes are those of -log p
        with torch.autocast(hidden.device.type, enabled=False):
            for number, part in enumerate(_parts(len(kept), ctx.chunk)):
                rows = kept[part]
                states = hidden[rows].to(matrix.dtype)  # [n, C]
                if slopes:
                    slope = slopes[number]
                else:
                    logits = _logits(states, matrix, ctx.temperature)
                    probs = vocabulary.again(logits, ctx.shares[number])
                    slope = vocabulary.less_target(probs, targets[part], ctx.split)
                    slope = slope.to(matrix.dtype)
                grad_hidden[rows] = (slope @ matrix).mul_(weights[part]).to(hidden.dtype)
                add_matmul(grad_head, slope.T, states.mul_(weights[part]))
        return grad_hidden, grad_head.to(head.dtype), *(None,) * 6


def _parts(tokens: int, chunk: int) -> list[slice]:
    return [slice(first, first + chunk) for first in range(0, tokens, chunk)]


def _logits(states: Tensor, matrix: Tensor, temperature: float) -> Tensor:
    """[n, V], divided by the temperature (in fp32)."""
    logits = states @ matrix.T
    return logits if temperature == 1 else logits.float().div_(temperature)
