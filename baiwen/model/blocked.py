"""Causal attention for training on a CPU: blocks of queries, each against the keys before its end.

PyTorch's fused CPU attention reads 32 GFLOP/s forward and 26 backward on a core whose matmul does
92 (fp32, AVX2, 512 tokens, heads of 64). Documents of a few hundred tokens leave room for a plainer
way: three matmuls and a softmax a block, the probabilities kept for the backward pass. It skips the
keys that causality hides, folds the heads of a group into one matmul, and takes 0.63 of the fused
form's time at 512 tokens, 0.8 to 0.9 of it at 192 to 1,024 (`benchmarks/kernels.py`). What it keeps
grows with the square of the length, so long documents belong to the fused form; `kernels.causal`
decides.

B batch, T tokens, H query heads, K key heads, G = H / K, D head size, b queries of a block,
s keys that a block sees.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

QUERIES = 64  # of a block: the best of 64, 128 and 256 at 256 to 1,024 tokens


@torch.compiler.disable  # already a handful of large operations a block
def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [B, T, H, D], k and v [B, T, K, D] -> [B, T, H, D]."""
    out = _Blocked.apply(q, k, v)
    assert isinstance(out, Tensor)
    return out


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # noqa: ANN401
        keys, values = _by_head(k), _by_head(v)  # [B*K, T, D]
        scale, out, kept = 1 / math.sqrt(q.shape[-1]), torch.empty_like(q), []
        for here, seen in _blocks(q.shape[1]):
            queries = _fold(q[:, here], k.shape[2])  # [B*K, G*b, D]
            scores = torch.bmm(queries, keys[:, seen].transpose(1, 2)).mul_(scale)
            probs = torch.softmax(_hide_later(scores, here), dim=-1)  # [B*K, G*b, s]
            _unfold(torch.bmm(probs, values[:, seen]), out[:, here])
            kept.append(probs)
        ctx.save_for_backward(q, keys, values, out, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        q, keys, values, out, *kept = ctx.saved_tensors
        scale, groups = 1 / math.sqrt(q.shape[-1]), keys.shape[0] // q.shape[0]  # K
        grad_q = torch.empty_like(q)
        grad_keys, grad_values = torch.zeros_like(keys), torch.zeros_like(values)
        for (here, seen), probs in zip(_blocks(q.shape[1]), kept, strict=True):
            slope, queries = _fold(grad[:, here], groups), _fold(q[:, here], groups)
            # The softmax subtracts sum(p * dp) over the keys, which is sum(out * grad) over D.
            mean = (slope * _fold(out[:, here], groups)).sum(-1, keepdim=True)  # [B*K, G*b, 1]
            grad_values[:, seen].baddbmm_(probs.transpose(1, 2), slope)
            scores = torch.bmm(slope, values[:, seen].transpose(1, 2))
            scores = scores.sub_(mean).mul_(probs).mul_(scale)  # [B*K, G*b, s]
            _unfold(torch.bmm(scores, keys[:, seen]), grad_q[:, here])
            grad_keys[:, seen].baddbmm_(scores.transpose(1, 2), queries)
        return grad_q, _by_token(grad_keys, q), _by_token(grad_values, q)


def _blocks(width: int) -> Iterator[tuple[slice, slice]]:
    """Each block's queries, and the keys up to its end."""
    for start in range(0, width, QUERIES):
        end = min(start + QUERIES, width)
        yield slice(start, end), slice(0, end)


def _hide_later(scores: Tensor, here: slice) -> Tensor:
    """Scores [B*K, G*b, s] with -inf where a key comes after its query, in place."""
    size = here.stop - here.start
    later = torch.ones(size, size, dtype=torch.bool).triu(1)
    scores.unflatten(1, (-1, size))[..., here].masked_fill_(later, -torch.inf)
    return scores


def _fold(x: Tensor, groups: int) -> Tensor:
    """[B, b, H, D] -> [B*K, G*b, D]: the query heads of a key head become further queries."""
    split = x.unflatten(2, (groups, -1))  # [B, b, K, G, D]
    return split.permute(0, 2, 3, 1, 4).flatten(0, 1).flatten(1, 2)


def _unfold(x: Tensor, into: Tensor) -> None:
    """Write [B*K, G*b, D] into a slice [B, b, H, D]: the inverse of `_fold`."""
    batch, queries, _, size = into.shape
    split = x.view(batch, x.shape[0] // batch, -1, queries, size)  # [B, K, G, b, D]
    into.unflatten(2, split.shape[1:3]).copy_(split.permute(0, 3, 1, 2, 4))


def _by_head(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)  # [B, T, K, D] -> [B*K, T, D]


def _by_token(x: Tensor, like: Tensor) -> Tensor:
    return x.unflatten(0, (like.shape[0], -1)).transpose(1, 2)  # [B*K, T, D] -> [B, T, K, D]
