"""Paged attention against attention written out, one query at a time."""

from itertools import chain

import numpy as np
import pytest
import torch

from baiwen.model import gathered, kernels
from baiwen.model.config import ModelConfig
from baiwen.model.layout import Layout
from baiwen.model.paged import PagedCache, Step, bytes_per_token

CONFIG = ModelConfig(
    vocab_size=96, hidden_size=64, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=8, num_key_value_heads=2,
)  # fmt: skip
BLOCK = 4
CASES = {  # tokens done before, tokens of this step
    "prompts": ([0, 0], [9, 4]),
    "decodes": ([8, 1, 30, 7, 31, 0], [1] * 6),
    "mixed": ([0, 13, 4, 22, 0], [7, 1, 11, 1, 1]),
    "long": ([0], [600]),
}


def case(name, seed=0):
    """A layout over shuffled blocks, a cache full of keys, and queries."""
    done, counts = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    sizes = [-(-(a + b) // BLOCK) for a, b in zip(done, counts, strict=True)]
    order = torch.randperm(sum(sizes) + 3, generator=generator).to(torch.int32).numpy()
    tables = np.zeros((len(sizes), max(sizes)), np.int32)
    for row, size, start in zip(tables, sizes, np.cumsum([0, *sizes]), strict=False):
        row[:size] = order[start : start + size]
    layout = Layout.of(tables, done, counts, BLOCK, "cpu")
    cache = PagedCache(CONFIG, len(order), BLOCK, "cpu", torch.float32)
    cache.slabs.copy_(torch.randn(cache.slabs.shape, generator=generator))
    q = torch.randn(sum(counts), 8, 8, generator=generator)
    return layout, cache, q


def written_out(q, keys, values, layout):
    """Softmax over the keys that each query may see, in float64."""
    out, numbers = torch.empty_like(q), np.repeat(np.arange(len(layout.counts)), layout.counts)
    for token, (number, position) in enumerate(
        zip(numbers, layout.positions.tolist(), strict=True)
    ):
        seen = layout.tables[number].long()
        k, v = (
            slab[seen].flatten(0, 1)[: position + 1].double().repeat_interleave(4, 1)
            for slab in (keys, values)
        )  # [S, H, D]
        scores = torch.einsum("hd,shd->hs", q[token].double(), k) / q.shape[-1] ** 0.5
        out[token] = torch.einsum("hs,shd->hd", scores.softmax(-1), v).to(out)
    return out


def plainly(q, keys, values, layout):
    out = torch.empty_like(q)
    gathered.fill(q, keys, values, layout.groups, out)
    return out


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("attend", [plainly, kernels.paged])
def test_paged_attention_is_attention_over_the_blocks_of_each_sequence(name, attend):
    layout, cache, q = case(name)
    keys, values = cache.layer(1)
    torch.testing.assert_close(
        attend(q, keys, values, layout), written_out(q, keys, values, layout), atol=1e-5, rtol=1e-4
    )


def test_a_step_stores_its_own_keys_before_it_attends():
    layout, cache, q = case("mixed")
    k, v = torch.randn(2, 1, len(q), 2, 8)
    Step(cache, layout).attend(0, q[None], k, v)
    for slab, fresh in zip(cache.layer(0), (k, v), strict=True):
        assert torch.equal(slab.flatten(0, 1)[layout.slots], fresh[0])


def test_a_layout_says_where_every_token_lies():
    tables = np.array([[3, 0], [1, 5]], np.int32)
    layout = Layout.of(tables, done=[2, 4], counts=[3, 1], block_size=4, device="cpu")
    assert layout.positions.tolist() == [2, 3, 4, 4]
    assert layout.slots.tolist() == [14, 15, 0, 20]
    assert layout.starts.tolist() == [0, 3, 4]
    assert layout.lengths.tolist() == [5, 5]
    assert layout.starts.dtype == layout.lengths.dtype == layout.tables.dtype == torch.int32


def test_no_mask_is_larger_than_a_piece_of_queries_by_the_keys():
    layout, _, _ = case("long")
    shapes = [tuple(group.mask.shape) for group in layout.groups]
    assert shapes == [(1, 1, 512, 512), (1, 1, 88, 600)]


def test_decodes_of_similar_length_share_a_call():
    layout, _, _ = case("decodes")
    rows = [group.rows.tolist() for group in layout.groups]
    assert sorted(chain(*rows)) == list(range(6))
    assert [2, 4] in rows and len(rows) == 3


def test_copied_blocks_hold_the_same_in_every_layer_and_so_do_their_scales():
    cache = PagedCache(CONFIG, 6, BLOCK, "cpu", torch.int8)
    cache.slabs.random_(-127, 128)
    cache.scales.uniform_()
    before = cache.slabs.clone(), cache.scales.clone()
    cache.copy({0: 1, 1: 2})
    for kept, was in zip((cache.slabs, cache.scales), before, strict=True):
        assert torch.equal(kept[:, :, 0], was[:, :, 1])
        assert torch.equal(kept[:, :, 1], was[:, :, 2])
        assert torch.equal(kept[:, :, 2:], was[:, :, 2:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_the_bytes_of_a_token_are_those_of_the_slabs(dtype):
    cache = PagedCache(CONFIG, 5, BLOCK, "cpu", dtype)
    held = cache.slabs.nbytes + (0 if cache.scales is None else cache.scales.nbytes)
    assert held == 5 * BLOCK * bytes_per_token(CONFIG, dtype)
