"""Attention of a chunk over its pages against softmax written out in double precision."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from baiwen.model import gathered
from baiwen.model.pages import Lists, Pages

BLOCK = 16


class Case(NamedTuple):
    """Queries at `place` and on, and the keys first ... last - 1."""

    count: int
    place: int
    first: int
    last: int


CASES = {
    "whole": Case(130, 0, 0, 130),
    "last of the keys": Case(50, 171, 0, 221),
    "one query": Case(1, 99, 0, 100),
    "from within a block": Case(70, 60, 21, 130),
    "all keys before": Case(53, 400, 37, 197),
    "some see nothing": Case(100, 30, 75, 130),
    "none sees anything": Case(9, 3, 40, 60),
}
HEADS = [(4, 2, 16), (3, 3, 24), (7, 1, 64)]


def draw(case: Case, heads: tuple[int, int, int] = (4, 2, 16)) -> tuple[Tensor, Pages]:
    """Queries, and pages in any order whose keys beyond the last are not numbers."""
    generator = torch.Generator().manual_seed(0)
    query_heads, key_heads, size = heads
    width = -(-case.last // BLOCK)
    table = torch.randperm(width + 3, generator=generator)[:width].int()
    slabs = torch.full((2, width + 3, BLOCK, key_heads, size), torch.nan)
    slots = torch.arange(case.last)
    drawn = torch.randn(2, case.last, key_heads, size, generator=generator)
    slabs[:, table[slots // BLOCK].long(), slots % BLOCK] = drawn
    q = torch.randn(case.count, query_heads, size, generator=generator)
    return q, Pages(slabs[0], slabs[1], table)


def choose(case: Case, heads: int, tile: int, columns: bool) -> Lists:
    """Lists drawn at random: blocks at any place, keys alone; the first list is empty."""
    generator = torch.Generator().manual_seed(1)
    firsts, ends, alone, column_ends = [], [0], [], [0]
    for number in range(-(-case.count // tile) * heads):
        start = case.place + number // heads * tile
        begin = int(torch.randint(-tile, tile, (), generator=generator))
        blocks = [
            block for block in range(begin, start + 2 * tile, tile)
            if number and torch.rand((), generator=generator) < 0.5
        ]  # fmt: skip
        free = set(range(case.first, min(case.last, start + 1)))
        free -= {key for block in blocks for key in range(block, block + tile)}
        if number and columns:
            alone += [key for key in sorted(free) if torch.rand((), generator=generator) < 0.3]
        firsts += blocks
        ends.append(len(firsts))
        column_ends.append(len(alone))
    listed = torch.tensor(firsts, dtype=torch.int32), torch.tensor(ends)
    if not columns:
        return Lists(*listed, heads)
    return Lists(*listed, heads, torch.tensor(alone, dtype=torch.int32), torch.tensor(column_ends))


def seen(case: Case, heads: int, lists: Lists | None, tile: int) -> Tensor:
    """Whether a query of a head sees a key: [H, T, S]."""
    keys = torch.arange(case.last)
    stands = case.place + torch.arange(case.count)
    mask = ((keys >= case.first) & (keys <= stands[:, None])).repeat(heads, 1, 1)
    for number in range(len(lists.ends) - 1 if lists else 0):
        places = lists.places(number, tile)
        listed = torch.isin(keys, places)
        block, head = divmod(number, lists.heads)
        of = slice(head * heads // lists.heads, (head + 1) * heads // lists.heads)
        mask[of, block * tile : (block + 1) * tile] &= listed
    return mask


def written_out(q: Tensor, pages: Pages, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of all scores, in float64."""
    k, v = (x.double() for x in pages.read(torch.arange(mask.shape[-1])))
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("thd,shd->hts", q.double(), k) / math.sqrt(q.shape[-1])
    scores.masked_fill_(~mask, -torch.inf)
    return torch.einsum("hts,shd->thd", scores.softmax(-1).nan_to_num(0), v), scores.logsumexp(-1)


def assert_written_out(found, q: Tensor, pages: Pages, mask: Tensor) -> None:
    for ours, expected in zip(found, written_out(q, pages, mask), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), expected, rtol=2e-6, atol=5e-6)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("heads", HEADS)
def test_queries_see_all_keys_up_to_their_own(case, heads):
    q, pages = draw(case, heads)
    found = gathered.paged(q, pages, case.place, case.first, case.last)
    assert_written_out(found, q, pages, seen(case, heads[0], None, 1))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_queries_see_what_is_listed(case, columns, apart):
    q, pages = draw(case)
    tile = 24
    lists = choose(case, 4 if apart else 2, tile, columns)
    found = gathered.paged(q, pages, case.place, case.first, case.last, lists, tile)
    assert_written_out(found, q, pages, seen(case, 4, lists, tile))
