"""The figures of docs/stages/long-context.md are those that are computed."""

import re
from functools import partial
from pathlib import Path

import pytest

from baiwen.model import count
from baiwen.model.sizes import SIZES
from baiwen.train import memory
from baiwen.train.spread import Spread

PAGE = (Path(__file__).parents[1] / "docs/stages/long-context.md").read_text(encoding="utf-8")
LENGTHS = (4_096, 32_768, 65_536, 131_072, 262_144)
SERVED = (32_768, 131_072, 1_048_576)
DENSE = ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b")


TABLES = "flops", "activations", "cache", "serving"  # in the order of the page


def cells(size, table):
    """The row of a size in one of the tables."""
    rows = re.findall(rf"^\| {re.escape(size)} \| (.+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == len(TABLES)
    return rows[TABLES.index(table)].split(" | ")


@pytest.mark.parametrize("size", DENSE)
def test_flops_are_those_that_are_computed(size):
    fixed = 6 * count.parameters(SIZES[size]).matmul
    for length, cell in zip(LENGTHS, cells(size, "flops"), strict=True):
        flops = count.flops_per_token(SIZES[size], length)
        assert cell == f"{flops / 1e9:,.1f} ({1 - fixed / flops:.0%})".replace("%", " %")


@pytest.mark.parametrize("size", DENSE)
def test_activations_are_those_that_are_computed(size):
    for length, cell in zip(LENGTHS, cells(size, "activations"), strict=True):
        held = memory.activations(SIZES[size], Spread(), length, recompute=True)
        assert cell == f"{held / 2**30:.1f}"


@pytest.mark.parametrize("size", DENSE)
def test_memory_of_serving_is_what_is_computed(size):
    figures = partial(count.inference_memory, SIZES[size])
    cache = [figures(length, kv=kv).cache for length in SERVED for kv in count.KEPT]
    assert cells(size, "cache") == [f"{held / 2**30:.1f}" for held in cache]
    kinds = [figures(512, weights=kind).weights for kind in ("fp32", *count.BITS)]
    sparse = [figures(length, step=4096, sparse=True) for length in SERVED]
    steps = [held.activations for held in (figures(SERVED[0]), *sparse)]
    expected = [f"{held / 2**30:.1f}" for held in kinds]
    assert cells(size, "serving") == expected + [f"{held / 2**20:,.0f}" for held in steps]


@pytest.mark.parametrize("length, told", [(131_072, "7.9"), (1_048_576, "33.2")])
def test_a_small_budget_is_as_told(length, told):
    held = count.inference_memory(SIZES["7b"], length, weights="int4", kv="int8")
    assert f"{held.total / 2**30:.1f}" == told
    assert told in PAGE
