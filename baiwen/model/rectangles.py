"""Attention over rectangles of packed rows: which queries see which keys, as a list of parts.

    parts = together(Part((0, 5), (0, 5), True, (row, row + 1)) for row in range(2))
    sums = nothing(q)                                        # out and lse
    add(sums, q, k, v, parts)
    add_gradients((dq, dk, dv), grad, q, k, v, *sums, parts)

What a query sees may come from several lists, and under several turns of the query (`dual.py`) or
from several processes (`train/ring.py`): sums of all of them are the attention over all.

B rows, T queries, S keys, H query heads, K key heads, D head size.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baiwen.model import flash
from baiwen.model.parts import backward, forward, merge


@dataclass(frozen=True, order=True)
class Part:
    """A rectangle in rows of tokens: the first row, query and key, and those behind the last."""

    queries: tuple[int, int]
    keys: tuple[int, int]
    causal: bool  # the queries are the keys, and see those up to their own
    rows: tuple[int, int]

    def of_queries(self, x: Tensor) -> Tensor:
        """A view of its part of x [B, T, ...]."""
        return x[slice(*self.rows), slice(*self.queries)]

    def of_keys(self, x: Tensor) -> Tensor:
        """A view of its part of x [B, S, ...]."""
        return x[slice(*self.rows), slice(*self.keys)]

    def of_lse(self, x: Tensor) -> Tensor:
        """A view of its part of x [B, H, T]."""
        return x[slice(*self.rows), :, slice(*self.queries)]


def together(alone: Iterable[Part]) -> list[Part]:
    """The same parts, alike ones of neighbouring rows as one."""
    found: list[Part] = []
    for part in sorted(alone):
        last = found[-1] if found else None
        shape = part.queries, part.keys, part.causal
        if last and (*shape, last.rows[1]) == (last.queries, last.keys, last.causal, part.rows[0]):
            found[-1] = Part(*shape, (last.rows[0], part.rows[1]))
        else:
            found.append(part)
    return found


def add(
    sums: tuple[Tensor, Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    parts: Sequence[Part],
) -> None:
    """Merge `parts` of q [B, T, H, D] and k, v [B, S, K, D] into the out and lse of `nothing`."""
    for part, out, lse in _forward_each(q, k, v, parts):
        before = part.of_queries(sums[0]), part.of_lse(sums[1])
        for old, merged in zip(before, merge((before[0], out), (before[1], lse)), strict=True):
            old.copy_(merged)


def add_gradients(
    sums: tuple[Tensor, Tensor, Tensor],
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    parts: Sequence[Part],
) -> None:
    """Add to `sums`, those of q, k and v, what `parts` give; grad, out and lse are of the whole."""
    for part, grads in _backward_each(grad, q, k, v, out, lse, parts):
        views = part.of_queries(sums[0]), part.of_keys(sums[1]), part.of_keys(sums[2])
        for total, one in zip(views, grads, strict=True):
            total.add_(one)


def _forward_each(
    q: Tensor, k: Tensor, v: Tensor, parts: Sequence[Part]
) -> Iterator[tuple[Part, Tensor, Tensor]]:
    """Each part with its out and lse; on the diagonal all in one call, where there is a kernel."""
    own = [part for part in parts if part.causal]
    if own and flash.fits(q, k, v):
        out, lse = flash.forward(q, k, v, _spans(own))
        yield from ((part, part.of_queries(out), part.of_lse(lse)) for part in _joined(own, q))
        parts = [part for part in parts if not part.causal]
    for part in parts:
        keys, values = part.of_keys(k), part.of_keys(v)
        yield part, *forward(part.of_queries(q), keys, values, part.causal)


def _backward_each(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    parts: Sequence[Part],
) -> Iterator[tuple[Part, Sequence[Tensor]]]:
    own = [part for part in parts if part.causal]
    if own and flash.fits(q, k, v, out, grad):
        dq, dk, dv = flash.backward(q, k, v, out, lse, grad, _spans(own))
        yield from ((p, (p.of_queries(dq), p.of_keys(dk), p.of_keys(dv))) for p in _joined(own, q))
        parts = [part for part in parts if not part.causal]
    for part in parts:
        asked = [part.of_queries(x) for x in (grad, q, out)]
        keys, values = part.of_keys(k), part.of_keys(v)
        slopes = backward(asked[0], asked[1], keys, values, asked[2], part.of_lse(lse), part.causal)
        yield part, slopes


def _joined(own: Sequence[Part], q: Tensor) -> Sequence[Part]:
    """One part where they cover all queries, whose results are then added at once."""
    rows, tokens = q.shape[:2]
    sizes = [(part.rows[1] - part.rows[0]) * (part.queries[1] - part.queries[0]) for part in own]
    return [Part((0, tokens), (0, tokens), True, (0, rows))] if sum(sizes) == rows * tokens else own


def _spans(own: Sequence[Part]) -> Tensor:
    """As `flash` wants them, what costs most first."""
    spans = [
        (row, part.queries[0], part.queries[1] - part.queries[0], part.keys[0], 0, 0)
        for part in own
        for row in range(*part.rows)
    ]
    spans.sort(key=lambda span: -span[2])
    return torch.tensor(spans, dtype=torch.int32, device="cpu")
