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
    chosen, alone, recall = [], [], []
    keys: list[Tensor] = []
    for number, head in enumerate(heads):
        if number % group == 0:
            of = slice(number // group, number // group + 1)
            keys = [read(pages, part.first, part.last, of)[:, 0] for part in parts]  # [N, D]
        shares = _shares([part.straight[:, number] for part in parts], keys)  # [R, S]
        columns = _most(shares.sum(0), head.vertical + 100 * (head.vertical == SINK), SINK)
        blocks = _blocks(columns, _most(_diagonals(shares), head.slash, LOCAL), grid)
        columns = _spread(columns, blocks, grid)
        chosen.append(blocks)
        alone.append(_alone(columns, blocks, number, grid))
        recall.append(_held(shares, columns, blocks, grid))
    found = torch.cat(alone)
    order = found[:, 0].argsort(stable=True)  # heads and keys rise already
    return torch.stack(chosen), found[order], torch.stack(recall)


def _shares(queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
    """The attention of the last queries [R, D], one for each part of the keys [N, D]: [R, S]."""
    scores = [q.float() @ k.T for q, k in zip(queries, keys, strict=True)]
    whole = torch.cat(scores, -1) / math.sqrt(keys[0].shape[-1])
    voters = len(whole)
    later = torch.ones(voters, voters, dtype=torch.bool, device=whole.device).triu(1)
    whole[:, -voters:].masked_fill_(later, -torch.inf)
    return whole.softmax(-1)


def _diagonals(shares: Tensor) -> Tensor:
    """Sums over the pairs of a query and a key that are as far apart: [R, S] -> [S]."""
    voters, size = shares.shape
    # From the newest key back; a row begins as many keys too soon as its query is from the last.
    back = F.pad(shares.flip(1), (0, voters))  # [R, S + R]
    return back.as_strided((voters, size), (size + voters - 1, 1), voters - 1).sum(0)


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
    for part in grid.parts:
        first, last = grid.firsts[part][0], grid.ends[part][-1]
        if not columns[first:last].any() and not blocks[:, part].any():
            few = torch.linspace(0, 1, SPREAD, device=columns.device) * (last - first - 1)
            columns = columns.index_fill(0, first + few.long(), True)
    return columns


def _alone(columns: Tensor, blocks: Tensor, head: int, grid: Grid) -> Tensor:
    """Columns in no block, before the queries: [c, 3] (block of queries, head, key)."""
    keys = columns.nonzero()[:, 0]
    within = torch.searchsorted(grid.firsts, keys, right=True) - 1  # the block of each
    rows, which = (~blocks[:, within] & (keys < grid.queries[:, None])).nonzero().unbind(1)
    return torch.stack((rows, torch.full_like(rows, head), keys[which]), 1)


def _held(shares: Tensor, columns: Tensor, blocks: Tensor, grid: Grid) -> Tensor:
    """Of the last queries' attention [R, S], what the columns and blocks hold."""
    first = grid.count - len(shares)
    rows = torch.arange(first, grid.count, device=shares.device) // grid.tile
    seen = blocks[rows].repeat_interleave(grid.ends - grid.firsts, 1) | columns
    return (shares * seen).sum(-1).mean()


def _counts(wanted: Tensor) -> Tensor:
    """How many are wanted before each place: [S] -> [S + 1]."""
    return F.pad(wanted.long().cumsum(0), (1, 0))
