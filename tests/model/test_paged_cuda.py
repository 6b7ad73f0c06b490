"""What the CUDA form of prefill makes of lists; FlexAttention itself runs without a kernel here."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import flex_attention as flex

from baiwen.model import gathered, paged_cuda
from baiwen.model.pages import Lists, Pages

TILE = paged_cuda.TILE
COUNT, PLACE, FIRST, LAST = 300, 500, 100, 800
WIDE = -(-(LAST - FIRST) // TILE)


def draw(heads: int) -> tuple[torch.Tensor, Pages, Lists]:
    """Queries of 4 heads, pages in disorder, and lists of blocks and of keys alone."""
    generator = torch.Generator().manual_seed(0)
    slabs = torch.randn(2, 60, 16, 2, 16, generator=generator)
    pages = Pages(slabs[0], slabs[1], torch.randperm(60, generator=generator)[:50].int())
    chosen = torch.rand(3 * heads, WIDE, generator=generator) < 0.5
    chosen[1] = False
    ends = torch.cat((torch.zeros(1), chosen.sum(1).cumsum(0))).long()
    firsts = (FIRST + TILE * chosen.nonzero()[:, 1]).int()
    free = chosen.logical_not().repeat_interleave(TILE, 1)[:, : PLACE - FIRST]
    alone = free & (torch.rand(free.shape, generator=generator) < 0.1)
    alone[2] = False
    column_ends = torch.cat((torch.zeros(1), alone.sum(1).cumsum(0))).long()
    columns = (FIRST + alone.nonzero()[:, 1]).int()
    q = torch.randn(COUNT, 4, 16, generator=generator)
    return q, pages, Lists(firsts, ends, heads, columns, column_ends)


@pytest.mark.parametrize("heads", [2, 4])
def test_a_block_mask_is_the_lists_and_what_lies_behind(heads):
    q, _, lists = draw(heads)
    mask = paged_cuda.block_mask(lists, q, LAST - FIRST, PLACE, FIRST)
    query, key = torch.arange(COUNT), torch.arange(LAST - FIRST)
    behind = FIRST + key <= PLACE + query[:, None]
    for number in range(3 * heads):
        block, head = divmod(number, heads)
        listed = torch.isin(key // TILE, (Lists(lists.firsts, lists.ends, heads).places(
            number, TILE) - FIRST) // TILE)  # fmt: skip
        rows = slice(block * TILE, (block + 1) * TILE)
        for of in range(head * 4 // heads, (head + 1) * 4 // heads):
            whole, some = (
                torch.isin(key // TILE, indices[0, of, block, : counts[0, of, block]])
                for counts, indices in (
                    (mask.full_kv_num_blocks, mask.full_kv_indices),
                    (mask.kv_num_blocks, mask.kv_indices),
                )
            )
            assert not (whole & some).any()
            seen = whole | some & mask.mask_mod(0, of, query[rows, None], key)
            assert torch.equal(seen, listed & behind[rows])


@pytest.mark.slow  # to import what FlexAttention runs on
def test_flex_attention_with_all_blocks_is_the_plain_form(monkeypatch):
    monkeypatch.setattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)  # which is slow
    q, pages, _ = draw(2)
    every = torch.arange(FIRST, LAST, TILE, dtype=torch.int32)
    lists = Lists(every.repeat(6), torch.arange(7) * WIDE, 2)
    mask = paged_cuda.block_mask(lists, q, LAST - FIRST, PLACE, FIRST)
    keys, values = pages.read(torch.arange(FIRST, LAST))
    found = paged_cuda.blocks(q, keys, values, mask, flex.flex_attention)
    plain = gathered.paged(q, pages, PLACE, FIRST, LAST)
    for ours, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", [2, 4])
def test_columns_are_attended_as_in_the_plain_form(heads):
    q, pages, lists = draw(heads)
    keys, values = pages.read(torch.arange(FIRST, LAST))
    found = paged_cuda.columns(q, keys, values, lists, FIRST)
    alone = replace(lists, firsts=lists.firsts[:0], ends=torch.zeros_like(lists.ends))
    plain = gathered.paged(q, pages, PLACE, FIRST, LAST, alone, TILE)
    for ours, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_what_is_not_on_a_gpu_is_not_read():
    q, pages, _ = draw(2)
    assert not paged_cuda.reads(q, pages)
