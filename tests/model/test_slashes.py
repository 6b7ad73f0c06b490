"""Columns and diagonals against attention written out, and lines across chunks."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from baiwen.model import fused, rope, slashes, sparse
from baiwen.model.dca import pieces
from baiwen.model.grid import Grid, Part
from baiwen.model.pages import Pages
from baiwen.model.patterns import Head
from baiwen.model.positions import DualChunk
from baiwen.model.sizes import SIZES

TILE, PLACE, T, HEADS, KEYS, SIZE = 16, 260, 90, 4, 2, 16
S, VOTERS = PLACE + T, 20
HEAD = Head(vertical=45, slash=130)


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    slab = torch.randn(90, 4, KEYS, SIZE, generator=generator)
    pages = Pages(slab, slab, torch.randperm(90, generator=generator).int())
    q = 3 * torch.randn(T, HEADS, SIZE, generator=generator)
    parts = [Part(q, q[-VOTERS:], 0, S)]
    return parts, pages, Grid.of(parts, T, PLACE, TILE)


def attention(q, pages):
    """Softmax of all scores, causal: [H, T, S]."""
    keys = pages.read(torch.arange(S))[0].repeat_interleave(HEADS // KEYS, 1)
    scores = torch.einsum("thd,shd->hts", q, keys) / math.sqrt(SIZE)
    later = torch.arange(S) > torch.arange(PLACE, S)[:, None]
    return scores.masked_fill(later, -torch.inf).softmax(-1)


def wanted(shares):
    """Columns and distances [S] of one head by its last queries' shares [R, S], pair by pair."""
    columns, distances = torch.zeros(S), torch.zeros(S)
    for row, query in enumerate(range(S - VOTERS, S)):
        for key in range(query + 1):
            columns[key] += shares[row, key]
            distances[query - key] += shares[row, key]
    columns[:30], distances[:100] = torch.inf, torch.inf
    return columns.topk(HEAD.vertical).indices, distances.topk(HEAD.slash).indices


def test_what_is_seen_is_every_block_of_a_diagonal_or_a_crowd_and_the_other_columns(case):
    parts, pages, grid = case
    chosen, alone, _ = slashes.choose(parts, pages, grid, [HEAD] * HEADS)
    head = 3
    shares = attention(parts[0].q, pages)[head, -VOTERS:]
    columns, distances = wanted(shares)
    for row, start in enumerate(range(PLACE, S, TILE)):
        queries = range(start, start + TILE)
        crossed = {(query - int(d)) // TILE for query in queries for d in distances}
        crowds = {b for b in range(-(-S // TILE)) if (columns // TILE == b).sum() >= TILE / 2}
        blocks = {b for b in crossed | crowds if b >= 0 and b * TILE < min(start + TILE, S)}
        assert set(chosen[head, row].nonzero()[:, 0].tolist()) == blocks
        others = sorted(int(c) for c in columns if int(c) // TILE not in blocks and c < start)
        assert alone[(alone[:, 0] == row) & (alone[:, 1] == head), 2].tolist() == others


def test_what_is_held_is_what_the_last_queries_see(case):
    parts, pages, grid = case
    chosen, alone, held = slashes.choose(parts, pages, grid, [HEAD] * HEADS)
    (lists,) = grid.lists(chosen, alone)
    shares = attention(parts[0].q, pages)
    for head in range(HEADS):
        sums = []
        for query in range(T - VOTERS, T):
            places = lists.places(query // TILE * HEADS + head, TILE)
            sums.append(shares[head, query, places[places < S]].sum())
        torch.testing.assert_close(held[head], torch.stack(sums).mean())


def test_thirty_columns_are_a_hundred_more(case):
    parts, pages, grid = case
    found = [
        slashes.choose(parts, pages, grid, [Head(vertical, 100)] * HEADS)
        for vertical in (29, 30, 130)
    ]
    assert [len(alone) for _, alone, _ in found][1:] == [len(found[2][1])] * 2
    assert len(found[0][1]) < len(found[1][1])


def test_a_part_of_which_nothing_is_chosen_gives_five_keys(case):
    (whole,), pages, _ = case
    cuts = (0, 40, 120, S)
    parts = [replace(whole, first=a, last=b) for a, b in pairwise(cuts)]
    parts[1] = replace(parts[1], straight=torch.zeros_like(whole.straight))  # the least of interest
    grid = Grid.of(parts, T, PLACE, TILE)
    chosen, alone, _ = slashes.choose(parts, pages, grid, [Head(31, 100)] * HEADS)
    lists = grid.lists(chosen, alone)[1]
    assert len(lists.firsts) == 0
    assert lists.columns.view(-1, 5).unique(dim=0).tolist() == [[40, 59, 79, 99, 119]]
    assert len(lists.columns) == 5 * HEADS * len(grid.queries)


def test_with_dual_chunks_a_straight_line_stays_straight():
    """A head that looks 150 back, across the borders of chunks of 48, finds that distance."""
    config = replace(
        SIZES["tiny"],
        dual_chunk_attention_config=DualChunk(64, 16, 64),
        rope_theta=100.0,
    )
    size, back = config.head_dim, 150
    vector = torch.randn(size, generator=torch.Generator().manual_seed(0))
    chunks = config.dual_chunk_attention_config
    stands = torch.arange(S) % chunks.length
    keys = fused.rotate(vector.expand(S, 1, size), *rope.tables(config, stands))
    ahead = torch.tensor(back % chunks.length)  # where a straight query meets what lies `back`
    q = fused.rotate(keys[PLACE:], *rope.tables(config, -ahead - chunks.chunk_size))
    piece = pieces(PLACE, S, chunks.length)[-2]  # a whole chunk
    q = q[piece.queries]
    chooser = sparse.Chooser(config, sparse.Sparse(last=VOTERS))
    parts = chooser.parts(q, piece)[::-1]
    for asks, straight in (("straight", True), ("q", False)):
        asked = [replace(part, straight=getattr(part, asks)[-VOTERS:]) for part in parts]
        size_of = parts[-1].last
        room = torch.zeros(VOTERS, size_of + 2 * VOTERS)
        totals = slashes._ask(asked, [keys[part.first : part.last, 0] for part in parts], 0, room)
        far = slashes._diagonals(room, totals)[2 * chunks.length : 4 * chunks.length]
        found = 2 * chunks.length + int(far.argmax())
        assert (found % chunks.length == back % chunks.length) == straight
