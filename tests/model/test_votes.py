"""The vote against attention written out."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from baiwen.model import votes
from baiwen.model.grid import Grid, Part
from baiwen.model.pages import Pages

TILE, PLACE, T, HEADS, KEYS, SIZE = 8, 75, 45, 4, 2, 16
S = PLACE + T
CUTS = {"whole": [0, S], "parts": [0, 50, 83, S]}


def drawn(cuts, scale=1.0):
    """Queries over parts of the keys, which they ask in ways of their own; the keys; the grid."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randperm(40, generator=generator).int()
    slab = torch.randn(40, 4, KEYS, SIZE, generator=generator)
    pages = Pages(slab, slab, table)
    parts = []
    for first, last in pairwise(cuts):
        q = scale * torch.randn(T, HEADS, SIZE, generator=generator)
        parts.append(Part(q, q[-20:], first, last))
    return parts, pages, Grid.of(parts, T, PLACE, TILE)


def attention(parts, pages):
    """Softmax of all scores, causal: [H, T, S]."""
    keys = pages.read(torch.arange(S))[0].repeat_interleave(HEADS // KEYS, 1)
    scores = [
        torch.einsum("thd,shd->hts", part.q, keys[part.first : part.last]) / math.sqrt(SIZE)
        for part in parts
    ]
    later = torch.arange(S) > torch.arange(PLACE, S)[:, None]
    return torch.cat(scores, -1).masked_fill(later, -torch.inf).softmax(-1)


def by_block(shares, grid):
    """Sums over the keys of each block, [..., S] -> [..., b]."""
    return torch.stack(
        [shares[..., first:end].sum(-1) for first, end in zip(grid.firsts, grid.ends, strict=True)],
        -1,
    )


every_cut = pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)


@every_cut
def test_the_votes_of_the_last_queries_are_their_attention(cuts, monkeypatch):
    monkeypatch.setattr(votes, "STRETCH", 3 * TILE)
    parts, pages, grid = drawn(cuts)
    found = votes.count(parts, pages, grid, last=20)
    voters = torch.arange(T - 1, T - 21, -votes.EVERY)
    expected = by_block(attention(parts, pages)[:, voters], grid)
    torch.testing.assert_close(found.last.flatten(0, 1), expected)
    assert found.rows.tolist() == (voters // TILE).tolist()


@every_cut
def test_means_stand_for_blocks(cuts):
    parts, pages, grid = drawn(cuts)
    found = votes.count(parts, pages, grid, last=20).pooled  # [K, n, b]
    keys = pages.read(torch.arange(S))[0]
    block, row = 4, 2  # any of them
    head_of = slice(HEADS // KEYS, None)  # of the second key head
    rows = slice(row * TILE, (row + 1) * TILE)
    scores = []
    for part, blocks in zip(parts, grid.parts, strict=True):
        for first, end in zip(grid.firsts[blocks], grid.ends[blocks], strict=True):
            mean = keys[first:end, 1].mean(0)
            score = part.q[rows, head_of].mean(0) @ mean / math.sqrt(SIZE)  # [G]
            seen = first <= PLACE + row * TILE + TILE - 1
            scores.append(score + math.log(end - first) if seen else score - math.inf)
    expected = torch.stack(scores, -1).softmax(-1).mean(0)
    torch.testing.assert_close(found[1, row], expected)
    assert expected[block] > 0


def test_the_fewest_blocks_that_hold_the_mass_are_picked():
    parts, pages, grid = drawn(CUTS["whole"], scale=4)
    shares = votes.expected(votes.count(parts, pages, grid, 20), grid)
    forced = torch.zeros_like(grid.seen)
    chosen = votes.pick(shares, grid, forced, 0.8, None)
    held = (shares * chosen).sum(-1)
    least = (shares + 2 * ~chosen).amin(-1)
    assert torch.all(held >= 0.8)
    assert torch.all(held - least < 0.8)
    assert torch.all((shares * ~chosen).amax(-1) <= least)


def test_the_forced_count_and_the_budget_holds():
    parts, pages, grid = drawn(CUTS["whole"])
    shares = votes.expected(votes.count(parts, pages, grid, 20), grid)
    forced = grid.near(sink=1, local=1)
    chosen = votes.pick(shares, grid, forced, 0.9, 0.3)
    most = torch.maximum((grid.seen.sum(-1) * 0.3).ceil(), forced.sum(-1))
    assert torch.all(chosen.sum(-1) <= most)
    assert torch.all(chosen[:, forced])


@every_cut
def test_shares_add_up_and_lie_where_the_queries_see(cuts):
    parts, pages, grid = drawn(cuts, scale=3)
    shares = votes.expected(votes.count(parts, pages, grid, 20), grid)
    torch.testing.assert_close(shares.sum(-1), torch.ones(KEYS, len(grid.queries)))
    assert torch.all(shares[:, ~grid.seen] == 0)


@every_cut
def test_what_is_held_is_what_the_last_queries_see(cuts):
    parts, pages, grid = drawn(cuts, scale=3)
    counted = votes.count(parts, pages, grid, 20)
    chosen = votes.pick(votes.expected(counted, grid), grid, grid.near(1, 1), 0.5, None)
    voters = torch.arange(T - 1, T - 21, -votes.EVERY)
    shares = by_block(attention(parts, pages)[:, voters], grid)  # [H, R, b]
    seen = chosen.repeat_interleave(HEADS // KEYS, 0)[:, voters // TILE]
    torch.testing.assert_close(votes.held(counted, chosen), (shares * seen).sum(-1).mean(-1))


def test_a_key_that_only_the_last_queries_look_for_is_chosen_by_all():
    """Its block's mean does not tell it apart: the last queries do."""
    parts, pages, grid = drawn(CUTS["whole"], scale=0.1)
    needle = 21
    slot = pages.table[needle // 4].long(), needle % 4
    pages.keys[slot] = 12.0
    around = [place for place in range(16, 24) if place != needle]
    for place in around:  # so that the mean of the block is nothing
        pages.keys[pages.table[place // 4].long(), place % 4] = -12.0 / len(around)
    parts[0].q[-20:] += 1.0
    counted = votes.count(parts, pages, grid, 20)
    forced = torch.zeros_like(grid.seen)
    picked = votes.pick(votes.expected(counted, grid), grid, forced, 1.0, budget=0.1)
    block = needle // TILE
    assert counted.pooled[:, :, block].max() < 2 / grid.seen.sum(-1).min()
    assert torch.all(picked[:, :, block])


def test_a_distance_that_the_last_queries_look_back_is_looked_back_by_all():
    (part,), pages, _ = drawn(CUTS["whole"], scale=0.1)
    part = replace(part, last=S - 3)
    grid = Grid.of([part], T, 72, TILE)  # blocks of queries begin where blocks of keys do
    counted = votes.count([part], pages, grid, 20)
    own = grid.place // TILE + torch.arange(len(grid.queries))  # the block that each row is in
    shares = torch.zeros_like(counted.last)
    shares[..., own[-1] - 4] = 1.0
    shares = votes.expected(votes.Votes(counted.pooled, shares, counted.rows), grid)
    for row, block in enumerate(own.tolist()):
        assert block - 4 in shares[0, row].topk(2).indices  # the other is that column
