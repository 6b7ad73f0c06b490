"""Packing: items of any length into rows of one length, with as little left empty as may be.

Best-fit-decreasing, as OLMo-core, TRL and nanochat pack: the longest item first, each into the row
with the least space that still holds it. Items are never cut.

    [row.tolist() for row in best_fit([3, 4, 1, 2, 2], size=4)]        # [[1], [0, 2], [3, 4]]
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rows(Sequence[np.ndarray]):
    """Which items share a row: row `r` holds `items[bounds[r]:bounds[r + 1]]`."""

    items: np.ndarray  # int64 [n]
    bounds: np.ndarray  # int64 [rows + 1]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, row: int) -> np.ndarray:  # type: ignore[override]
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.items[self.bounds[row] : self.bounds[row + 1]]


def best_fit(lengths: Sequence[int] | np.ndarray, size: int) -> Rows:
    """Rows of at most `size`, by best-fit-decreasing; the same lengths give the same rows.

    lengths: [n], each from 1 to `size`; a `ValueError` for any other.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= size:
        raise ValueError(f"lengths {lengths.min()}..{lengths.max()} must lie within 1..{size}")
    order = np.argsort(-lengths, kind="stable")
    open_rows, rows, row_of = _OpenRows(size), 0, []
    for length in lengths[order].tolist():
        space = open_rows.tightest(length)
        if space:
            row = open_rows.take(space)
        else:
            space, row, rows = size, rows, rows + 1
        row_of.append(row)
        if space > length:
            open_rows.put(row, space - length)
    return _group(order, np.array(row_of, dtype=np.int64), rows)


class _OpenRows:
    """Rows by the space they have left; finds the tightest fit in constant time.

    Bit `s % WORD` of word `s // WORD` tells whether any row has `s` tokens left, and a bit of
    `filled` whether a word has any bit: the tightest fit is the lowest set bit from a length on.
    """

    WORD = 512  # bits; with as many words, both levels are short integers up to 262,144 tokens

    def __init__(self, size: int) -> None:
        self.stacks: defaultdict[int, list[int]] = defaultdict(list)  # by the space left
        self.words = [0] * (size // self.WORD + 1)
        self.filled = 0

    def tightest(self, length: int) -> int:
        """The least space from `length` on that a row has; 0 if none has."""
        word, bit = divmod(length, self.WORD)
        if found := self.words[word] >> bit:
            return length + _lowest(found)
        if above := self.filled >> (word + 1):
            word += 1 + _lowest(above)
            return word * self.WORD + _lowest(self.words[word])
        return 0

    def take(self, space: int) -> int:
        """The latest row with exactly `space` left, which is then no longer open."""
        stack = self.stacks[space]
        row = stack.pop()
        if not stack:
            word, bit = divmod(space, self.WORD)
            self.words[word] ^= 1 << bit
            if not self.words[word]:
                self.filled ^= 1 << word
        return row

    def put(self, row: int, space: int) -> None:
        """Open `row` with `space` left."""
        word, bit = divmod(space, self.WORD)
        self.stacks[space].append(row)
        self.words[word] |= 1 << bit
        self.filled |= 1 << word


def _lowest(bits: int) -> int:
    """The place of the lowest set bit of a positive integer."""
    return (bits & -bits).bit_length() - 1


def _group(items: np.ndarray, row_of: np.ndarray, rows: int) -> Rows:
    by_row = np.argsort(row_of, kind="stable")
    sizes = np.bincount(row_of, minlength=rows)
    return Rows(items[by_row], np.concatenate(([0], np.cumsum(sizes))))
