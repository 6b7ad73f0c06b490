"""What a chunk of one sequence's queries attends over: its pages, and lists of what they see.

    pages = Pages(keys, values, layout.tables[number])       # of one layer; the cache's own slabs
    lists = Lists(firsts, ends, heads=2)                     # None: all keys up to the query's own
    out, lse = kernels.prefill(q, pages, place=done, first=0, last=seen, lists=lists)

S keys of the sequence, K key heads, H query heads, D head size, n blocks of queries, L list heads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# What int8 codes of keys and of values are times, fp32 [blocks, block_size, K] each.
Scales = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Pages:
    """Keys and values of one sequence, i in block table[i // block_size] of a cache."""

    keys: Tensor  # [blocks, block_size, K, D] fp32, bf16, or int8 with scales
    values: Tensor  # as the keys
    table: Tensor  # [m] int32, m * block_size >= S; beyond S it is not read
    scales: Scales | None = None

    def read(
        self, places: Tensor, dtype: torch.dtype = torch.float32, heads: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [n, K, D] at the places [n] of the sequence, of all heads or some."""
        size = self.keys.shape[1]
        slots = self.table.index_select(0, places // size).long() * size + places % size

        def of(slab: Tensor) -> Tensor:  # index_select: several times faster than an index
            return slab.flatten(0, 1)[:, heads].index_select(0, slots).to(dtype)

        k, v = of(self.keys), of(self.values)
        if self.scales is None:
            return k, v
        return k * of(self.scales[0])[..., None], v * of(self.scales[1])[..., None]


@dataclass(frozen=True)
class Lists:
    """The keys that each block of `kernels.tile()` queries may see.

    Blocks of as many keys by their first places, which may be any, and keys alone: rising, in none
    of the blocks, and none behind the first query. List i belongs to (block of queries, list head).
    """

    firsts: Tensor  # int32, of blocks, rising and disjoint within a list
    ends: Tensor  # int64 [n * L + 1]: list i is firsts[ends[i] : ends[i + 1]]
    heads: int  # L: K, a list for all query heads of a key head, or H
    columns: Tensor | None = None  # int32
    column_ends: Tensor | None = None  # int64 [n * L + 1]

    def places(self, number: int, tile: int) -> Tensor:
        """All keys of a list, int64: columns, then blocks of `tile`, whatever exists of them."""
        firsts = self.firsts[self.ends[number] : self.ends[number + 1]].long()
        blocks = (firsts[:, None] + torch.arange(tile, device=firsts.device)).flatten()
        if self.columns is None or self.column_ends is None:
            return blocks
        first, last = self.column_ends[number : number + 2]
        return torch.cat((self.columns[first:last].long(), blocks))


def gather(
    keys: Tensor, values: Tensor, tables: Tensor, scales: Scales | None = None
) -> tuple[Tensor, Tensor]:
    """What lies in the blocks of tables [g, m]: [g, m * block_size, K, D], codes as fp32."""
    k, v = (slab[tables].flatten(1, 2) for slab in (keys, values))
    if scales is None:
        return k, v
    of_keys, of_values = (slab[tables].flatten(1, 2)[..., None] for slab in scales)
    return k * of_keys, v * of_values


def encode(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [..., D] as int8 codes, and what they are times: max |x| / 127, fp32 [...].

    A scale is NaN where a number is not finite, so that such a key is not mistaken for another.
    """
    x = x.float()
    most = x.abs().amax(-1)
    codes = (x * (127 / most.clamp_min(1e-30))[..., None]).round().nan_to_num(0)
    return codes.to(torch.int8), most / 127 + (x - x).sum(-1)
