"""Ring attention: keys and values go round the ranks that share rows (Liu et al., 2023).

    here = blocks(4096, rank=1, ranks=2)             # (slice(1024, 2048), slice(2048, 3072))
    out = attend(q, k, v, documents, None, group)    # of the tokens here

A row is cut in 2 R blocks, of which rank r has the r-th and the r-th from the end: so all ranks see
as many pairs of tokens. In R rounds each rank meets the keys of all others, sends on what it holds
while it computes, and merges what its queries see: the rectangles of `dual.lists`, cut where blocks
end, so that nothing else is computed. Backward the keys go round once more, and the sums of their
gradients go with them until they are home.

B rows, T tokens of a row, R ranks, t = T / R tokens of each, H query heads, K key heads, D head
size.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import P2POp, ProcessGroup, batch_isend_irecv, irecv, isend

from baiwen.model import dual
from baiwen.model.dca import Kind, Turns
from baiwen.model.documents import Documents
from baiwen.model.parts import nothing
from baiwen.model.rectangles import Part, add, add_gradients, together


def blocks(length: int, rank: int, ranks: int) -> tuple[slice, slice]:
    """The tokens of a row of `length` that are a rank's, in their order."""
    size = length // (2 * ranks)
    first, second = (slice(n * size, (n + 1) * size) for n in (rank, 2 * ranks - 1 - rank))
    return first, second


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents,
    turning: Turns | None,
    group: ProcessGroup,
) -> Tensor:
    """Causal attention within documents: q [B, t, H, D], k and v [B, t, K, D] -> [B, t, H, D].

    `documents` are those of whole rows; tokens, and with dual chunk attention their turns, those of
    `blocks`.
    """
    rank, ranks = group.rank(), group.size()
    whole = dual.lists(documents, turning.length if turning else None)
    rounds = [
        {
            kind: seen(parts, documents.width, rank, (rank - n) % ranks, ranks)
            for kind, parts in whole.items()
        }
        for n in range(ranks)
    ]
    out = _Ring.apply(q, k, v, turning, rounds, group)
    assert isinstance(out, Tensor)
    return out


def seen(parts: Iterable[Part], length: int, rank: int, peer: int, ranks: int) -> list[Part]:
    """Of parts of whole rows what a rank asks of the peer's keys, by the places that those have."""
    mine, theirs = (_placed(length, one, ranks) for one in (rank, peer))
    return together(_cut(parts, mine, theirs))


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        q: Tensor,
        k: Tensor,
        v: Tensor,
        turning: Turns | None,
        rounds: Sequence[Mapping[Kind, Sequence[Part]]],
        group: ProcessGroup,
    ) -> Tensor:
        q, own = q.contiguous(), torch.stack((k, v))  # [2, B, t, K, D]
        asked = {kind: turning.turn(q, kind) if turning else q for kind in rounds[0]}
        sums, lse = nothing(q)
        for lists, (keys, values) in zip(rounds, _round(own, group), strict=True):
            for kind, parts in lists.items():
                add((sums, lse), asked[kind], keys, values, parts)
        out = sums.to(q.dtype)
        ctx.save_for_backward(q, own, out, lse)
        ctx.turning, ctx.rounds, ctx.group = turning, rounds, group
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        q, own, out, lse = ctx.saved_tensors
        grad, turning = grad.contiguous(), ctx.turning
        asked = {kind: turning.turn(q, kind) if turning else q for kind in ctx.rounds[0]}
        dq = {kind: torch.zeros_like(q, dtype=lse.dtype) for kind in asked}
        slopes = torch.zeros_like(own, dtype=lse.dtype)
        for lists, (keys, values) in zip(ctx.rounds, _round(own, ctx.group), strict=True):
            for kind, parts in lists.items():
                sums = dq[kind], *slopes
                add_gradients(sums, grad, asked[kind], keys, values, out, lse, parts)
            # Those of the keys that leave next; after the last round they come home.
            slopes = _passed_on(slopes, ctx.group)()
        turned = [dual.turned_back(x, turning, kind) for kind, x in dq.items()]
        dk, dv = slopes.to(own.dtype)
        return torch.stack(turned).sum(0).to(q.dtype), dk, dv, None, None, None


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


def _cut(
    parts: Iterable[Part], mine: list[tuple[range, int]], theirs: list[tuple[range, int]]
) -> Iterator[Part]:
    for part in parts:
        for (block, at), (other, there) in product(mine, theirs):
            queries, keys = _both(range(*part.queries), block), _both(range(*part.keys), other)
            if queries and keys and not (part.causal and other.start > block.start):
                own = part.causal and other == block
                yield Part(_moved(queries, at), _moved(keys, there), own, part.rows)


def _both(one: range, other: range) -> range:
    """What lies in both."""
    return range(max(one.start, other.start), min(one.stop, other.stop))


def _moved(run: range, by: int) -> tuple[int, int]:
    return run.start + by, run.stop + by
