"""The blocks among which is chosen, and the keys that are read for it."""

import pytest
import torch

from baiwen.model.grid import Grid, Part, read
from baiwen.model.pages import Pages


def pages(kind):
    generator = torch.Generator().manual_seed(0)
    slab = torch.randn(12, 8, 3, 4, generator=generator)
    table = torch.randperm(12, generator=generator).int()
    if kind != "int8":
        slab = slab.to(getattr(torch, kind))
        return Pages(slab, slab, table)
    codes = (slab * 40).to(torch.int8)
    scales = torch.rand(12, 8, 3, generator=generator)
    return Pages(codes, codes, table, (scales, scales))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(("first", "last"), [(0, 96), (5, 6), (13, 77)])
def test_keys_are_those_of_the_pages(kind, first, last):
    given = pages(kind)
    expected = given.read(torch.arange(first, last))[0]
    torch.testing.assert_close(read(given, first, last), expected)
    torch.testing.assert_close(read(given, first, last, slice(1, 2)), expected[:, 1:2])


def test_blocks_are_those_of_the_parts():
    q = torch.zeros(20, 1, 4)
    parts = [Part(q, q, 0, 21), Part(q, q, 21, 50)]
    grid = Grid.of(parts, 20, 30, 8)
    assert grid.firsts.tolist() == [0, 8, 16, 21, 29, 37, 45]
    assert grid.ends.tolist() == [8, 16, 21, 29, 37, 45, 50]
    assert grid.queries.tolist() == [30, 38, 46]
    for row, last in enumerate((37, 45, 49)):
        assert grid.seen[row].tolist() == [first <= last for first in grid.firsts]


def test_what_is_near_has_a_key_of_the_first_or_the_last():
    q = torch.zeros(20, 1, 4)
    grid = Grid.of([Part(q, q, 0, 50)], 20, 30, 8)
    for row, (first, last) in enumerate(((30, 37), (38, 45), (46, 49))):
        blocks = [range(start, min(start + 8, 50)) for start in grid.firsts.tolist()]
        wanted = {*range(9), *range(first - 12 + 1, last + 1)}  # 9 first keys, 12 local ones
        expected = [block.start <= last and bool(wanted & {*block}) for block in blocks]
        assert grid.near(9, 12)[row].tolist() == expected
