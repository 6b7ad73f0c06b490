"""Where the tokens of one forward lie in a paged cache.

A forward of the engine takes the next tokens of many sequences at once, flattened: a chunk of a
prompt here, one token of an answer there. A sequence's keys lie in blocks anywhere in the cache;
its row of `tables` names them in order. Everything here is prepared once a step for all layers.

    layout = Layout.of(tables, done=[0, 30], counts=[16, 1], block_size=16, device="cpu")
    layout.positions                     # [17]: 0 ... 15, and 30
    layout.starts, layout.lengths        # [0, 16, 17], [16, 31]

N tokens of the step, n sequences, M blocks of the longest one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from baiwen.model.rope import Mixed, Rope

ALIKE = 1.25  # decodes share a call while the longest has at most so many times the shortest's keys
FEW = 8  # tokens of a sequence that each read their keys alone on a CPU: no gathering pays
PIECE = 512  # queries of a chunk that share a mask [PIECE, keys]


@dataclass(frozen=True)
class Group:
    """Sequences whose queries are attended in one call of SDPA."""

    rows: Tensor  # [g * T], their places among the N tokens
    tables: Tensor  # [g, m] int64
    mask: Tensor  # [g or 1, 1, T, m * block_size] bool, true where the query may see the key


@dataclass(frozen=True)
class Layout:
    """The sequences of a step: their tokens here and their keys in the cache."""

    positions: Tensor  # [N] int64, of each token in its sequence
    slots: Tensor  # [N] int64, block * block_size + offset: where its key and value go
    tables: Tensor  # [n, M] int32, blocks of each sequence in order; 0 beyond its end
    starts: Tensor  # [n + 1] int32, where each sequence's tokens begin among the N
    lengths: Tensor  # [n] int32, keys of each sequence, those of this step included
    counts: np.ndarray  # [n], tokens of each sequence in this step, on the host
    totals: np.ndarray  # [n], `lengths` on the host
    block_size: int
    ropes: tuple[Rope, ...] = ()  # of the n sequences; (): what the model's configuration says

    @classmethod
    def of(
        cls,
        tables: np.ndarray,
        done: Sequence[int],
        counts: Sequence[int],
        block_size: int,
        device: torch.device | str,
        ropes: Sequence[Rope] = (),
    ) -> "Layout":
        """The layout of `counts` [n] tokens after the `done` [n] ones; tables [n, M] int32."""
        assert len(ropes) in (0, len(counts))
        before, many = np.asarray(done, np.int64), np.asarray(counts, np.int64)
        starts = np.concatenate(([0], many.cumsum()))
        sequence = np.repeat(np.arange(len(many)), many)  # [N]
        positions = np.arange(starts[-1]) + (before - starts[:-1])[sequence]  # [N]
        slots = tables[sequence, positions // block_size].astype(np.int64) * block_size
        slots += positions % block_size
        totals = before + many

        def sent(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device, non_blocking=True)

        return cls(
            sent(positions),
            sent(slots),
            sent(np.ascontiguousarray(tables)),  # kernels step from row to row by its width
            sent(starts.astype(np.int32)),
            sent(totals.astype(np.int32)),
            many,
            totals,
            block_size,
            tuple(ropes),
        )

    @cached_property
    def long(self) -> list[int]:
        """Numbers of the sequences with more than FEW tokens in this step."""
        return [int(number) for number in np.flatnonzero(self.counts > FEW)]

    @cached_property
    def rope(self) -> Rope | Mixed | None:
        """The ropes of the step's tokens."""
        if len(set(self.ropes)) < 2:
            return self.ropes[0] if self.ropes else None
        sequences = np.repeat(np.arange(len(self.counts)), self.counts)
        return Mixed.of(self.ropes, torch.from_numpy(sequences).to(self.tables.device))

    def rows(self, number: int) -> slice:
        """The places of a sequence's tokens among the N."""
        first = int(self.counts[:number].sum())
        return slice(first, first + int(self.counts[number]))

    @cached_property
    def groups(self) -> list[Group]:
        """The step as calls of SDPA: decodes of similar length together, chunks in pieces."""
        return [*self.few, *self._chunks(np.array(self.long, int))]

    @cached_property
    def few(self) -> list[Group]:
        """Those of the sequences with at most FEW tokens."""
        some = np.flatnonzero((self.counts > 1) & (self.counts <= FEW))
        return [*self._decodes(), *self._chunks(some)]

    def _decodes(self) -> Iterator[Group]:
        alone = np.flatnonzero(self.counts == 1)
        order = alone[np.argsort(self.totals[alone], kind="stable")]
        while len(order):
            most = int(self.totals[order[0]] * ALIKE) + self.block_size
            size = int(np.searchsorted(self.totals[order], most, side="right"))
            yield self._group(order[:size], 0, 1)
            order = order[size:]

    def _chunks(self, numbers: np.ndarray) -> Iterator[Group]:
        for number in numbers:
            for first in range(0, self.counts[number], PIECE):
                count = min(PIECE, self.counts[number] - first)
                yield self._group(np.array([number]), first, count)

    def _group(self, numbers: np.ndarray, first: int, count: int) -> Group:
        """Tokens [first, first + count) of these sequences, and the keys up to their own."""
        device = self.tables.device
        chosen = torch.from_numpy(numbers).to(device)
        within = torch.arange(first, first + count, device=device)  # [T]
        rows = self.starts[chosen].long()[:, None] + within  # [g, T]
        seen = int((self.totals - self.counts)[numbers].max()) + first + count  # keys
        blocks = -(-seen // self.block_size)
        keys = torch.arange(blocks * self.block_size, device=device)
        mask = keys <= self.positions[rows][..., None]  # [g, T, S]
        return Group(rows.flatten(), self.tables[chosen, :blocks].long(), mask[:, None])
