"""From packed rows to the batches of a step.

The order is a pure function of (seed, step): nothing but the step's number is needed to resume, and
the rows of a step do not depend on how many ranks share them or how small their micro-batches are.

    split = Split(sequence_length=512, tokens_per_step=8192, micro_tokens=4096)
    pools = mixture.pools("runs/tiny/shards", tokenizer.fingerprint, 512)
    loader = Loader(pools, split, seed=0)
    for batch in loader.step(7):                     # two micro-batches of 8 rows
        batch.tokens                                 # [8, 512]

A row holds whole documents (or pieces of those that are longer than a row) and, at its end,
padding: a document of its own that has no targets.

Legend: B rows of a batch, T tokens of a row (`sequence_length`).
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from baiwen.data.order import BLOCK, interleave, permutation
from baiwen.data.pool import Pool
from baiwen.dist import World
from baiwen.errors import UserError
from baiwen.model.documents import Documents


@dataclass
class Batch:
    """A micro-batch: what the model reads and what it should say."""

    tokens: Tensor  # int64 [B, T]
    targets: Tensor  # int64 [B, T]: the next token of the same document; any where the mask is 0
    mask: Tensor  # float32 [B, T]: the weight of each target; 0 where there is none
    positions: Tensor  # int64 [B, T]: from 0 in every document
    documents: Documents  # where they begin and end
    count: float  # the sum of the mask
    real: int  # tokens that are not padding
    chosen: Tensor | None = None  # the experts that tokens go to; None: by the router


class Lengths(Protocol):
    """The knobs of a training stage that say how its steps are split."""

    sequence_length: int
    tokens_per_step: int
    micro_tokens: int


@dataclass(frozen=True)
class Split:
    """How the tokens of a step become rows, ranks' shares and micro-batches."""

    sequence_length: int  # tokens of a row
    tokens_per_step: int  # over all ranks
    micro_tokens: int  # that one rank, or those that share rows, compute at once
    rank: int = 0  # ranks that share rows count as one
    ranks: int = 1

    def __post_init__(self) -> None:
        """Stop with a `UserError` where the numbers do not divide."""
        length = self.sequence_length
        for name in ("tokens_per_step", "micro_tokens"):
            _must_divide(f"{name} = {getattr(self, name)}", getattr(self, name), length)
        parts = f"{self.ranks} ranks x micro_tokens = {self.ranks * self.micro_tokens}"
        if self.tokens_per_step % (self.ranks * self.micro_tokens):
            raise UserError(
                f"tokens_per_step = {self.tokens_per_step} must be a multiple of {parts}: try "
                f"{_multiple(self.tokens_per_step, self.ranks * self.micro_tokens)}, or a smaller "
                "micro_tokens."
            )

    @classmethod
    def of(cls, config: Lengths, world: World) -> "Split":
        """That of a stage with these knobs, on this rank."""
        lengths = config.sequence_length, config.tokens_per_step, config.micro_tokens
        return cls(*lengths, rank=world.share, ranks=world.shares)

    @property
    def rows(self) -> int:
        """Rows of a step, over all ranks."""
        return self.tokens_per_step // self.sequence_length

    @property
    def micro_rows(self) -> int:
        """Rows of a micro-batch."""
        return self.micro_tokens // self.sequence_length

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step on each rank."""
        return self.rows // (self.ranks * self.micro_rows)


class Loader:
    """The batches of every step, from one pool or a mixture of several.

    Each pool is gone through in an order of its own, shuffled anew every epoch, and the pools take
    turns in proportion to their weights. All it keeps is the order of each pool's present epoch.
    """

    def __init__(self, pools: Sequence[Pool], split: Split, seed: int = 0) -> None:
        if not pools:
            raise UserError("there are no sources to load from")
        for pool in pools:
            if not len(pool.rows):
                raise UserError(f"{pool.name} is empty: not one row can be packed from it")
        self.pools, self.split, self.seed = list(pools), split, seed
        self._turns = interleave([pool.weight for pool in pools], [pool.name for pool in pools])
        self._orders: dict[int, tuple[int, np.ndarray]] = {}  # pool -> (epoch, order of its rows)

    def step(self, step: int) -> list[Batch]:
        """This rank's micro-batches of optimizer step `step`, counted from 0."""
        split = self.split
        share = split.rows // split.ranks
        first = step * split.rows + split.rank * share
        rows = [self.row(i) for i in range(first, first + share)]
        return [
            assemble(rows[i : i + split.micro_rows], split.sequence_length)
            for i in range(0, share, split.micro_rows)
        ]

    def row(self, number: int) -> tuple[Pool, int]:
        """The pool of row `number` of the run, and which of the pool's rows it is."""
        source, nth = self._turns.turn(number)
        pool = self.pools[source]
        epoch, place = divmod(nth, len(pool.rows))
        if self._orders.get(source, (None,))[0] != epoch:
            stream = zlib.crc32(pool.name.encode())
            order = permutation(len(pool.rows), seed=self.seed, stream=stream, epoch=epoch)
            self._orders[source] = epoch, order
        return pool, int(self._orders[source][1][place])

    @property
    def tokens(self) -> int:
        """Tokens of one epoch, over all ranks and pools, without padding."""
        return sum(pool.tokens for pool in self.pools)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which as many rows are drawn as all pools hold together."""
        return sum(len(pool.rows) for pool in self.pools) / self.split.rows

    def steps(self, epochs: float) -> int:
        """Steps of `epochs` epochs; rows of the next epoch fill the last one."""
        rows = sum(len(pool.rows) for pool in self.pools)
        return math.ceil(epochs * rows / self.split.rows)  # one rounding: 25 * (7 / 25) is above 7

    def describe(self) -> dict[str, Any]:
        """What is loaded, as plain values: for the log and the report."""
        length, turns = self.split.sequence_length, self._turns.counts
        rows = sum(len(pool.rows) for pool in self.pools)
        return {
            "tokens": self.tokens,
            "rows": rows,
            "fill": self.tokens / (rows * length),
            "steps_per_epoch": self.steps_per_epoch,
            "accumulation": self.split.accumulation,
            "sources": {
                pool.name: {
                    "share": int(count) / BLOCK,
                    "tokens": pool.tokens,
                    "rows": len(pool.rows),
                    "fill": pool.tokens / (len(pool.rows) * length),
                }
                for pool, count in zip(self.pools, turns, strict=True)
            },
        }


def sample(pool: Pool, split: Split, tokens: int) -> list[Batch]:
    """This rank's share of a fixed choice of rows to measure on: about `tokens`, over all ranks.

    Every rank has as many micro-batches; no row comes twice where there are enough.
    """
    wanted = math.ceil(tokens / (split.ranks * split.micro_tokens))
    there = len(pool.rows) // (split.ranks * split.micro_rows)
    micro_batches = max(1, min(wanted, there))
    whole = replace(split, tokens_per_step=micro_batches * split.ranks * split.micro_tokens)
    return Loader([pool], whole).step(0)


def assemble(rows: Sequence[tuple[Pool, int]], length: int) -> Batch:
    """A batch of rows, each given as a pool and the number of a row in it.

    The last token of a document has no target. Where a document was cut, the last token of a piece
    still has one: the stream knows what follows.
    """
    tokens, targets, positions = np.zeros((3, len(rows), length), dtype=np.int64)  # each [B, T]
    mask = np.zeros((len(rows), length), dtype=np.float32)  # [B, T]
    places = np.arange(length)
    lengths: list[list[int]] = []
    padding: list[int] = []
    for b, (pool, row) in enumerate(rows):
        at, row_lengths = 0, []
        for piece in pool.rows[row]:
            start, n = int(pool.pieces.start[piece]), int(pool.pieces.length[piece])
            known = n - int(pool.pieces.last[piece])  # tokens whose next one is in the document
            ids = pool.stream.read(start, start + known + 1)
            tokens[b, at : at + n] = ids[:n]
            targets[b, at : at + known] = ids[1:]
            mask[b, at : at + known] = pool.stream.weights(start + 1, start + known + 1)
            positions[b, at : at + n] = places[:n]
            row_lengths.append(n)
            at += n
        if at < length:  # padding, a document of its own
            positions[b, at:] = places[: length - at]
            row_lengths.append(length - at)
        lengths.append(row_lengths)
        padding.append(length - at)
    return Batch(
        tokens=torch.from_numpy(tokens),
        targets=torch.from_numpy(targets),
        mask=torch.from_numpy(mask),
        positions=torch.from_numpy(positions),
        documents=Documents.of(lengths, padding),
        count=float(mask.sum(dtype=np.float64)),
        real=tokens.size - sum(padding),
    )


def _must_divide(shown: str, value: int, length: int) -> None:
    if value < length or value % length:
        raise UserError(
            f"{shown} must be a multiple of sequence_length = {length}: "
            f"try {_multiple(value, length)}."
        )


def _multiple(value: int, of: int) -> int:
    """The multiple of `of` that is nearest to `value`, and not 0."""
    return max(round(value / of), 1) * of
