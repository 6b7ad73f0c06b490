"""Stretches of documents that may be copies of tests: where several n-grams of one test lie.

A copy keeps the order of the test's words, so the n-grams of a copy lie about as far from its
beginning as from the test's: at - offset, their diagonal, is nearly the same for all of them. It
falls where words were left out and rises where some were put in.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from baiwen.data.contamination.index import Hits


class Candidate(NamedTuple):
    """A stretch of a text and the test that it may be a copy of."""

    text: int
    sequence: int
    start: int  # of the stretch within the text, in words; below 0 where the test begins before it


def candidates(hits: Hits, lengths: np.ndarray, least: int, window: float) -> Iterator[Candidate]:
    """For each text and test the stretch of most hits, if it has `least`; those of most hits first.

    lengths: words of each test. window: length of a stretch for each word of the test.
    """
    if not len(hits.text):
        return
    diagonal = hits.at - hits.offset
    order = np.lexsort((diagonal, hits.sequence, hits.text))
    text, sequence, diagonal = hits.text[order], hits.sequence[order], diagonal[order]
    starts = (np.diff(text, prepend=-1) != 0) | (np.diff(sequence, prepend=-1) != 0)
    reach = ((window - 1) * lengths[sequence]).astype(np.int64)
    span = diagonal.max() - diagonal.min() + reach.max() + 1  # beyond any reach: pairs lie apart
    line = (np.cumsum(starts) - 1) * span + diagonal
    together = np.searchsorted(line, line + reach, side="right") - np.arange(len(line))
    pair = np.flatnonzero(starts)
    most = np.maximum.reduceat(together, pair)
    best = np.flatnonzero(together == np.repeat(most, np.diff(pair, append=len(line))))
    best = best[np.unique(np.searchsorted(pair, best, side="right"), return_index=True)[1]]
    best, most = best[most >= least], most[most >= least]
    for place in best[np.argsort(-most, kind="stable")].tolist():
        yield Candidate(int(text[place]), int(sequence[place]), int(diagonal[place]))
