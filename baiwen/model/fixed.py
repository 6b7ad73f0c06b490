"""A step of decoding whose shapes and places do not depend on what is decoded.

    rows = [Row(token=7, position=30, table=[3, 9])]
    told = fixed.told((4, 32), scratch=64, block_size=16, rows=rows)       # on the host
    told = torch.from_numpy(told).to(device)
    layout = fixed.layout(told, 16, ropes)
    model(fixed.tokens(told), cache=Step(cache, layout))

Each of n rows is the next token of a sequence, told by integers of one tensor; all else is computed
from these on the device, which nobody waits for. So a GPU can record the step once, and repeat it
with other integers (`engine/graphs.py`). A row that only fills the shape reads and writes a scratch
block, which is no sequence's.

n rows, M blocks of each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from baiwen.model.layout import Group, Layout
from baiwen.model.rope import Mixed, Rope

HEAD = 4  # integers of a row before its blocks: token, position, slot, number of its rope


@dataclass(frozen=True)
class Row:
    """The next token of a sequence."""

    token: int
    position: int
    table: Sequence[int]  # blocks of the sequence in order; those behind the position are not read
    rope: int = 0  # number of its rope


def told(shape: tuple[int, int], scratch: int, block_size: int, rows: Iterable[Row]) -> np.ndarray:
    """The rows as integers, int32 [n, HEAD + M], for shape (n, M) filled up with scratch rows."""
    count, blocks = shape
    found = np.full((count, HEAD + blocks), scratch, np.int32)
    found[:, :HEAD] = 0, 0, scratch * block_size, 0
    for integers, row in zip(found, rows, strict=False):  # the rest are scratch
        block, offset = divmod(row.position, block_size)
        slot = row.table[block] * block_size + offset
        integers[:HEAD] = row.token, row.position, slot, row.rope
        integers[HEAD : HEAD + block + 1] = row.table[: block + 1]
    return found


def tokens(told: Tensor) -> Tensor:
    """The tokens [1, n] of a step."""
    return told[None, :, 0].long()


def layout(told: Tensor, block_size: int, ropes: Sequence[Rope]) -> "Fixed":
    """Where the tokens of a step lie; ropes: those that the numbers in the rows stand for."""
    _, positions, slots, numbers = told[:, :HEAD].T.contiguous().long()
    count, keys = len(told), (told.shape[1] - HEAD) * block_size
    return Fixed(
        positions,
        slots,
        told[:, HEAD:].contiguous(),
        torch.arange(count + 1, dtype=torch.int32, device=told.device),
        (positions + 1).int(),
        np.ones(count, np.int64),
        np.full(count, keys),
        block_size,
        tuple(ropes),
        numbers,
    )


@dataclass(frozen=True)
class Fixed(Layout):
    """One token of each sequence; `totals` are what the shape has room for.

    Made anew for every recording: what is derived here is part of it.
    """

    numbers: Tensor | None = None  # [n] int64, of each sequence's rope among `ropes`

    @cached_property
    def rope(self) -> Rope | Mixed | None:
        """The ropes of the step's tokens, by their numbers where there are several."""
        if len(self.ropes) < 2:
            return self.ropes[0] if self.ropes else None
        assert self.numbers is not None
        return Mixed(self.ropes, self.numbers)

    @cached_property
    def few(self) -> list[Group]:
        """All rows in one call of SDPA, with a mask for what each has not reached."""
        count, blocks = self.tables.shape
        device = self.tables.device
        keys = torch.arange(blocks * self.block_size, device=device)
        seen = keys <= self.positions[:, None]  # [n, S]
        rows = torch.arange(count, device=device)
        return [Group(rows, self.tables.long(), seen[:, None, None])]
