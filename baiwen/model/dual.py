"""Dual chunk attention over packed rows, forward and backward: the form that trains.

    turning = dca.turns(config, positions)
    out = attend(q, k, v, documents, turning)                # as `kernels.attend`

What it computes stands in `dca.py`. Each document is cut where its chunks end; the queries of a
chunk see themselves, the chunk before and the older ones as rectangles of keys, under the three
turns of the query, and `rectangles` adds those up. Nothing of size [T, S] is held. A branch of a
tree counts its places on from its trunk's, and so does its chunk.

B rows, T tokens, H query heads, K key heads, D head size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from baiwen.model import dca
from baiwen.model.dca import Kind, Turns
from baiwen.model.documents import Documents
from baiwen.model.fused import rotate
from baiwen.model.parts import nothing
from baiwen.model.rectangles import Part, add, add_gradients, together


def attend(q: Tensor, k: Tensor, v: Tensor, documents: Documents | None, turning: Turns) -> Tensor:
    """q [B, T, H, D], k and v [B, T, K, D], turned to their places in their chunks -> [B, T, H, D].

    Within documents, or rows where there are none; `turning` is of the tokens' places in them.
    """
    rows, tokens = q.shape[:2]
    documents = documents or Documents.of([[tokens]] * rows)
    out = _Dual.apply(q, k, v, turning, lists(documents, turning.length))
    assert isinstance(out, Tensor)
    return out


class _Dual(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        q: Tensor,
        k: Tensor,
        v: Tensor,
        turning: Turns,
        lists: dict[Kind, list[Part]],
    ) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        sums, lse = nothing(q)
        for kind, parts in lists.items():
            add((sums, lse), turning.turn(q, kind), k, v, parts)
        out = sums.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.turning, ctx.lists = turning, lists
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        q, k, v, out, lse = ctx.saved_tensors
        grad = grad.contiguous()
        dq, dk, dv = (torch.zeros_like(x, dtype=lse.dtype) for x in (q, k, v))
        for kind, parts in ctx.lists.items():
            slopes = torch.zeros_like(dq)
            asked = ctx.turning.turn(q, kind)
            add_gradients((slopes, dk, dv), grad, asked, k, v, out, lse, parts)
            dq += turned_back(slopes, ctx.turning, kind)
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None


def turned_back(x: Tensor, turning: Turns, kind: Kind) -> Tensor:
    """The inverse of `turning.turn`, which is its transpose: of the gradient of a turned query."""
    if kind == "intra":
        return x
    cosine, sine = turning.succ if kind == "succ" else turning.inter
    return rotate(x, cosine, -sine)


def lists(documents: Documents, length: int | None) -> dict[Kind, list[Part]]:
    """The parts of all documents in chunks of `length`, by the turn of the query; None: uncut."""
    found: dict[Kind, list[Part]] = {"intra": [], "succ": [], "inter": []}
    for before, shared, first, count in documents.runs:
        row, token = divmod(first, documents.width)
        rows, trunk = (row, row + 1), before - row * documents.width
        for piece in dca.pieces(shared, shared + count, length):
            queries = token + piece.queries.start, token + piece.queries.stop
            for kind, keys in piece.parts:
                begin, end = keys.start, min(keys.stop, shared)
                if begin < end:
                    found[kind].append(Part(queries, (trunk + begin, trunk + end), False, rows))
                begin, end = max(keys.start, shared) - shared, keys.stop - shared
                if begin < end:
                    own = token + begin, token + end
                    found[kind].append(Part(queries, own, kind == "intra", rows))
    return {kind: together(parts) for kind, parts in found.items() if parts}
