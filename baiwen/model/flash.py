"""Causal attention on a CPU in C++: FlashAttention's algorithm, by blocks, forward and backward.

    if flash.fits(q, k, v):
        out = flash.attend(q, k, v, documents)                   # as kernels.attend, trains
        out, lse = flash.forward(q, k, v, spans)                 # T queries, the last of S keys
    if flash.reads(q, pages):
        out, lse = flash.paged(q, pages, place, first, last, lists)      # as kernels.prefill

Nothing of size [T, S] is stored: the logarithm of the sum of exponentials `lse` is kept, from
which the backward pass computes the probabilities again (Dao, 2023). Documents of a packed row are
spans of their own, so pairs in different documents cost nothing, and a branch reads its trunk's
keys where they lie; a chunk of a prompt reads the pages of a cache, all or what lists choose. Sums
are in fp32 and their order does not depend on the number of threads.
`benchmarks/kernels.py` sets it beside PyTorch's own.

B rows, T queries, S keys, H query heads, K key heads, D head size, n spans.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from baiwen.model.documents import Documents
from baiwen.model.native.build import FLOATS, library, takes
from baiwen.model.pages import Lists, Pages


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors, and are there."""
    return takes("attention", *tensors)


def attend(q: Tensor, k: Tensor, v: Tensor, documents: Documents | None = None) -> Tensor:
    """q [B, T, H, D], k and v [B, T, K, D] -> [B, T, H, D], within documents or else rows."""
    spans = documents.spans if documents else whole_rows(q)
    out = _Flash.apply(q, k, v, spans)
    assert isinstance(out, Tensor)
    return out


def whole_rows(q: Tensor) -> Tensor:
    """Spans [B, 6] of rows that are one document each."""
    rows, tokens = q.shape[:2]
    spans = [(row, 0, tokens, 0, 0, 0) for row in range(rows)]
    return torch.tensor(spans, dtype=torch.int32, device="cpu")


def forward(q: Tensor, k: Tensor, v: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
    """q [B, T, H, D], k and v [B, S, K, D] -> out [B, T, H, D] and lse [B, H, T] fp32.

    Query t is at place S - T + t among the keys. spans [n, 6] int32: row, first query, queries,
    first key, and the first key and the keys of a trunk, all of which is seen; of the others every
    query sees those from the first to its own. One that sees no key gets 0, and -inf as lse.
    """
    native = library("attention")
    assert native
    q, k, v = _rows_of_heads(q), _rows_of_heads(k), _rows_of_heads(v)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    lse = q.new_empty(q.shape[0], q.shape[2], q.shape[1], dtype=torch.float32)
    scale = 1 / math.sqrt(q.shape[-1])
    native.attention_forward(
        *(q, k, v, out, lse, _strides(q, k, v, out), _shape(q, k), spans, len(spans)),
        *(scale, q.dtype == torch.bfloat16),
    )
    return out, lse


def reads(q: Tensor, pages: Pages) -> bool:
    """Whether `paged` takes these queries and pages, and is there."""
    if q.device.type != "cpu" or q.requires_grad or torch.compiler.is_compiling():
        return False
    return pages.keys.dtype in (*FLOATS, torch.int8) and library("prefill") is not None


def tile() -> int | None:
    """Queries of a block that share a list in `paged`, and keys of a listed block."""
    native = library("prefill")
    return int(native.prefill_block()) if native else None


def paged(
    q: Tensor, pages: Pages, place: int, first: int, last: int, lists: Lists | None = None
) -> tuple[Tensor, Tensor]:
    """As `kernels.prefill`: q [T, H, D] -> out [T, H, D] and lse [H, T], both fp32.

    Without lists, what a query gets depends to the bit on its keys alone, not on the other queries.
    """
    native = library("prefill")
    assert native and pages.keys.is_contiguous() and pages.values.is_contiguous()
    q = _rows_of_heads(q.float()[None])[0]
    count, heads, size = q.shape
    out, lse = q.new_empty(q.shape), q.new_empty(heads, count)
    _, block_size, groups, _ = pages.keys.shape
    shape = (count, heads, groups, size, block_size, q.stride(0), place, first, last)
    native.prefill(
        *(q, pages.keys, pages.values, *(pages.scales or (None, None)), pages.keys.itemsize),
        *(pages.table.contiguous(), _host(shape), *_listed(lists, heads, groups, count)),
        *(1 / math.sqrt(size), torch.get_num_threads(), out, lse),
    )
    return out, lse


def _listed(lists: Lists | None, heads: int, groups: int, count: int) -> tuple[Any, ...]:
    """The lists as the kernel takes them."""
    if lists is None:
        return 0, None, None, None, None
    many = -(-count // int(tile() or 0)) * lists.heads + 1
    assert lists.heads in (heads, groups) and len(lists.ends) == many, "lists of other queries"
    return lists.heads, lists.firsts, lists.ends, lists.columns, lists.column_ends


def backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, grad: Tensor, spans: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v where T = S and each span begins at its own first key.

    The branches of a trunk must follow it in `spans`, as those of `Documents` do.
    """
    native = library("attention")
    assert native
    grad = _rows_of_heads(grad)
    grad_q = torch.empty_like(q, memory_format=torch.contiguous_format)
    # A head's own sums: added up below, in an order of their own.
    grad_k, grad_v = q.new_empty(2, *q.shape, dtype=torch.float32).unbind()  # [B, T, H, D]
    native.attention_backward(
        *(q, k, v, out, grad, lse, grad_q, grad_k, grad_v),
        *(_strides(q, k, v, out, grad, grad_q, grad_k, grad_v), _shape(q, k), spans, len(spans)),
        *(1 / math.sqrt(q.shape[-1]), q.dtype == torch.bfloat16),
    )
    return grad_q, _of_key_heads(grad_k, k), _of_key_heads(grad_v, k)


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, spans: Tensor) -> Tensor:  # noqa: ANN401
        q, k, v = _rows_of_heads(q), _rows_of_heads(k), _rows_of_heads(v)
        out, lse = forward(q, k, v, spans)
        ctx.save_for_backward(q, k, v, out, lse, spans)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        q, k, v, out, lse, spans = ctx.saved_tensors
        return *backward(q, k, v, out, lse, grad, spans), None


def _rows_of_heads(x: Tensor) -> Tensor:
    """The tensor [B, T, H, D], with heads side by side as the kernels want them."""
    return x if x.stride(3) == 1 and x.stride(2) == x.shape[3] else x.contiguous()


def _strides(*tensors: Tensor) -> Tensor:
    return _host([x.stride()[:2] for x in tensors])


def _shape(q: Tensor, k: Tensor) -> Tensor:
    """T, S, H, K, D."""
    return _host((q.shape[1], k.shape[1], q.shape[2], k.shape[2], q.shape[3]))


def _host(numbers: Sequence[object]) -> Tensor:
    """int64 where the kernels are, whatever the default device is."""
    return torch.tensor(numbers, dtype=torch.int64, device="cpu")


def _of_key_heads(x: Tensor, like: Tensor) -> Tensor:
    """Sums over the query heads of each key head: [B, T, H, D] -> [B, T, K, D]."""
    if x.shape[2] == like.shape[2]:
        return x.to(like.dtype)
    return x.unflatten(2, (like.shape[2], -1)).sum(3).to(like.dtype)
