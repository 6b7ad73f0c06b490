"""Dual chunk attention: long texts at distances no longer than those of training (spec 6.2).

Positions are cut into chunks of s tokens (An et al., 2024). A key stands at its place in its chunk,
j mod s, whoever asks; a query i stands there too for the keys of its own chunk ("intra"), at
min(i mod s + s, cap) for those of the chunk before ("succ") and at the cap for all older ones
("inter"). So a pair within `local_size` keeps its distance, and no distance exceeds the cap.
Rotations add up: q and k are turned to their places in their chunks like any other, and a query is
turned further by `turns` where it asks older keys. Nothing else in the model knows.

    turning = turns(config, positions)                    # [B, T] as they are, not modulo s
    out = dual.attend(q, k, v, documents, turning)
    pieces(first=5, last=9, length=4)[1].parts            # of query 8: keys 8, 4 ... 7, 0 ... 3

B batch, T tokens, S keys, H query heads, K key heads, G = H / K, D head size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from baiwen.model import compiled, fused, parts, rope
from baiwen.model.config import ModelConfig
from baiwen.model.documents import Documents
from baiwen.model.layout import Layout
from baiwen.model.pages import Lists, Pages, Scales, gather
from baiwen.model.rope import Mixed, Rope

Kind = Literal["intra", "succ", "inter"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Turns:
    """By how much queries turn further, as cosines and sines [..., T, 1, D] without temperature."""

    length: int  # s
    succ: tuple[Tensor, Tensor]  # for the keys of the chunk before
    inter: tuple[Tensor, Tensor]  # for older ones

    def turn(self, q: Tensor, kind: Kind) -> Tensor:
        """Queries [B, T, H, D] or [T, H, D], which stand at i mod s, for keys of this kind."""
        if kind == "intra":
            return q
        tables = self.succ if kind == "succ" else self.inter
        if not compiled.fits(q):
            return fused.rotate(q, *tables)
        return compiled.turn(q, *tables) if q.ndim == 4 else compiled.turn(q[None], *tables)[0]

    def all(self, q: Tensor) -> Tensor:
        """The queries as they ask keys of each kind, [3, ..., T, H, D]."""
        return torch.stack([self.turn(q, kind) for kind in KINDS])

    def rows(self, rows: slice | Tensor) -> "Turns":
        """Those of some of the tokens [N], where there is one dimension of them."""
        succ, inter = ((cosine[rows], sine[rows]) for cosine, sine in (self.succ, self.inter))
        return Turns(self.length, succ, inter)


@dataclass(frozen=True)
class Piece:
    """Queries of one chunk, and the keys that they see by the way in which they ask them."""

    queries: slice  # counted from the first query
    place: int  # of the first of them in its text
    parts: tuple[tuple[Kind, slice], ...]  # keys by their places; of "intra" up to the query's own


# Which keys some queries of a prompt see, by (layer, number of its sequence in the step, queries
# [T, H, D] as they stand in their chunk, pages, place of the first one, their piece): lists for
# each part of the piece, None where it is all keys of the part.
Choose = Callable[[int, int, Tensor, Pages, int, Piece], Sequence[Lists | None]]


def turns(config: ModelConfig, positions: Tensor, of: Rope | Mixed | None = None) -> Turns:
    """How queries at these positions [..., T], counted from the start of their text, turn further.

    From i mod s to min(i mod s + s, cap) and to the cap; `of` is the rope of the tables.
    """
    chunks = config.dual_chunk_attention_config
    assert chunks is not None
    left = chunks.farthest - positions % chunks.length
    cool = rope.cooled(of or rope.of(config))
    succ = rope.tables(config, left.clamp(max=chunks.length), cool)
    return Turns(chunks.length, succ, rope.tables(config, left, cool))


def angles(
    config: ModelConfig, positions: Tensor, documents: Documents | None = None
) -> tuple[tuple[Tensor, Tensor], Turns | None]:
    """Tables and turns of positions [B, T] without a cache; no turns where it is plain attention.

    Each document has the rope of its own length, whatever lies beside it.
    """
    chunks = config.dual_chunk_attention_config
    if chunks is None:
        return rope.tables(config, positions), None
    longest = documents.longest if documents else positions.shape[1]
    mine: Rope | Mixed = rope.of(config, longest)
    if documents and mine != rope.of(config):
        mine = Mixed.of([rope.of(config, length) for length in documents.together], documents.index)
    if longest <= chunks.plain:
        return rope.tables(config, positions, mine), None
    turning = turns(config, positions, mine)
    return rope.tables(config, positions % chunks.length, mine), turning


def pieces(first: int, last: int, length: int | None) -> list[Piece]:
    """Queries first ... last - 1 of a text, cut where chunks of `length` end; None: whole."""
    step = length or last
    found = []
    for chunk in range(first // step, -(-last // step)):
        begin, start, end = chunk * step, max(first, chunk * step), min(last, (chunk + 1) * step)
        before = max(begin - step, 0)
        keys = slice(begin, end), slice(before, begin), slice(0, before)
        seen = tuple(part for part in zip(KINDS, keys, strict=True) if part[1].start < part[1].stop)
        found.append(Piece(slice(start - first, end - first), start, seen))
    return found


def prefill(
    q: Tensor,
    pages: Pages,
    place: int,
    turning: Turns | None,
    over: Callable[..., tuple[Tensor, Tensor]],
    choose: Callable[[Tensor, Pages, int, Piece], Sequence[Lists | None]] | None = None,
) -> Tensor:
    """Queries q [T, H, D] of one text, from `place` on, over its pages: [T, H, D] fp32.

    over(q, pages, place, first, last, lists) attends some of the keys (`kernels.prefill`);
    `choose` says for each part of a piece which of them, or None for all; `turning` is that of the
    queries, None where no distance is changed.
    """
    out = q.new_empty(q.shape, dtype=torch.float32)
    length = turning.length if turning else None
    for piece in pieces(place, place + len(q), length):
        asked, rows = q[piece.queries], turning and turning.rows(piece.queries)
        lists = choose(asked, pages, piece.place, piece) if choose else [None] * len(piece.parts)
        found = [
            over(rows.turn(asked, kind) if rows else asked, pages, piece.place, keys.start,
                 keys.stop, listed)
            for (kind, keys), listed in zip(piece.parts, lists, strict=True)
        ]  # fmt: skip
        merged = parts.merge(*zip(*found, strict=True)) if len(found) > 1 else found[0]
        out[piece.queries] = merged[0]
    return out


def decode(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: Layout,
    turning: Turns,
    out: Tensor,
    scales: Scales | None = None,
) -> None:
    """Fill `out` [N, H, D] fp32 for the sequences of a step that have few queries.

    q [N, H, D], keys and values [blocks, block_size, K, D]: see `kernels.paged`.
    """
    for group in layout.few:
        k, v = gather(keys, values, group.tables, scales)  # [g, S, K, D]
        asked = turning.rows(group.rows).all(q[group.rows])  # [3, g * T, H, D]
        shape = (len(group.tables), -1)
        chunks = layout.positions[group.rows].view(*shape, 1) // turning.length
        apart = chunks - torch.arange(k.shape[1], device=k.device) // turning.length  # [g, T, S]
        apart.masked_fill_(~group.mask[:, 0], -1)
        found = _selected(asked.float().unflatten(1, shape), k.float(), v.float(), apart)
        out[group.rows] = found.flatten(0, 1)


def _selected(q: Tensor, k: Tensor, v: Tensor, apart: Tensor) -> Tensor:
    """The scores of all three turns, of which each pair of query and key takes its own.

    q [3, B, T, H, D], k and v [B, S, K, D]; apart [B, T, S]: chunks from the key's to the query's,
    below 0 where it is not seen. -> [B, T, H, D]
    """
    grouped = q.unflatten(3, (k.shape[2], -1))  # [3, B, T, K, G, D]
    scores = torch.einsum("nbtkgd,bskd->nbkgts", grouped, k) / math.sqrt(q.shape[-1])
    kind = apart.clamp(0, 2)[:, None, None].expand(scores.shape[1:])
    chosen = scores.gather(0, kind[None])[0].masked_fill(apart[:, None, None] < 0, -torch.inf)
    return torch.einsum("bkgts,bskd->btkgd", chosen.softmax(-1), v).flatten(2, 3)
