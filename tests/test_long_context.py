"""The figures of docs/stages/long-context.md are those of `baiwen/model/count.py`."""

import re
from pathlib import Path

import pytest

from baiwen.model import count
from baiwen.model.sizes import SIZES

PAGE = (Path(__file__).parents[1] / "docs/stages/long-context.md").read_text(encoding="utf-8")
LENGTHS = (4_096, 32_768, 65_536, 131_072, 262_144)
DENSE = ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b")


def cells(size, share):
    """The row of a size in the table with, or without, a share in each cell."""
    rows = re.findall(rf"^\| {re.escape(size)} \| (.+) \|$", PAGE, re.MULTILINE)
    (row,) = [row for row in rows if ("%" in row) == share]
    return row.split(" | ")


@pytest.mark.parametrize("size", DENSE)
def test_flops_are_those_that_are_computed(size):
    fixed = 6 * count.parameters(SIZES[size]).matmul
    for length, cell in zip(LENGTHS, cells(size, share=True), strict=True):
        flops = count.flops_per_token(SIZES[size], length)
        assert cell == f"{flops / 1e9:,.1f} ({1 - fixed / flops:.0%})".replace("%", " %")


@pytest.mark.parametrize("size", DENSE)
def test_activations_are_those_that_are_computed(size):
    for length, cell in zip(LENGTHS, cells(size, share=False), strict=True):
        held = count.training_memory(SIZES[size], length, checkpoint_blocks=True)
        assert cell == f"{held.activations / 2**30:.1f}"
