"""Columns and diagonals of the attention: which keys each query head sees, by its pattern.

The last queries of a chunk are asked for all keys; the columns and the diagonals that hold most of
their attention are what all queries of the chunk see (MInference, Jiang et al., 2024; with dual
chunk attention as vLLM did it, by queries at places that go on; spec 6.3, 6.4). A diagonal covers
blocks; so does a crowd of columns; columns that lie in no block are read alone.

    chosen, alone, recall = choose(parts, pages, grid, patterns.layers[layer])

R queries that vote, H query heads, K key heads, D head size, n blocks of queries, b blocks of keys,
S keys, c keys alone.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.model.grid import Grid, Part, read
from baiwen.model.pages import Pages
from baiwen.model.patterns import Head

SINK = 30  # first columns, which are always seen (MInference)
LOCAL = 100  # nearest distances, which are always seen (MInference)
CROWD = 0.5  # of a block's keys: so many columns are read as a block
SPREAD = 5  # keys of a part of which nothing was chosen, evenly spaced (vLLM)


def choose(
    parts: Sequence[Part], pages: Pages, grid: Grid, heads: Sequence[Head]
) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks [H, n, b], keys alone [c, 3] (block of queries, head, key), and what they hold [H].

    The parts rise and are all that the queries see. What is held is told by the queries that chose.
    """
    group = len(heads) // pages.keys.shape[2]
    voters, size = len(parts[0].straight), parts[-1].last
    # Zeros on both sides are what lies beyond the first and the last key on a diagonal.
    room = parts[0].q.new_zeros(voters, voters + size + voters, dtype=torch.float32)
    chosen, alone, recall = [], [], []
    keys: list[Tensor] = []
    for number, head in enumerate(heads):
        if number % group == 0:
            of = slice(number // group, number // group + 1)
            keys = [read(pages, part.first, part.last, of)[:, 0] for part in parts]  # [N, D]
        totals = _ask(parts, keys, number, room)
        columns = _most(_columns(room, totals), head.vertical + 100 * (head.vertical == SINK), SINK)
        blocks = _blocks(columns, _most(_diagonals(room, totals), head.slash, LOCAL), grid)
        columns = _spread(columns, blocks, grid)
        single = _alone(columns, blocks, number, grid)
        chosen.append(blocks)
        alone.append(single)
        recall.append(_held(room, totals, blocks, single, grid))
    found = torch.cat(alone)
    order = found[:, 0].argsort(stable=True)  # heads and keys rise already
    return torch.stack(chosen), found[order], torch.stack(recall)


def _ask(parts: Sequence[Part], keys: Sequence[Tensor], head: int, room: Tensor) -> Tensor:
    """Fill `room` [R, R + S + R] with exponentials of a head's scores; their sums, [R].

    The keys of each part are [N, D].
    """
    voters = len(room)
    for part, of_part in zip(parts, keys, strict=True):
        asked = part.straight[:, head].float() / math.sqrt(of_part.shape[-1])
        torch.mm(asked, of_part.T, out=room[:, voters + part.first : voters + part.last])
    scores = room[:, voters:-voters]
    later = torch.ones(voters, voters, dtype=torch.bool, device=room.device).triu(1)
    scores[:, -voters:].masked_fill_(later, -torch.inf)
    return scores.sub_(scores.amax(-1, keepdim=True)).exp_().sum(-1)


def _columns(room: Tensor, totals: Tensor) -> Tensor:
    """The attention that each key gets, [S]."""
    voters = len(room)
    return totals.reciprocal() @ room[:, voters:-voters]


def _diagonals(room: Tensor, totals: Tensor) -> Tensor:
    """The attention at each distance, [S]."""
    voters, width = room.shape
    size = width - 2 * voters
    # Row r begins r columns later: the keys that are as far from their queries as each other.
    lines = room.as_strided((voters, size), (width + 1, 1), 1)  # the farthest first
    return (totals.reciprocal() @ lines).flip(0)


def _most(sums: Tensor, size: int, always: int) -> Tensor:
    """Which `size` of the sums [S] are the largest; the first `always` count as such."""
    sums = sums.index_fill(0, torch.arange(min(always, len(sums)), device=sums.device), torch.inf)
    wanted = torch.zeros_like(sums, dtype=torch.bool)
    wanted[sums.topk(min(max(size, always), len(sums))).indices] = True
    return wanted


def _blocks(columns: Tensor, distances: Tensor, grid: Grid) -> Tensor:
    """Blocks that a diagonal crosses or that columns crowd: [S], [S] -> [n, b]."""
    before, size = _counts(distances), len(distances)
    nearest, farthest = grid.apart - (grid.ends - grid.firsts - 1), grid.apart + grid.tile
    crossed = before[farthest.clamp(0, size)] > before[nearest.clamp(0, size)]
    many = _counts(columns)
    crowded = many[grid.ends] - many[grid.firsts] >= CROWD * grid.tile
    return (crossed | crowded) & grid.seen


def _spread(columns: Tensor, blocks: Tensor, grid: Grid) -> Tensor:
    """The columns [S], and a few of every part in which there are none, nor blocks."""
    for part, keys in zip(grid.parts, grid.keys, strict=True):
        if not columns[keys].any() and not blocks[:, part].any():
            few = torch.linspace(keys.start, keys.stop - 1, SPREAD, device=columns.device)
            columns = columns.index_fill(0, few.long(), True)
    return columns


def _alone(columns: Tensor, blocks: Tensor, head: int, grid: Grid) -> Tensor:
    """Columns in no block, before the queries: [c, 3] (block of queries, head, key)."""
    keys = columns.nonzero()[:, 0]
    within = torch.searchsorted(grid.firsts, keys, right=True) - 1  # the block of each
    rows, which = (~blocks[:, within] & (keys < grid.queries[:, None])).nonzero().unbind(1)
    return torch.stack((rows, torch.full_like(rows, head), keys[which]), 1)


def _held(room: Tensor, totals: Tensor, blocks: Tensor, alone: Tensor, grid: Grid) -> Tensor:
    """Of the last queries' attention, what the blocks [n, b] and the keys alone hold."""
    voters = len(room)
    scores = room[:, voters:-voters]
    rows = torch.arange(grid.count - voters, grid.count, device=room.device) // grid.tile
    sums = torch.cat([_sums(scores[:, part], grid.tile) for part in grid.keys], -1)  # [R, b]
    held = (sums * blocks[rows]).sum(-1)
    first = grid.count - voters
    for row in range(first // grid.tile, len(blocks)):
        of = slice(max(row * grid.tile - first, 0), (row + 1) * grid.tile - first)
        held[of] += scores[of][:, alone[alone[:, 0] == row, 2]].sum(-1)
    return (held / totals).mean()


def _sums(scores: Tensor, tile: int) -> Tensor:
    """Sums of `tile` keys each, the last of what is left: [R, N] -> [R, b]."""
    whole = scores.shape[1] - scores.shape[1] % tile
    sums = [scores[:, :whole].unflatten(1, (-1, tile)).sum(-1)] if whole else []
    sums += [scores[:, whole:].sum(-1, keepdim=True)] if whole < scores.shape[1] else []
    return torch.cat(sums, -1)


def _counts(wanted: Tensor) -> Tensor:
    """How many are wanted before each place: [S] -> [S + 1]."""
    return F.pad(wanted.long().cumsum(0), (1, 0))
