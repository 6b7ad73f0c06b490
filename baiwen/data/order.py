"""The order of the data: a pure function of a seed and a count, so that its state is an integer.

Two questions, each answered without looking at what came before:

    turns = interleave([0.75, 0.25])        # whose turn is row i, and how many had it before?
    turns.turn(6)                           # (1, 1): the second source's, which had one before
    permutation(4, seed=0, epoch=1)         # the order of 4 rows in that epoch

Shuffling sorts by SplitMix64 hashes (Steele et al., 2014), not by numpy's generators, whose streams
may differ from version to version: a run resumes in the same order wherever it resumes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baiwen.errors import UserError

BLOCK = 100_000  # rows in which the mixture is exact


@dataclass(frozen=True)
class Turns:
    """A cycle of `BLOCK` rows over the sources."""

    source: np.ndarray  # int64 [BLOCK]: whose turn it is
    nth: np.ndarray  # int64 [BLOCK]: how many turns that source had before, within the cycle
    counts: np.ndarray  # int64 [sources]: turns in a cycle

    def turn(self, row: int) -> tuple[int, int]:
        """The source of row `row` of the run and how many rows that source gave before."""
        cycle, place = divmod(row, len(self.source))
        source = int(self.source[place])
        return source, cycle * int(self.counts[source]) + int(self.nth[place])


def shares(weights: Sequence[float], names: Sequence[str]) -> np.ndarray:
    """Rows of each source in a block of `BLOCK`: its weight's share, by largest remainder."""
    exact = np.asarray(weights, dtype=np.float64)
    exact = exact / exact.sum() * BLOCK
    counts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: BLOCK - counts.sum()]] += 1
    for name, count in zip(names, counts, strict=True):
        if count == 0:
            raise UserError(
                f"the weight of {name} is too small: it gets none of {BLOCK} rows. "
                "Raise it or leave the source out."
            )
    return counts


def interleave(weights: Sequence[float], names: Sequence[str] | None = None) -> Turns:
    """A cycle in which every stretch holds each source as near to its share as rows allow.

    weights: above 0; only their proportions matter. names: for messages.
    """
    counts = shares(weights, names or [f"source {i}" for i in range(len(weights))])
    source = np.repeat(np.arange(len(counts)), counts)
    nth = np.concatenate([np.arange(count) for count in counts])
    due = (nth + 0.5) / counts[source]  # each source's turns lie evenly over the cycle
    order = np.argsort(due, kind="stable")
    return Turns(source[order], nth[order], counts)


def permutation(size: int, *, seed: int, stream: int = 0, epoch: int = 0) -> np.ndarray:
    """An order of `size` things, int64 [size]: another for each seed, stream and epoch."""
    key = np.zeros(1, dtype=np.uint64)
    for part in (seed, stream, epoch):
        key = _splitmix(key + np.uint64(part % 2**64))
    return np.argsort(_splitmix(np.arange(size, dtype=np.uint64) ^ key), kind="stable")


def _splitmix(state: np.ndarray) -> np.ndarray:
    """The SplitMix64 output of each state, uint64."""
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
