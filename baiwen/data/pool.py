"""A source of rows: a long stream of tokens, the pieces it is cut into, the rows they share.

Only a document longer than a row is cut, into pieces of a full row and a rest:

    pieces = cut(np.array([3, 12, 14]), size=4)      # documents of 3, 9 and 2 tokens
    pieces.length                                    # [3, 4, 4, 2]: 9 = 4 + 4 + 1, see `cut`
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from baiwen.data.pack import Rows


class Stream(Protocol):
    """A long row of tokens that pieces are cut from: shards on disk, or conversations in memory."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to `stop`, of any integer type."""

    def weights(self, start: int, stop: int) -> np.ndarray | float:
        """How much each of these tokens counts as a target."""


@dataclass(frozen=True)
class Pieces:
    """Stretches of a stream of tokens, each of one document."""

    start: np.ndarray  # int64 [n]: the first token's place in the stream
    length: np.ndarray  # int64 [n]: tokens
    last: np.ndarray  # bool [n]: whether its document ends here, so its last token has no target

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, chosen: np.ndarray) -> "Pieces":
        return Pieces(self.start[chosen], self.length[chosen], self.last[chosen])


@dataclass(frozen=True)
class Pool:
    """A source of rows: its stream, the pieces it is cut into and the rows they are packed in."""

    name: str
    stream: Stream
    pieces: Pieces
    rows: Rows
    weight: float = 1.0  # its share of the rows of a run, against the other pools' weights

    @property
    def tokens(self) -> int:
        """Tokens in all rows, without padding."""
        return int(self.pieces.length.sum())


def cut(ends: np.ndarray, size: int, kept: np.ndarray | None = None) -> Pieces:
    """Documents that end at `ends` (cumulative) as pieces of at most `size` tokens.

    kept: bool [documents], where not all of them are wanted.

    A piece of nothing but a document's last token is left out: it has no target of its own, and it
    is already the target of the token before it.
    """
    ends = np.asarray(ends, dtype=np.int64)
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    if kept is not None:
        starts, ends = starts[kept], ends[kept]
    counts = -((starts - ends) // size)  # ceil(length / size)
    document = np.repeat(np.arange(len(ends)), counts)
    nth = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = starts[document] + nth * size
    length = np.minimum(size, ends[document] - start)
    last = start + length == ends[document]
    return Pieces(start, length, last)[~(last & (length == 1))]
