"""Which documents a round of recall looks at: a sample, the best scores, all of a source.

The bar is set by spies: seeds that the classifier has not seen, of which a given share has to pass
it (Liu et al., Partially Supervised Classification of Text Documents, 2002).
"""

import math
from collections.abc import Callable

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


def walk(order: np.ndarray, first: int, least: int, good: Callable[[np.ndarray], bool]) -> None:
    """Show `good` a band of `order` after the other, for as long as it says yes.

    The first has `first` places, a later one half as many as all before it. Of one that is not good
    the better half is tried, and so on down to `least` places: bands grow no more from there on.
    """
    start, size, grows = 0, first, True
    while start < len(order):
        if good(order[start : start + size]):
            start += size
            size = max(size, start // 2) if grows else size
        elif size // 2 >= least:
            size, grows = size // 2, False
        else:
            return


def ranked(scores: np.ndarray, most: int) -> np.ndarray:
    """The places of the `most` best of the finite scores, from the best on: int64 [n]."""
    order = np.argsort(-scores, kind="stable")
    return order[: min(most, int(np.isfinite(scores).sum()))]


def doubtful(scores: np.ndarray, share: float) -> np.ndarray:
    """Bool [n]: the best `share` of the finite scores, too like the kind to be called others."""
    known = np.isfinite(scores)
    if not known.any():
        return known
    return known & (scores > np.quantile(scores[known], 1 - share))


def widened(source: np.ndarray, found: np.ndarray, share: float, least: int) -> np.ndarray:
    """Bool [n]: the documents of sources of which `share` was found; those have `least` or more."""
    known = source >= 0
    groups = int(source.max(initial=-1)) + 1
    there = np.bincount(source[known], minlength=groups)
    hits = np.bincount(source[known & found], minlength=groups)
    wide = (there >= least) & (hits >= share * there)
    return known & np.append(wide, False)[source]  # the last is nowhere
