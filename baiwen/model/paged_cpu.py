"""Attention of single queries over a paged cache on a CPU in C++, and storing into it.

    if paged_cpu.fits(q, keys):
        paged_cpu.store(k, keys, layout.slots)
        paged_cpu.decode(q, keys, values, layout, None, out)      # see kernels.paged

For sequences with few queries, each of which reads its keys where they lie (`native/paged.cpp`);
chunks of prompts are `flash.paged`'s. A query's result depends, to the bit, on its sequence and on
which of the two it is.

N tokens, H query heads, K key heads, D head size.
"""

import math

import torch
from torch import Tensor

from baiwen.model.dca import Turns
from baiwen.model.layout import FEW, Layout
from baiwen.model.native.build import FLOATS, library
from baiwen.model.pages import Scales

KEPT = (*FLOATS, torch.int8)  # dtypes of a cache


def fits(q: Tensor, keys: Tensor) -> bool:
    """Whether the kernels take these tensors, and are there."""
    if q.device.type != "cpu" or q.requires_grad or keys.dtype not in KEPT:
        return False
    native = library("paged") if library("prefill") else None
    return native is not None and q.shape[-1] % native.paged_lanes() == 0


def store(x: Tensor, slab: Tensor, slots: Tensor, scales: Tensor | None = None) -> None:
    """Put x [N, K, D] into the slots [N] (block * block_size + offset) of the slab."""
    native = library("paged")
    assert native
    rows = _rows(x)
    native.paged_store(
        *(rows, rows.stride(0), slots, *rows.shape, slab, scales, slab.itemsize),
    )


def decode(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: Layout,
    turns: Turns | None,
    out: Tensor,
    scales: Scales | None = None,
) -> None:
    """Fill `out` [N, H, D] fp32 for the sequences with few queries."""
    if len(layout.long) == len(layout.counts):
        return
    native, rows = library("paged"), _rows(q)
    assert native
    heads, size = q.shape[1:]
    native.paged_decode(
        *(rows, rows.stride(0), keys, values, *(scales or (None, None)), keys.itemsize),
        *(layout.tables, layout.tables.shape[1], layout.starts, layout.lengths),
        *(len(layout.counts), FEW, heads, keys.shape[2], size, layout.block_size),
        *((turns.length, *turns.succ, *turns.inter) if turns else (0, None, None, None, None)),
        *(1 / math.sqrt(size), out),
    )


def _rows(x: Tensor) -> Tensor:
    """The tensor [N, heads, D] in fp32, the heads of a token side by side."""
    x = x.float()
    together = x.stride(2) == 1 and x.stride(1) == x.shape[2]
    return x if together else x.contiguous()
