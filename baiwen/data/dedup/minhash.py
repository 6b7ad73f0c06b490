"""MinHash: a short signature of a document, of which similar documents share a part.

    keys = signatures(table, Shape(words=5, bands=14, rows=8))["keys"]      # 14 numbers a document

A document's shingles are all its runs of `words` words (Broder, 1997). Of each of bands x rows
permutations of all shingles the lowest of a document's is its minimum: two documents have the same
one with a probability of their Jaccard similarity s. A band is a hash of `rows` minima, so that
some band is equal with a probability of 1 - (1 - s^rows)^bands (Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", 3.4): 0.56 at s = 0.70, 0.92 at 0.80, 0.9996 at 0.90 for 14 x 8.

A permutation multiplies 32 bits of the shingle's hash by an odd number modulo 2^32: of hashes that
are mixed already this is enough to follow that curve, and two operations a shingle.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from baiwen.data.words import mixed, ngrams, slices, words

BLOCK = 1 << 16  # shingles permuted at a time: 256 KiB, which stay in the processor's cache
NONE = 0  # the keys of a document without words, which is like no other


class Shape(NamedTuple):
    """What a signature depends on."""

    words: int = 5  # in a shingle
    bands: int = 14
    rows: int = 8  # minima in a band
    seed: int = 1


def signatures(table: pa.Table, shape: Shape = Shape()) -> pa.Table:  # noqa: B008 - immutable
    """`keys` of each text: a number for each band, all `NONE` without words."""
    keys = [
        bands(*ngrams(words(texts), shape.words), shape).ravel() for texts in slices(table["text"])
    ]
    flat = np.concatenate([np.zeros(0, np.uint64), *keys])
    return pa.table({"keys": pa.FixedSizeListArray.from_arrays(pa.array(flat), shape.bands)})


def shingle_sets(texts: pa.ChunkedArray, shape: Shape) -> Iterator[np.ndarray]:
    """The different shingles of each text, as their hashes, rising."""
    for part in slices(texts):
        hashes, bounds = ngrams(words(part), shape.words)
        for first, last in pairwise(bounds.tolist()):
            rising = np.sort(hashes[first:last])
            yield rising[np.append(True, rising[1:] != rising[:-1])[: len(rising)]]


def jaccard(left: np.ndarray, right: np.ndarray, least: float = 0.0) -> float:
    """Common ones of two rising arrays by all of both; 0 if their sizes rule `least` out."""
    if len(left) > len(right):
        left, right = right, left
    if not len(left) or len(left) / len(right) < least:
        return 0.0
    places = np.minimum(np.searchsorted(right, left), len(right) - 1)
    common = np.count_nonzero(right[places] == left)
    return common / (len(left) + len(right) - common)


def bands(shingles: np.ndarray, bounds: np.ndarray, shape: Shape) -> np.ndarray:
    """The keys of documents: uint64 [documents, bands].

    shingles: uint64 hashes, those of document i from bounds[i] to bounds[i + 1].
    """
    filled = np.diff(bounds) > 0
    minima = _minima((shingles >> np.uint64(32)).astype(np.uint32), bounds[:-1][filled], shape)
    minima = minima.reshape(shape.bands, shape.rows, -1)
    found = np.repeat(mixed(np.arange(shape.bands, dtype=np.uint64))[:, None], filled.sum(), 1)
    for row in range(shape.rows):
        found = mixed(found ^ minima[:, row])
    keys = np.full((len(filled), shape.bands), NONE, np.uint64)
    keys[filled] = np.maximum(found, NONE + 1).T
    return keys


def _minima(numbers: np.ndarray, starts: np.ndarray, shape: Shape) -> np.ndarray:
    """The lowest number of each document under each permutation: uint32 [permutations, documents].

    starts: where each document's numbers begin; none is empty, which `reduceat` could not tell.
    """
    factors = _factors(shape)
    minima = np.empty((len(factors), len(starts)), np.uint32)
    cuts = np.searchsorted(starts, np.arange(0, len(numbers) + BLOCK, BLOCK))
    for first, last in pairwise(np.unique(cuts)):
        block = numbers[starts[first] : starts[last] if last < len(starts) else None]
        permuted, inside = np.empty_like(block), starts[first:last] - starts[first]
        for number, factor in enumerate(factors):
            np.multiply(block, factor, out=permuted)
            minima[number, first:last] = np.minimum.reduceat(permuted, inside)
    return minima


def _factors(shape: Shape) -> np.ndarray:
    """An odd factor for each permutation: uint32 [bands * rows]."""
    seed = mixed(np.array([shape.seed], np.uint64))
    drawn = mixed(seed + np.arange(shape.bands * shape.rows, dtype=np.uint64))
    return (drawn >> np.uint64(32)).astype(np.uint32) | np.uint32(1)
