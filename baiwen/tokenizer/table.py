"""Text to ids through a table of the pieces met before, for whole batches in NumPy.

    table = Table(ranks, encode)                    # what encodes a piece that is no token
    table.encode(["A cat. A cat!", "x"])            # their ids: two arrays

The tokenizer merges the bytes of each piece of text by itself (`tokenizer/cut.py`), and pieces
repeat as words do (Zipf): of a gigabyte's pieces all but a few thousandths were there before. A
piece of up to `LONG` bytes is looked up by its very bytes, as two integers; no hash decides.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from baiwen.tokenizer.cut import cut

LONG = 15  # bytes of a piece that two integers hold, with its size
SLOTS = 20  # log2 of the table's places: 24 MB
FULL = 1 << SLOTS - 1  # pieces that are kept; others are encoded anew in each batch
BLOCK = 1 << 19  # characters that are encoded at a time, so that arrays stay in the cache
MOST = 1 << 24  # bytes of a batch, so that as many ids can be counted

_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
_ODD = [np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93)]


class Table:
    """The pieces met before and their ids."""

    def __init__(self, ranks: Mapping[bytes, int], encode: Callable[[str], np.ndarray]) -> None:
        self._ranks, self._encode = ranks, encode
        self._low = np.zeros(1 << SLOTS, np.uint64)  # the first bytes of each
        self._high = np.zeros(1 << SLOTS, np.uint64)  # the others and the size: 0 is a free place
        self._values = np.zeros(1 << SLOTS, np.int64)  # its first id's place times MOST, its count
        self._ids = np.zeros(0, np.uint32)
        self._kept = 0

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, uint32; one thread at a time.

        texts: as `cut.simple` allows, each of at most MOST bytes.
        """
        return [ids for block in _blocks(texts) for ids in self._block(block)]

    def _block(self, texts: Sequence[str]) -> list[np.ndarray]:
        encoded = [text.encode() for text in texts]
        data, edges = b"".join(encoded), np.cumsum([0, *map(len, encoded)])
        starts = cut(data, edges)
        values, ids = self._found(data, starts)
        counts = values & (MOST - 1)
        ends = np.cumsum(counts)
        place = np.repeat((values >> 24) - ends + counts, counts)
        place += np.arange(len(place))
        bounds = np.append(0, ends)[np.searchsorted(starts, edges[1:-1])]
        return np.split(ids[place], bounds)

    def _found(self, data: bytes, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each piece where its ids begin and how many they are, as in `_values`; the ids."""
        sizes = np.diff(starts, append=len(data))
        low, high = _keys(data, starts, sizes)
        values = self._look(low, high)
        missing = np.flatnonzero(values == 0)
        short = missing[sizes[missing] <= LONG]
        while len(short) and self._kept < FULL:
            chosen = short[np.unique(_mixed(low[short], high[short]), return_index=True)[1]]
            chosen = chosen[: FULL - self._kept]
            self._keep(data, starts[chosen], sizes[chosen], low[chosen], high[chosen])
            values[short] = self._look(low[short], high[short])
            short = short[values[short] == 0]
        missing = missing[values[missing] == 0]
        spans = zip(starts[missing].tolist(), sizes[missing].tolist(), strict=True)
        pieces = [data[start : start + size] for start, size in spans]
        different = list(dict.fromkeys(pieces))
        own, ids = self._encoded(different)
        place = dict(zip(different, own.tolist(), strict=True))
        values[missing] = [place[piece] for piece in pieces]
        return values, ids

    def _look(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The values of pieces, 0 of those that are not kept."""
        slot = (_mixed(low, high) >> np.uint64(64 - SLOTS)).astype(np.int64)
        same = (self._low[slot] == low) & (self._high[slot] == high)
        values = self._values[slot] * same
        left = np.flatnonzero(~same)
        while len(left):
            left = left[self._high[slot[left]] != 0]
            slot[left] = slot[left] + 1 & (1 << SLOTS) - 1
            same = (self._low[slot[left]] == low[left]) & (self._high[slot[left]] == high[left])
            values[left[same]] = self._values[slot[left[same]]]
            left = left[~same]
        return values

    def _keep(
        self, data: bytes, starts: np.ndarray, sizes: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> None:
        """Encode different pieces and put them into the table."""
        spans = zip(starts.tolist(), sizes.tolist(), strict=True)
        values, self._ids = self._encoded([data[start : start + size] for start, size in spans])
        slot = (_mixed(low, high) >> np.uint64(64 - SLOTS)).astype(np.int64)
        left = np.arange(len(slot))
        while len(left):
            free = left[self._high[slot[left]] == 0]
            free = free[np.unique(slot[free], return_index=True)[1]]  # one for each place
            self._low[slot[free]], self._high[slot[free]] = low[free], high[free]
            self._values[slot[free]] = values[free]
            left = np.setdiff1d(left, free, assume_unique=True)
            slot[left] = slot[left] + 1 & (1 << SLOTS) - 1
        self._kept += len(values)

    def _encoded(self, pieces: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Values of pieces whose ids come behind those that are kept, and the ids of both."""
        found = self._ids_of(pieces)
        counts = np.array([len(found[piece]) for piece in pieces], np.int64)
        first = len(self._ids) + np.cumsum(counts) - counts
        own = itertools.chain.from_iterable(found[piece] for piece in pieces)
        return first << 24 | counts, np.append(self._ids, np.fromiter(own, np.uint32))

    def _ids_of(self, pieces: Sequence[bytes]) -> dict[bytes, list[int]]:
        """The ids of different pieces.

        Those that end in a letter are encoded together, a line each: the line end between them is
        a piece, and thereby a token, of its own.
        """
        ranks = self._ranks
        found = {piece: [ranks[piece]] for piece in pieces if piece in ranks}
        others = [piece for piece in pieces if piece not in found]
        lines = [piece for piece in others if piece[-1:].isalpha()]
        ids = self._encode(b"\n".join(lines).decode())
        ends = [*np.flatnonzero(ids == ranks[b"\n"]).tolist(), len(ids)]
        begins = [0, *(end + 1 for end in ends)]
        listed = ids.tolist()
        for line, begin, end in zip(lines, begins, ends, strict=False):
            found[line] = listed[begin:end]
        for piece in others:
            if piece not in found:
                found[piece] = self._encode(piece.decode()).tolist()
        return found


def _blocks(texts: Sequence[str]) -> Iterator[list[str]]:
    block: list[str] = []
    size = 0
    for text in texts:
        if block and size + len(text) > BLOCK:
            yield block
            block, size = [], 0
        block.append(text)
        size += len(text)
    if block:
        yield block


def _keys(data: bytes, starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of pieces and their size as two integers; both 0 of those beyond `LONG` bytes."""
    padded = data + bytes(16)
    words = np.ndarray((len(data) + 9,), "<u8", padded, strides=(1,))  # at every byte
    low = words[starts] & _MASKS[np.minimum(sizes, 8)]
    high = words[starts + 8] & _MASKS[np.clip(sizes - 8, 0, 7)]
    high |= sizes.astype(np.uint64) << np.uint64(56)
    long = np.flatnonzero(sizes > LONG)
    low[long] = high[long] = 0
    return low, high


def _mixed(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A hash, whose upper bits depend on all bits."""
    mixed = low * _ODD[0] ^ high * _ODD[1]
    return (mixed ^ mixed >> np.uint64(29)) * _ODD[2]
