"""Attention over some of the keys, forward and backward, in parts that add up exactly.

    early, late = parts.forward(q, k1, v1, False), parts.forward(q, k2, v2, True)
    out, lse = parts.merge(*zip(early, late))
    parts.backward(grad, q, k2, v2, out, lse, True)      # out and lse of all parts together

A part is a rectangle of queries and keys. It gives its output and the logarithm `lse` of its sum of
exponentials; the softmax of the parts' `lse` says how much of the whole each one is. The backward
pass computes probabilities again from `lse` (Dao, 2023): given that of the whole they are those of
the whole, so the gradients of the parts simply add up. Dual chunk attention (`dual.py`) and ring
attention (`train/ring.py`) are lists of such parts (`rectangles.py`).

The forms: the kernels of `flash` where queries see themselves, PyTorch's FlashAttention elsewhere,
and the formulas in fp32 or fp64 where there is a mask, or a form does not take the tensors.

B rows, T queries, S keys, H query heads, K key heads, D head size, G = H / K.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from baiwen.model import flash

ENTRIES = 2**21  # scores that the plain form holds at a time: 8 MiB in fp32
ATEN = torch.ops.aten


def forward(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """q [B, T, H, D], k and v [B, S, K, D] -> out [B, T, H, D] and lse [B, H, T], fp32 or more.

    causal: query t sees the keys up to S - T + t. mask [B or 1, T, S] bool: true where a query sees
    a key. A query that sees none gets 0, and -inf as lse.
    """
    if mask is None and causal and flash.fits(q, k, v):
        return flash.forward(q, k, v, flash.whole_rows(q))
    if mask is None and _aten_takes(q, k, causal):
        return _aten_forward(q, k, v, causal)
    with torch.autocast(q.device.type, enabled=False):
        return _plain_forward(q, k, v, causal, mask)


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    causal: bool,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v by this part; grad, out and lse are those of all parts together."""
    square = q.shape[1] == k.shape[1]
    if mask is None and causal and square and flash.fits(q, k, v, out, grad):
        q, k, v, out, lse = (x.contiguous() for x in (q, k, v, out, lse))
        return flash.backward(q, k, v, out, lse, grad, flash.whole_rows(q))
    if mask is None and _aten_takes(q, k, causal):
        return _aten_backward(grad, q, k, v, out, lse, causal)
    return _plain_backward(grad, q, k, v, out, lse, causal, mask)


