"""The blocks of queries and keys among which sparse attention chooses.

A chunk's queries are cut into blocks of `kernels.tile()`, and so are the keys of each part that
they see (the whole text; with dual chunk attention three parts, each asked by queries of its own).
What is chosen is a table [L, n, b] of blocks, and perhaps keys alone; `lists` says it as kernels
want it.

    grid = Grid.of(parts, count=4096, place=28_672, tile=64)
    grid.seen                                      # [n, b]: which blocks lie before which queries
    lists = grid.lists(chosen)                     # one `Lists` a part

T queries, H query heads, K key heads, D head size, n blocks of queries, b blocks of keys, L list
heads (K, or H), R queries that vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.model.pages import Lists, Pages


@dataclass(frozen=True)
class Part:
    """Keys first ... last - 1 of a text, and the queries as they ask them."""

    q: Tensor  # [T, H, D]
    straight: Tensor  # [R, H, D], the last of them at positions that go on; q's own in most parts
    first: int
    last: int


@dataclass(frozen=True)
class Grid:
    """Blocks of keys, rising over all parts, and the blocks of queries that may see them."""

    firsts: Tensor  # [b] int64, first key of each block
    ends: Tensor  # [b] int64, one behind its last: a part's last block is often cut
    parts: tuple[slice, ...]  # the blocks of each part
    keys: tuple[slice, ...]  # its keys
    count: int  # T
    place: int  # of the first query in its text
    tile: int

    @classmethod
    def of(cls, parts: Sequence[Part], count: int, place: int, tile: int) -> "Grid":
        """The grid of parts that follow each other in the text."""
        device = parts[0].q.device
        firsts = [torch.arange(part.first, part.last, tile, device=device) for part in parts]
        ends = [(one + tile).clamp(max=part.last) for one, part in zip(firsts, parts, strict=True)]
        cuts = [0, *torch.tensor([len(one) for one in firsts]).cumsum(0).tolist()]
        blocks = tuple(slice(*cuts[number : number + 2]) for number in range(len(parts)))
        keys = tuple(slice(part.first, part.last) for part in parts)
        return cls(torch.cat(firsts), torch.cat(ends), blocks, keys, count, place, tile)

    @cached_property
    def queries(self) -> Tensor:
        """Places of the first query of each block, [n] int64."""
        last = self.place + self.count
        return torch.arange(self.place, last, self.tile, device=self.firsts.device)

    @cached_property
    def seen(self) -> Tensor:
        """Whether some query of a block may see some key of another, [n, b]."""
        return self.firsts < (self.queries + self.tile).clamp(max=self.place + self.count)[:, None]

    @cached_property
    def apart(self) -> Tensor:
        """How far the first key of a block lies before the first of the queries, [n, b]."""
        return self.queries[:, None] - self.firsts

    def near(self, sink: int, local: int) -> Tensor:
        """Blocks with one of the first `sink` keys or of the last `local` of a query, [n, b]."""
        first = self.firsts[0]
        late = self.ends[None] > (self.queries - local + 1)[:, None]
        return ((self.firsts < first + sink) | late) & self.seen

    def density(self, chosen: Tensor, alone: Tensor | None = None) -> Tensor:
        """Of the keys that the blocks of queries may see, the share that `lists` lists, [L]."""
        widths = (self.ends - self.firsts).double()
        listed = ((chosen & self.seen) * widths).sum((1, 2))
        if alone is not None:
            listed += torch.bincount(alone[:, 1], minlength=len(chosen))
        return listed / (self.seen * widths).sum()

    def lists(self, chosen: Tensor, alone: Tensor | None = None) -> list[Lists]:
        """What is chosen [L, n, b], and keys alone [c, 3] (block of queries, list head, key)."""
        chosen = (chosen & self.seen).transpose(0, 1)  # [n, L, b]
        return [
            self._list(chosen[..., part], self.firsts[part], keys, alone)
            for part, keys in zip(self.parts, self.keys, strict=True)
        ]

    def _list(self, chosen: Tensor, places: Tensor, of: slice, alone: Tensor | None) -> Lists:
        rows, heads, _ = chosen.shape
        firsts = places[chosen.nonzero()[:, 2]].int()
        ends = _ends(chosen.sum(-1).flatten())
        if alone is None:
            return Lists(firsts, ends, heads)
        inside = (of.start <= alone[:, 2]) & (alone[:, 2] < of.stop)
        row, head, keys = alone[inside].unbind(1)
        counts = torch.bincount(row * heads + head, minlength=rows * heads)
        return Lists(firsts, ends, heads, keys.int(), _ends(counts))


def read(pages: Pages, first: int, last: int, heads: slice = slice(None)) -> Tensor:
    """Keys first ... last - 1 of a sequence and of some key heads, [last - first, K, D] fp32."""
    size = pages.keys.shape[1]
    blocks = pages.table[first // size : -(-last // size)].long()
    rows = slice(first % size, first % size + last - first)
    keys = pages.keys[:, :, heads][blocks].flatten(0, 1)[rows].float()
    if pages.scales is None:
        return keys
    return keys * pages.scales[0][:, :, heads][blocks].flatten(0, 1)[rows][..., None]


def _ends(counts: Tensor) -> Tensor:
    """Where each of the lists of these lengths ends, behind a first 0."""
    return F.pad(counts.cumsum(0), (1, 0))
