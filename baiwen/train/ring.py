"""Ring attention: keys and values go round the ranks that share rows (Liu et al., 2023).

    here = blocks(4096, rank=1, ranks=2)             # (slice(1024, 2048), slice(2048, 3072))
    out = attend(q, k, v, documents, group)          # of the tokens here

A row is cut in 2 R blocks, of which rank r has the r-th and the r-th from the end: so all ranks see
as many pairs of tokens. In R rounds each rank meets the keys of all others, sends on what it holds
while it computes, and merges what its queries see (`model/parts.py`); what stands in other
documents is not computed. Backward the keys go round once more, and the sums of their gradients go
with them until they are home.

B rows, T tokens of a row, R ranks, t = T / R tokens of each, H query heads, K key heads, D head
size.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import P2POp, ProcessGroup, batch_isend_irecv, irecv, isend

from baiwen.model.documents import Documents
from baiwen.model.parts import nothing
from baiwen.model.rectangles import Part, add, add_gradients, together


def blocks(length: int, rank: int, ranks: int) -> tuple[slice, slice]:
    """The tokens of a row of `length` that are a rank's, in their order."""
    size = length // (2 * ranks)
    first, second = (slice(n * size, (n + 1) * size) for n in (rank, 2 * ranks - 1 - rank))
    return first, second


def attend(q: Tensor, k: Tensor, v: Tensor, documents: Documents, group: ProcessGroup) -> Tensor:
    """Causal attention within documents: q [B, t, H, D], k and v [B, t, K, D] -> [B, t, H, D].

    `documents` are those of whole rows, tokens those of `blocks`.
    """
    rank, ranks = group.rank(), group.size()
    rounds = [seen(documents, rank, (rank - n) % ranks, ranks) for n in range(ranks)]
    out = _Ring.apply(q, k, v, rounds, group)
    assert isinstance(out, Tensor)
    return out


def seen(documents: Documents, rank: int, peer: int, ranks: int) -> list[Part]:
    """What the tokens of a rank see of the peer's, by their places among the tokens of each."""
    mine, theirs = (_placed(documents.width, one, ranks) for one in (rank, peer))
    return together(_parts(documents, mine, theirs))


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rounds: Sequence[Sequence[Part]],
        group: ProcessGroup,
    ) -> Tensor:
        q, own = q.contiguous(), torch.stack((k, v))  # [2, B, t, K, D]
        sums, lse = nothing(q)
        for parts, (keys, values) in zip(rounds, _round(own, group), strict=True):
            add((sums, lse), q, keys, values, parts)
        out = sums.to(q.dtype)
        ctx.save_for_backward(q, own, out, lse)
        ctx.rounds, ctx.group = rounds, group
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        q, own, out, lse = ctx.saved_tensors
        grad = grad.contiguous()
        dq, slopes = (torch.zeros_like(x, dtype=lse.dtype) for x in (q, own))
        for parts, (keys, values) in zip(ctx.rounds, _round(own, ctx.group), strict=True):
            add_gradients((dq, *slopes), grad, q, keys, values, out, lse, parts)
            # Those of the keys that leave next; after the last round they come home.
            slopes = _passed_on(slopes, ctx.group)()
        dk, dv = slopes.to(own.dtype)
        return dq.to(q.dtype), dk, dv, None, None


def _round(own: Tensor, group: ProcessGroup) -> Iterator[Tensor]:
    """What this rank has, then what the one before has, ...: it travels while one is worked on."""
    held, last = own, group.size() - 1
    for number in range(group.size()):
        arrived = _passed_on(held, group, tag=1) if number < last else None
        yield held
        if arrived:
            held = arrived()


def _passed_on(x: Tensor, group: ProcessGroup, tag: int = 0) -> Callable[[], Tensor]:
    """Send x to the next rank; the function waits for what the one before sends."""
    rank, ranks = group.rank(), group.size()
    arriving = torch.empty_like(x)
    work = batch_isend_irecv(
        [
            P2POp(isend, x, group=group, tag=tag, group_peer=(rank + 1) % ranks),
            P2POp(irecv, arriving, group=group, tag=tag, group_peer=(rank - 1) % ranks),
        ]
    )

    def arrived() -> Tensor:
        for one in work:
            one.wait()
        return arriving

    return arrived


def _placed(length: int, rank: int, ranks: int) -> list[tuple[range, int]]:
    """The blocks of a rank, and how far its tokens of them are from their places in the row."""
    both = [range(block.start, block.stop) for block in blocks(length, rank, ranks)]
    return [(block, n * len(block) - block.start) for n, block in enumerate(both)]


def _parts(
    documents: Documents, mine: list[tuple[range, int]], theirs: list[tuple[range, int]]
) -> Iterator[Part]:
    for before, shared, first, count in documents.runs:
        row = first // documents.width
        start = row * documents.width
        own = range(first - start, first - start + count)
        trunk = range(before - start, before - start + shared)
        for (block, at), (other, there) in product(mine, theirs):
            queries = _both(own, block)
            if other.start > block.start or not queries:
                continue
            for run, causal in ((own, other == block), (trunk, False)):
                if keys := _both(run, other):
                    yield Part(_moved(queries, at), _moved(keys, there), causal, (row, row + 1))


def _both(one: range, other: range) -> range:
    """What lies in both."""
    return range(max(one.start, other.start), min(one.stop, other.stop))


def _moved(run: range, by: int) -> tuple[int, int]:
    return run.start + by, run.stop + by
