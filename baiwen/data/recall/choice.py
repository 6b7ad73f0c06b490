"""Which documents a round of recall looks at: a sample, the best scores, all of a source.

The bar is set by spies: seeds that the classifier has not seen, of which a given share has to pass
it (Liu et al., Partially Supervised Classification of Text Documents, 2002).
"""

import math
from collections.abc import Iterator

import numpy as np


def sample(keys: np.ndarray, among: np.ndarray, count: int, salt: int = 0) -> np.ndarray:
    """Places of at most `count` of those where bool [n] is true, at random but fixed; rising.

    They are those of the lowest hashes, so a sample changes little when what there is does.
    """
    places = np.flatnonzero(among)
    mixed = (keys[places] ^ np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    return np.sort(places[np.argsort(mixed, kind="stable")[:count]])


def bar(spies: np.ndarray, share: float) -> float:
    """The highest score that at least `share` of the spies reach: float [spies], not empty."""
    return float(np.sort(spies)[::-1][max(1, math.ceil(share * len(spies))) - 1])


def bands(scores: np.ndarray, first: int, most: int) -> Iterator[np.ndarray]:
    """Places of the `most` best of the finite scores, from the best on, each int64 [n], rising.

    A band has `first` documents, or half as many as all before it.
    """
    order = np.argsort(-scores, kind="stable")[: min(most, int(np.isfinite(scores).sum()))]
    start = 0
    while start < len(order):
        stop = start + max(first, start // 2)
        yield np.sort(order[start:stop])
        start = stop


def doubtful(scores: np.ndarray, share: float) -> np.ndarray:
    """Bool [n]: the best `share` of the finite scores, too like the kind to be called others."""
    known = np.isfinite(scores)
    return known & (scores > np.quantile(scores[known], 1 - share))


def widened(source: np.ndarray, found: np.ndarray, share: float, least: int) -> np.ndarray:
    """Bool [n]: the documents of sources of which `share` was found; those have `least` or more."""
    known = source >= 0
    groups = int(source.max(initial=-1)) + 1
    there = np.bincount(source[known], minlength=groups)
    hits = np.bincount(source[known & found], minlength=groups)
    wide = (there >= least) & (hits >= share * there)
    return known & np.append(wide, False)[source]  # the last is nowhere
