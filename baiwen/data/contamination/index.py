"""Where n-grams of documents stand in evaluation texts: a filter of bits, then a sorted table.

    grams = Grams.of(tests, n=5)
    found = grams.hits(words(table["text"]))       # every n-gram that both have

Most n-grams of a document stand in no test: the filter, one bit of `SPARSE` set, tells so at the
price of a byte read. What passes is looked up among the sorted hashes, 64 bits each, of all tests.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from baiwen.data.contamination.evaluations import Evaluations
from baiwen.data.words import Words, ngrams

SPARSE = 32  # bits of the filter for each n-gram
SMALL = 16  # log2 of the filter's least bits


class Hits(NamedTuple):
    """N-grams that stand in texts and in tests, a row for each pair of places; all int64."""

    text: np.ndarray  # number of the text
    at: np.ndarray  # where in it, in words
    sequence: np.ndarray  # number of the test's sequence
    offset: np.ndarray  # where in that


@dataclass(frozen=True)
class Grams:
    """The n-grams of tests and where they stand."""

    n: int
    bits: np.ndarray  # uint8: the filter, a bit for each value of the hashes' upper bits
    shift: np.uint64  # what is left of a hash after it is the number of its bit
    hashes: np.ndarray  # uint64 [grams], rising
    first: np.ndarray  # int64 [grams + 1]: places of gram i are first[i] ... first[i + 1] - 1
    sequence: np.ndarray  # int64 [places]
    offset: np.ndarray  # int64 [places]

    @classmethod
    def of(cls, tests: Evaluations, n: int, least: int, places: int) -> "Grams":
        """Those of sequences of at least `least` words, each with at most `places` places.

        Many places hold the templates of a benchmark: whoever copied one test of it is found by
        the words that are the test's own, or, where these are few, is as near to its first tests.
        """
        hashes, bounds = ngrams(tests.words, n)
        sequence = np.repeat(np.arange(len(tests.places)), np.diff(bounds))
        offset = np.arange(len(hashes)) - bounds[sequence]
        kept = np.flatnonzero(tests.lengths[sequence] >= max(least, n))
        kept = kept[np.argsort(hashes[kept], kind="stable")]
        found, first, counts = np.unique(hashes[kept], return_index=True, return_counts=True)
        kept = kept[np.arange(len(kept)) - np.repeat(first, counts) < places]
        first = np.concatenate(([0], np.cumsum(np.minimum(counts, places))))
        bits, shift = _filter(found)
        return cls(n, bits, shift, found, first, sequence[kept], offset[kept])

    def hits(self, words: Words) -> Hits:
        """Every n-gram of the texts that a test has too, for each of its places there."""
        hashes, bounds = ngrams(words, self.n)
        number = hashes >> self.shift
        passed = self.bits[number >> np.uint64(3)] >> (number & np.uint64(7)).astype(np.uint8) & 1
        at = np.flatnonzero(passed)
        gram = np.searchsorted(self.hashes, hashes[at])
        same = np.flatnonzero(self.hashes[np.minimum(gram, len(self.hashes) - 1)] == hashes[at])
        at, gram = at[same], gram[same]
        counts = self.first[gram + 1] - self.first[gram]
        place = np.repeat(self.first[gram] - np.cumsum(counts) + counts, counts)
        place += np.arange(len(place))
        text = np.searchsorted(bounds, at, side="right") - 1
        within = at - bounds[text]
        return Hits(
            np.repeat(text, counts),
            np.repeat(within, counts),
            self.sequence[place],
            self.offset[place],
        )


def _filter(hashes: np.ndarray) -> tuple[np.ndarray, np.uint64]:
    """A bit for each of the hashes, by their upper bits, and how far these are shifted."""
    size = max((len(hashes) * SPARSE).bit_length(), SMALL)
    shift = np.uint64(64 - size)
    number = hashes >> shift
    bits = np.zeros(1 << size - 3, np.uint8)
    np.bitwise_or.at(bits, number >> np.uint64(3), np.uint8(1) << (number & np.uint64(7)))
    return bits, shift
