"""Packing: documents of any length into rows of one length, with as little padding as may be.

Best-fit-decreasing, as OLMo-core, TRL and nanochat pack: the longest piece first, each into the row
with the least space that still holds it. Only a document longer than a row is cut (`cut`), into
pieces of a full row and a rest; pieces themselves are never cut.

    pieces = cut(np.array([3, 12, 14]), size=4)      # documents of 3, 9 and 2 tokens
    pieces.length                                    # [3, 4, 4, 2]: the lone last token has no target
    [row.tolist() for row in best_fit(pieces.length, size=4)]       # [[1], [2], [0], [3]]
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pieces:
    """Stretches of a stream of tokens, each of one document."""

    start: np.ndarray  # int64 [n]: the first token's place in the stream
    length: np.ndarray  # int64 [n]: tokens
    last: (
        np.ndarray
    )  # bool [n]: whether the document ends here, so that its last token has no target

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, chosen: np.ndarray) -> "Pieces":
        return Pieces(self.start[chosen], self.length[chosen], self.last[chosen])


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


def cut(ends: np.ndarray, size: int) -> Pieces:
    """Documents that end at `ends` (cumulative) as pieces of at most `size` tokens.

    A piece of nothing but a document's last token is left out: it has no target of its own, and it
    is already the target of the token before it.
    """
    ends = np.asarray(ends, dtype=np.int64)
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    counts = -((starts - ends) // size)  # ceil(length / size)
    document = np.repeat(np.arange(len(ends)), counts)
    nth = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = starts[document] + nth * size
    length = np.minimum(size, ends[document] - start)
    last = start + length == ends[document]
    return Pieces(start, length, last)[~(last & (length == 1))]


def best_fit(lengths: Sequence[int] | np.ndarray, size: int) -> Rows:
    """Rows of at most `size`, by best-fit-decreasing; the same lengths give the same rows.

    lengths: [n], each from 1 to `size`; a `ValueError` for any other.

    The rows with `s` tokens left lie on stack `s`, and bit `s` of one long integer tells whether that
    stack holds any: the tightest fit is the lowest set bit at or above the length.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= size:
        raise ValueError(f"lengths {lengths.min()}..{lengths.max()} must lie within 1..{size}")
    order = np.argsort(-lengths, kind="stable")
    stacks: list[list[int]] = [[] for _ in range(size + 1)]
    spaces, count, row_of = 0, 0, []
    for length in lengths[order].tolist():
        fitting = spaces >> length
        if fitting:
            space = length - 1 + (fitting & -fitting).bit_length()
            row = stacks[space].pop()
            if not stacks[space]:
                spaces ^= 1 << space
        else:
            space, row, count = size, count, count + 1
        row_of.append(row)
        if space > length:
            stacks[space - length].append(row)
            spaces |= 1 << (space - length)
    return _group(order, np.array(row_of, dtype=np.int64), count)


def _group(items: np.ndarray, row_of: np.ndarray, rows: int) -> Rows:
    by_row = np.argsort(row_of, kind="stable")
    sizes = np.bincount(row_of, minlength=rows)
    return Rows(items[by_row], np.concatenate(([0], np.cumsum(sizes))))