def merge(outs: Sequence[Tensor], lses: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What parts of the same queries are together: outs [..., T, H, D], lses [..., H, T], fp32 up.

    The sum of out * softmax(lse) over the parts, and the logsumexp of their lse.
    """
    stacked = torch.stack(tuple(lses))  # [P, ..., H, T]
    lse = stacked.logsumexp(0)
    shares = (stacked - _finite(lse)).exp().transpose(-1, -2)[..., None]  # [P, ..., T, H, 1]
    whole = outs[0] * shares[0]
    for out, share in zip(outs[1:], shares[1:], strict=True):
        whole.addcmul_(out, share)
    return whole, lse


def nothing(q: Tensor) -> tuple[Tensor, Tensor]:
    """Out [B, T, H, D] and lse [B, H, T] of queries that have seen no key yet."""
    rows, tokens, heads, _ = q.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    lse = q.new_full((rows, heads, tokens), -math.inf, dtype=wide)
    return torch.zeros_like(q, dtype=wide, memory_format=torch.contiguous_format), lse


def _aten_takes(q: Tensor, k: Tensor, causal: bool) -> bool:
    """Whether PyTorch's FlashAttention does: its causal form is the square one alone."""
    if causal and q.shape[1] != k.shape[1]:
        return False
    if q.is_cuda:
        half = q.dtype in (torch.bfloat16, torch.float16)
        return half and q.shape[-1] % 8 == 0 and q.shape[-1] <= 256  # as FlashAttention wants it
    return q.device.type == "cpu" and q.dtype in (torch.float32, torch.bfloat16)


def _aten_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    heads = q.shape[2] if causal else k.shape[2]
    inputs = _folded(q, heads), _spread(k, heads), _spread(v, heads)
    if q.is_cuda:
        out, lse, *_ = ATEN._scaled_dot_product_flash_attention(*inputs, 0.0, causal)
    else:
        out, lse = ATEN._scaled_dot_product_flash_attention_for_cpu(*inputs, 0.0, causal)
    return _unfolded(out, q), lse.reshape(q.shape[0], q.shape[2], q.shape[1])


def _aten_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    heads = q.shape[2] if causal else k.shape[2]
    inputs = _folded(grad, heads), _folded(q, heads), _spread(k, heads), _spread(v, heads)
    done = _folded(out, heads), lse.reshape(inputs[1].shape[:3]).contiguous()
    if q.is_cuda:
        unused = torch.empty(2, dtype=torch.uint64, device=q.device)  # of dropout
        sizes = inputs[1].shape[2], inputs[2].shape[2]
        dq, dk, dv = ATEN._scaled_dot_product_flash_attention_backward(
            *inputs, *done, None, None, *sizes, 0.0, causal, unused, unused[:0]
        )
    else:
        dq, dk, dv = ATEN._scaled_dot_product_flash_attention_for_cpu_backward(
            *inputs, *done, 0.0, causal
        )
    return _unfolded(dq, q), _gathered(dk, k), _gathered(dv, k)


def _folded(x: Tensor, heads: int) -> Tensor:
    """[B, T, H, D] -> [B, heads, H / heads * T, D]: heads that read the same keys as one."""
    rows, _, _, size = x.shape
    return x.unflatten(2, (heads, -1)).permute(0, 2, 3, 1, 4).reshape(rows, heads, -1, size)


def _unfolded(x: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_folded`: [B, T, H, D]."""
    split = x.unflatten(2, (-1, like.shape[1]))  # [B, heads, H / heads, T, D]
    return split.permute(0, 3, 1, 2, 4).flatten(2, 3)


def _spread(x: Tensor, heads: int) -> Tensor:
    """[B, S, K, D] -> [B, heads, S, D], each key head as often as there are heads for it."""
    each = heads // x.shape[2]
    return (x.repeat_interleave(each, 2) if each > 1 else x).transpose(1, 2)


def _gathered(x: Tensor, like: Tensor) -> Tensor:
    """Of the gradient of `_spread`: [B, heads, S, D] -> [B, S, K, D]."""
    return x.unflatten(1, (like.shape[2], -1)).sum(2).transpose(1, 2)


def _plain_forward(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    out, lse = nothing(q)
    values = v.to(out.dtype)
    for at, scores in _scores(q, k, causal, mask):
        logs = scores.logsumexp(-1)  # [B, K, G, t]
        probs = (scores - _finite(logs)[..., None]).exp()
        out[:, at] = torch.einsum("bkgts,bskd->btkgd", probs, values).flatten(2, 3)
        lse[:, :, at] = logs.flatten(1, 2)
    return out.to(q.dtype), lse


def _plain_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    causal: bool,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """With p the probabilities: dv = p^T grad, ds = p (grad v^T - sum(out grad)), dq = ds k."""
    groups, scale = (k.shape[2], -1), 1 / math.sqrt(q.shape[-1])
    wide = [x.to(lse.dtype) for x in (grad, q, k, v, out)]
    slope, query, out = (x.unflatten(2, groups) for x in (wide[0], wide[1], wide[4]))
    keys, values = wide[2], wide[3]
    dq, dk, dv = torch.empty_like(query), torch.zeros_like(keys), torch.zeros_like(values)
    for at, scores in _scores(q, k, causal, mask):
        logs = _finite(lse[:, :, at]).unflatten(1, groups)[..., None]  # [B, K, G, t, 1]
        probs = (scores - logs).exp()
        dv += torch.einsum("bkgts,btkgd->bskd", probs, slope[:, at])
        means = (out[:, at] * slope[:, at]).sum(-1).permute(0, 2, 3, 1)[..., None]
        slopes = torch.einsum("btkgd,bskd->bkgts", slope[:, at], values).sub_(means)
        slopes.mul_(probs).mul_(scale)
        dq[:, at] = torch.einsum("bkgts,bskd->btkgd", slopes, keys)
        dk += torch.einsum("bkgts,btkgd->bskd", slopes, query[:, at])
    return dq.flatten(2, 3).to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)


def _scores(
    q: Tensor, k: Tensor, causal: bool, mask: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of queries, and their scores [B, K, G, t, S], -inf where a key is not seen."""
    wide = torch.promote_types(q.dtype, torch.float32)
    query = q.to(wide).unflatten(2, (k.shape[2], -1)) / math.sqrt(q.shape[-1])
    keys, tokens, seen = k.to(wide), q.shape[1], k.shape[1]
    block = max(1, ENTRIES // (q.shape[0] * q.shape[2] * seen))
    for first in range(0, tokens, block):
        at = slice(first, min(first + block, tokens))
        scores = torch.einsum("btkgd,bskd->bkgts", query[:, at], keys)
        if mask is not None:
            scores.masked_fill_(~mask[:, None, None, at], -math.inf)
        if causal:
            last = torch.arange(at.start, at.stop, device=q.device)[:, None] + seen - tokens
            scores.masked_fill_(torch.arange(seen, device=q.device) > last, -math.inf)
        yield at, scores


def _finite(lse: Tensor) -> Tensor:
    """The lse with 0 for those of queries that see nothing: their probabilities are 0, not nan."""
    return lse.masked_fill(lse == -math.inf, 0)
