"""Attention over a paged cache in C++ against the plain form: lengths, splits, chunks, dtypes."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from baiwen.model import dca, gathered, kernels, paged_cpu
from baiwen.model.config import ModelConfig
from baiwen.model.dca import Turns
from baiwen.model.layout import Layout
from baiwen.model.native.build import library
from baiwen.model.pages import Scales, encode
from baiwen.model.positions import DualChunk

BLOCK = 16
Case = tuple[Tensor, Tensor, Tensor, Layout]


@pytest.fixture(autouse=True)
def _compiled() -> None:
    if library("paged") is None or library("prefill") is None:
        pytest.skip("needs a C++ compiler")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def case(
    done: list[int],
    counts: list[int],
    heads: tuple[int, int, int] = (14, 2, 64),
    dtype: torch.dtype = torch.float32,
) -> Case:
    """Queries, keys, values and the layout of sequences whose blocks lie in any order."""
    generator = torch.Generator().manual_seed(0)
    query_heads, key_heads, size = heads
    width = max(-(-(a + b) // BLOCK) for a, b in zip(done, counts, strict=True))
    blocks = len(done) * width + 3
    tables = torch.randperm(blocks, generator=generator)[: len(done) * width].int()
    layout = Layout.of(tables.view(-1, width).numpy(), done, counts, BLOCK, "cpu")
    q = torch.randn(sum(counts), query_heads, size, generator=generator)
    shape = (2, blocks, BLOCK, key_heads, size)
    keys, values = torch.randn(shape, generator=generator).to(dtype)
    return q, keys, values, layout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [(14, 2, 64), (4, 4, 32), (2, 1, 64), (12, 1, 16), (5, 1, 128)])
def test_decodes_and_chunks_are_those_of_the_plain_form(
    heads: tuple[int, int, int], dtype: torch.dtype
) -> None:
    done, counts = [0, 15, 16, 1040, 511, 7, 0, 100], [1, 1, 1, 1, 1, 8, 9, 40]
    q, keys, values, layout = case(done, counts, heads, dtype)
    found = kernels.paged(q, keys, values, layout)
    plain = torch.empty_like(q)
    gathered.fill(q, keys.float(), values.float(), layout.groups, plain)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)


def turning(heads: tuple[int, int, int], layout: Layout, length: int) -> Turns:
    """Turns of a model whose heads are these, for chunks of `length` tokens."""
    query_heads, key_heads, size = heads
    config = ModelConfig(
        vocab_size=8, hidden_size=query_heads * size, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=query_heads, num_key_value_heads=key_heads,
        dual_chunk_attention_config=DualChunk(length + 30, 30, length),
    )  # fmt: skip
    return dca.turns(config, layout.positions)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [(14, 2, 64), (4, 4, 32), (12, 1, 16)])
@pytest.mark.parametrize("length", [50, 700])
def test_decodes_by_chunks_are_those_of_the_plain_form(
    length: int, heads: tuple[int, int, int], dtype: torch.dtype
) -> None:
    q, keys, values, layout = case(
        [0, 699, 700, 1900, 49, 7, 95], [1, 1, 1, 1, 1, 8, 8], heads, dtype
    )
    turns = turning(heads, layout, length)
    found, plain = torch.empty_like(q), torch.empty_like(q)
    paged_cpu.decode(q, keys, values, layout, turns, found)
    dca.decode(q, keys, values, layout, turns, plain)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)


def test_a_text_within_one_chunk_is_the_same_to_the_bit_beside_longer_ones() -> None:
    heads = 14, 2, 64
    q, keys, values, layout = case([640, 1400], [1, 1], heads)
    found, plain = torch.empty_like(q), torch.empty_like(q)
    paged_cpu.decode(q, keys, values, layout, turning(heads, layout, 700), found)
    paged_cpu.decode(q, keys, values, layout, None, plain)
    assert torch.equal(found[0], plain[0])
    assert not torch.equal(found[1], plain[1])


def test_a_query_is_the_same_to_the_bit_in_any_batch_and_on_any_number_of_threads(
    threads: None,
) -> None:
    q, keys, values, layout = case([1300, 30, 2], [1, 3, 20])
    together = kernels.paged(q, keys, values, layout)
    for number, (first, count) in enumerate([(0, 1), (1, 3), (4, 20)]):
        done = int(layout.totals[number]) - count
        alone = Layout.of(layout.tables[number : number + 1].numpy(), [done], [count], BLOCK, "cpu")
        for workers in (1, 2):
            torch.set_num_threads(workers)
            found = kernels.paged(q[first : first + count], keys, values, alone)
            assert torch.equal(found, together[first : first + count]), (number, workers)


def test_the_heads_may_be_views_of_a_merged_projection() -> None:
    q, keys, values, layout = case([40, 3], [1, 10], (4, 2, 32))
    merged = torch.cat((q, torch.ones(len(q), 4, 32)), dim=1)
    view = merged[:, :4]
    assert not view.is_contiguous()
    assert torch.equal(
        kernels.paged(view, keys, values, layout), kernels.paged(q, keys, values, layout)
    )


def test_tables_may_be_views_of_wider_ones() -> None:
    q, keys, values, layout = case([40, 3], [1, 2])
    wide = torch.cat((layout.tables, layout.tables.flip(1)), 1).numpy()
    view = Layout.of(wide[:, : layout.tables.shape[1]], [40, 3], [1, 2], BLOCK, "cpu")
    assert torch.equal(kernels.paged(q, keys, values, view), kernels.paged(q, keys, values, layout))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_storing_puts_rows_into_their_slots(dtype: torch.dtype) -> None:
    wide, slots = torch.randn(5, 6, 32), torch.tensor([17, 3, 40, 0, 5])
    slab, plain = torch.zeros(2, 3, BLOCK, 2, 32, dtype=dtype)
    x = wide[:, 2:4]
    kernels.store(x, slab, slots)
    plain.flatten(0, 1).index_copy_(0, slots, x.to(dtype))
    assert torch.equal(slab, plain)


def coded(slabs: list[Tensor]) -> tuple[list[Tensor], Scales]:
    """Keys and values as int8, with their scales."""
    (keys, of_keys), (values, of_values) = map(encode, slabs)
    return [keys, values], (of_keys, of_values)


@pytest.mark.parametrize("heads", [(14, 2, 64), (4, 4, 32), (12, 1, 16)])
@pytest.mark.parametrize("length", [0, 700])
def test_codes_are_read_as_the_numbers_they_stand_for(
    length: int, heads: tuple[int, int, int]
) -> None:
    q, *slabs, layout = case([0, 15, 1040, 7, 100], [1, 1, 1, 8, 40], heads)
    codes, scales = coded(slabs)
    turns = turning(heads, layout, length) if length else None
    whole = [slab * scale[..., None] for slab, scale in zip(codes, scales, strict=True)]
    expected = kernels.paged(q, *whole, layout, turns)
    found, plain = kernels.paged(q, *codes, layout, turns, scales=scales), torch.empty_like(q)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    if turns:
        dca.decode(q, *codes, layout, turns, plain, scales)
    else:
        gathered.fill(q, *codes, layout.groups, plain, scales)
    few = layout.rows(4).start  # the last sequence is a chunk of a prompt
    torch.testing.assert_close(plain[:few], expected[:few], rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1e-40, math.nan, math.inf])
def test_storing_codes_is_the_plain_form_to_the_bit(value: float) -> None:
    x, slots = 3 * torch.randn(5, 2, 48), torch.tensor([17, 3, 40, 0, 5])
    x[1, 0], x[2, 1, 7] = 0.0, value
    codes, scales = torch.zeros(3, BLOCK, 2, 48, dtype=torch.int8), torch.zeros(3, BLOCK, 2)
    kernels.store(x, codes, slots, scales)
    found, by = (slab.flatten(0, 1)[slots] for slab in (codes, scales))
    expected, expected_by = encode(x)
    torch.testing.assert_close(by, expected_by, rtol=0, atol=0, equal_nan=True)
    assert by[2, 1].isfinite() == math.isfinite(value)
    known = by.isfinite()
    assert torch.equal(found[known], expected[known])
    assert ((found * by[..., None] - x).abs() <= by[..., None] * 0.5001)[known].all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_query_stays_broken_and_alone(value: float) -> None:
    q, keys, values, layout = case([600, 600], [1, 1])
    whole = kernels.paged(q, keys, values, layout)
    q[0, 3, 5] = value
    found = kernels.paged(q, keys, values, layout)
    assert found[0, 3].isnan().all()
    assert torch.equal(found[1], whole[1])


def test_other_head_sizes_devices_and_gradients_take_the_plain_form() -> None:
    q, keys, _, _ = case([3], [1], (2, 1, 6))  # no whole vectors on any CPU
    assert not paged_cpu.fits(q, keys)
    q, keys, _, _ = case([3], [1])
    assert paged_cpu.fits(q, keys)
    assert not paged_cpu.fits(q.requires_grad_(), keys)
    assert not paged_cpu.fits(q.to("meta"), keys)
