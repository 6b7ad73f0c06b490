"""Attention of a chunk over its pages against softmax written out in double precision."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from baiwen.model import flash, gathered, kernels
from baiwen.model.native.build import library
from baiwen.model.pages import Lists, Pages

BLOCK = 16


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Case(NamedTuple):
    """Queries at `place` and on, and the keys first ... last - 1."""

    count: int
    place: int
    first: int
    last: int


CASES = {
    "whole": Case(130, 0, 0, 130),
    "last of the keys": Case(50, 171, 0, 221),
    "no query": Case(0, 99, 0, 99),
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


def plainly(q, pages, case, lists=None, tile=24):
    return gathered.paged(q, pages, case.place, case.first, case.last, lists, tile)


def natively(q, pages, case, lists=None):
    return flash.paged(q, pages, case.place, case.first, case.last, lists)


def in_tiles(form) -> int:
    """The tile of a form; a test of the native one is skipped where there is no compiler."""
    if form is natively and flash.tile() is None:
        pytest.skip("needs a C++ compiler")
    return flash.tile() if form is natively else 24


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("form", [plainly, natively])
def test_queries_see_all_keys_up_to_their_own(form, heads, case):
    in_tiles(form)
    q, pages = draw(case, heads)
    assert_written_out(form(q, pages, case), q, pages, seen(case, heads[0], None, 1))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("columns", [False, True], ids=["blocks", "columns"])
@pytest.mark.parametrize("apart", [2, 4], ids=["lists of key heads", "of query heads"])
@pytest.mark.parametrize("form", [plainly, natively])
def test_queries_see_what_is_listed(form, apart, columns, case):
    tile = in_tiles(form)
    q, pages = draw(case)
    lists = choose(case, apart, tile, columns)
    assert_written_out(form(q, pages, case, lists), q, pages, seen(case, 4, lists, tile))


@pytest.mark.parametrize("form", [plainly, natively])
def test_lists_of_every_block_are_no_lists(form):
    tile, case = in_tiles(form), Case(300, 200, 0, 500)
    q, pages = draw(case)
    blocks = torch.arange(0, case.last, tile, dtype=torch.int32)
    many = 2 * -(-case.count // tile)
    lists = Lists(blocks.repeat(many), torch.arange(many + 1) * len(blocks), 2)
    for listed, dense in zip(form(q, pages, case, lists), form(q, pages, case), strict=True):
        torch.testing.assert_close(listed, dense, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", [plainly, natively])
def test_lists_may_choose_nothing_at_all(form):
    tile, case = in_tiles(form), CASES["whole"]
    q, pages = draw(case)
    many = 2 * -(-case.count // tile)
    empty = Lists(torch.empty(0, dtype=torch.int32), torch.zeros(many + 1, dtype=torch.int64), 2)
    out, lse = form(q, pages, case, empty)
    assert not out.any()
    assert lse.isneginf().all()


@pytest.mark.parametrize("form", [plainly, natively])
def test_pages_of_bf16_are_read_as_they_are(form):
    in_tiles(form)
    case = CASES["last of the keys"]
    q, pages = draw(case)
    half = Pages(pages.keys.bfloat16(), pages.values.bfloat16(), pages.table)
    assert_written_out(form(q, half, case), q, half, seen(case, 4, None, 1))


@pytest.mark.parametrize("form", [plainly, natively])
def test_pages_of_int8_are_codes_times_the_scale_of_their_token_and_head(form):
    in_tiles(form)
    case = CASES["from within a block"]
    q, pages = draw(case)
    whole = [slab.nan_to_num(0) for slab in (pages.keys, pages.values)]
    scales = [slab.abs().amax(-1) / 127 for slab in whole]
    codes = [
        (slab / scale[..., None].clamp_min(1e-9)).round().to(torch.int8)
        for slab, scale in zip(whole, scales, strict=True)
    ]
    coded = Pages(*codes, pages.table, (scales[0], scales[1]))
    mask = seen(case, 4, None, 1)
    found = form(q, coded, case)
    assert_written_out(found, q, coded, mask)
    exact, _ = written_out(q, pages, mask)
    torch.testing.assert_close(found[0].double(), exact, rtol=0, atol=0.05)


def test_many_keys_are_met_in_pieces(monkeypatch):
    q, pages = draw(CASES["last of the keys"])
    whole = plainly(q, pages, CASES["last of the keys"])
    monkeypatch.setattr(gathered, "KEYS", 32)
    for one, other in zip(plainly(q, pages, CASES["last of the keys"]), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("listed", [False, True])
def test_the_number_of_threads_changes_no_bit(listed, threads):
    in_tiles(natively)
    case = Case(140, 300, 0, 440)
    q, pages = draw(case, HEADS[2])
    lists = choose(case, 1, flash.tile(), columns=True) if listed else None
    runs = []
    for workers in (1, 2, 8):  # which also parts the heads of a group in other ways
        torch.set_num_threads(workers)
        runs.append(natively(q, pages, case, lists))
    for run in runs[1:]:
        assert all(map(torch.equal, run, runs[0]))


def test_how_a_prompt_is_cut_changes_no_bit():
    in_tiles(natively)
    q, pages = draw(Case(230, 0, 0, 230))
    out, lse = natively(q, pages, Case(230, 0, 0, 230))
    for first, last in [(0, 51), (51, 180), (180, 181), (181, 230)]:
        piece = natively(q[first:last], pages, Case(last - first, first, 0, last))
        assert torch.equal(piece[0], out[first:last])
        assert torch.equal(piece[1], lse[:, first:last])


def test_queries_may_be_slices_of_one_product():
    in_tiles(natively)
    case = CASES["whole"]
    q, pages = draw(case)
    merged = torch.cat((q, q), 1)[:, :4]
    assert not merged.is_contiguous()
    assert all(map(torch.equal, natively(merged, pages, case), natively(q, pages, case)))


def test_the_door_takes_lists_of_its_own_tile(monkeypatch):
    case = CASES["whole"]
    q, pages = draw(case)
    for native in ("1", "0"):
        monkeypatch.setenv("BAIWEN_NATIVE", native)
        library.cache_clear()
        assert flash.reads(q, pages) == (flash.tile() is not None)
        tile = kernels.tile()
        lists = choose(case, 2, tile, columns=True)
        found = kernels.prefill(q, pages, case.place, case.first, case.last, lists)
        assert_written_out(found, q, pages, seen(case, 4, lists, tile))
    assert tile == gathered.TILE
    monkeypatch.undo()
    library.cache_clear()
