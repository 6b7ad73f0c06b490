"""Attention over a paged cache on a CPU in C++: of decodes, and of chunks of prompts.

    if paged_cpu.fits(q, keys):
        paged_cpu.store(k, keys, layout.slots)
        out = paged_cpu.attend(q, keys, values, layout)          # as kernels.paged

Both read keys where they lie: sequences with few queries a query at a time (`native/paged.cpp`), a
chunk of a prompt by blocks of queries (`flash.paged`). A query's result depends, to the bit, on its
sequence and on which of the two it is.

N tokens, H query heads, K key heads, D head size, S keys of one sequence.
"""

import math

import torch
from torch import Tensor

from baiwen.model import flash
from baiwen.model.dca import Turns
from baiwen.model.layout import FEW, Layout
from baiwen.model.native.build import FLOATS, library
from baiwen.model.pages import Pages


def fits(q: Tensor, keys: Tensor) -> bool:
    """Whether the kernels take these tensors, and are there."""
    if q.device.type != "cpu" or q.requires_grad or keys.dtype not in FLOATS:
        return False
    native = library("paged") if library("prefill") else None
    return native is not None and q.shape[-1] % native.paged_lanes() == 0


def store(x: Tensor, slab: Tensor, slots: Tensor) -> None:
    """Put x [N, K, D] into the slots [N] (block * block_size + offset) of the slab."""
    native = library("paged")
    assert native
    rows = _rows(x)
    size = slab.shape[2] * slab.shape[3]
    half = slab.dtype == torch.bfloat16
    native.paged_store(rows, rows.stride(0), slots, len(rows), size, slab, half)


def attend(q: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Tensor:
    """q [N, H, D], keys and values [blocks, block_size, K, D] -> [N, H, D], in q's dtype."""
    rows = _rows(q)
    out = rows.new_empty(q.shape)
    decode(rows, keys, values, layout, None, out)
    for number in layout.long:
        first, last = layout.starts[number : number + 2].tolist()
        out[first:last] = _chunk(rows[first:last], keys, values, layout, number)
    return out.to(q.dtype)


def decode(
    q: Tensor, keys: Tensor, values: Tensor, layout: Layout, turns: Turns | None, out: Tensor
) -> None:
    """Fill `out` [N, H, D] fp32 for the sequences with few queries."""
    if len(layout.long) == len(layout.counts):
        return
    native, rows = library("paged"), _rows(q)
    assert native
    heads, size = q.shape[1:]
    native.paged_decode(
        *(rows, rows.stride(0), keys, values, keys.dtype == torch.bfloat16),
        *(layout.tables, layout.tables.shape[1], layout.starts, layout.lengths),
        *(len(layout.counts), FEW, heads, keys.shape[2], size, layout.block_size),
        *((turns.length, *turns.succ, *turns.inter) if turns else (0, None, None, None, None)),
        *(1 / math.sqrt(size), out),
    )


def _chunk(q: Tensor, keys: Tensor, values: Tensor, layout: Layout, number: int) -> Tensor:
    """The queries [T, H, D] of one sequence, which are its last."""
    seen = int(layout.totals[number])
    pages = Pages(keys, values, layout.tables[number])
    return flash.paged(q, pages, seen - len(q), 0, seen)[0]


def _rows(x: Tensor) -> Tensor:
    """The tensor [N, heads, D] in fp32, the heads of a token side by side."""
    x = x.float()
    together = x.stride(2) == 1 and x.stride(1) == x.shape[2]
    return x if together else x.contiguous()
