"""A chunk of a prompt on a GPU: every form of CUDA against the plain one, in fp32."""

import pytest
import torch

from baiwen.model import gathered, kernels, paged_cuda
from baiwen.model.pages import Lists, Pages

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

TILE = paged_cuda.TILE
CASES = {  # queries, place, first, last
    "whole": (700, 0, 0, 700),
    "last of the keys": (300, 900, 0, 1200),
    "within a chunk of DCA": (300, 900, 512, 1200),
    "all keys before": (256, 2000, 512, 1024),
    "among and behind": (300, 900, 0, 1000),
    "some see nothing": (100, 30, 75, 130),
}


def draw(count: int, last: int) -> tuple[torch.Tensor, Pages]:
    generator = torch.Generator("cuda").manual_seed(0)
    width = -(-last // 16)
    shape = (2, width + 3, 16, 2, 64)
    slabs = torch.randn(shape, device="cuda", dtype=torch.bfloat16, generator=generator)
    table = torch.randperm(width + 3, device="cuda", generator=generator)[:width].int()
    q = torch.randn(count, 4, 64, device="cuda", dtype=torch.bfloat16, generator=generator)
    return q, Pages(slabs[0], slabs[1], table)


def choose(count: int, place: int, first: int, last: int, heads: int) -> Lists:
    """Blocks drawn at random, and of the keys in no block and before all queries every ninth."""
    generator = torch.Generator("cuda").manual_seed(1)
    blocks, many = -(-(last - first) // TILE), heads * -(-count // TILE)
    chosen = torch.rand(many, blocks, device="cuda", generator=generator) < 0.4
    free = chosen.logical_not().repeat_interleave(TILE, 1)[:, : max(0, min(place, last) - first)]
    free &= torch.arange(free.shape[1], device="cuda") % 9 == 0
    ends = [torch.nn.functional.pad(x.sum(1).cumsum(0), (1, 0)) for x in (chosen, free)]
    firsts = (first + TILE * chosen.nonzero()[:, 1]).int()
    return Lists(firsts, ends[0], heads, (first + free.nonzero()[:, 1]).int(), ends[1])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("heads", [0, 2, 4])
def test_prefill_is_the_plain_form(case, heads):
    count, place, first, last = case
    q, pages = draw(count, last)
    lists = choose(count, place, first, last, heads) if heads else None
    assert paged_cuda.reads(q, pages)
    assert kernels.tile("cuda") == TILE
    out, lse = kernels.prefill(q, pages, place, first, last, lists)
    expected = gathered.paged(q, pages, place, first, last, lists, TILE)
    torch.testing.assert_close(out, expected[0], atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(lse, expected[1], atol=2e-2, rtol=1e-3)
