"""Gopher's rules on repetition (Rae et al., 2021, table A1, arXiv 2112.11446).

    duplicate_lines(page)                           # of a page, with the cheap rules
    for repeats in measured(words, pages):          # of the survivors' n-grams, all at once
        duplicate_ngrams(repeats)

Two bounds keep the n-grams cheap without changing a verdict. A repeated n-gram holds repeated
(n-1)-grams, so each length is sought only where the one before it was found. And characters within
repeated n-grams grow fewer with n, so a text whose repeated 5-grams cover less than the tightest
bound passes all of 5 ... 10 at once; only the others are walked through word by word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baiwen.data.filters import words
from baiwen.data.filters.page import Page, above, came_before, share, sums
from baiwen.data.filters.words import Words
from baiwen.data.pipeline.step import Verdict

TOP = (2, 3, 4)  # lengths of n-grams, the most frequent of which is weighed
LONG = (5, 6, 7, 8, 9, 10)  # lengths of n-grams, of which all repeated ones are
_CHARACTERS = 1.6  # of a word in a script that writes no spaces, as in Chinese
_PLACE_BITS = 24  # of a key to sort by, the low ones; the hash has the rest
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: of a word's hash in its n-gram's


@dataclass(frozen=True)
class Repeats:
    """What of a text comes more than once."""

    size: int  # characters of the text
    top: tuple[int, ...]  # characters in the most frequent n-gram of each length of TOP
    covered: tuple[int, ...]  # characters of words in n-grams of LONG that came before: at least
    spaced: bool  # whether its words are words; else they are characters, and n-grams longer
    hashes: NDArray[np.uint64]  # [words]
    lengths: NDArray[np.int64]  # [words], in characters

    def repeated(self, n: int) -> int:
        """Characters in n-grams that came before, of which none overlap."""
        n = _length(n, self.spaced)
        places = np.arange(max(len(self.hashes) - n + 1, 0))
        grams = _grams(self.hashes, _pairs(self.hashes), places, n).tolist()
        ends = [0, *np.cumsum(self.lengths).tolist()]
        seen: set[int] = set()
        place = total = 0
        while place < len(grams):
            if grams[place] in seen:
                total += ends[place + n] - ends[place]
                place += n
            else:
                seen.add(grams[place])
                place += 1
        return total


def duplicate_lines(page: Page, most: float = 0.3, characters: float = 0.2) -> Verdict | None:
    """Lines that came before: their share of the lines, and of the characters."""
    rule, parts = "gopher: duplicate lines", len(page.rows)
    return _duplicates(rule, page.repeated, parts, len(page.text), most, characters)


def duplicate_paragraphs(page: Page, most: float = 0.3, characters: float = 0.2) -> Verdict | None:
    """Paragraphs (between blank lines) that came before: their share, and of the characters."""
    paragraphs = [part.strip("\n") for part in page.text.strip().split("\n\n")]
    paragraphs = [part for part in paragraphs if part]
    again, size = came_before(paragraphs), len(page.text)
    rule = "gopher: duplicate paragraphs"
    return _duplicates(rule, again, len(paragraphs), size, most, characters)


def top_ngrams(
    repeats: Repeats, two: float = 0.2, three: float = 0.18, four: float = 0.16
) -> Verdict | None:
    """The share of characters in the most frequent n-gram, of two to four words.

    One that comes once repeats nothing; datatrove weighs it too, and so drops very short texts.
    """
    for n, characters, most in zip(TOP, repeats.top, (two, three, four), strict=True):
        if found := above(f"gopher: top {n}-gram", share(characters, repeats.size), most):
            return found
    return None


def duplicate_ngrams(
    repeats: Repeats,
    five: float = 0.15,
    six: float = 0.14,
    seven: float = 0.13,
    eight: float = 0.12,
    nine: float = 0.11,
    ten: float = 0.1,
) -> Verdict | None:
    """The share of characters in n-grams that came before, of five to ten words."""
    bounds = (five, six, seven, eight, nine, ten)
    for n, most, covered in zip(LONG, bounds, repeats.covered, strict=True):
        if covered <= most * repeats.size:
            continue
        value = share(repeats.repeated(n), repeats.size)
        if found := above(f"gopher: duplicate {n}-grams", value, most):
            return found
    return None


RULES = (duplicate_paragraphs, duplicate_lines)
NGRAM_RULES = (top_ngrams, duplicate_ngrams)


def measured(found: Words, pages: Sequence[Page]) -> Iterator[Repeats]:
    """What comes more than once in each page; `found`: their words."""
    spaced = np.array([page.spaced for page in pages], bool)
    kinds = set(spaced.tolist())
    weighed = np.zeros((len(TOP) + len(LONG), len(pages)), np.int64)
    for n, runs in _repeated(found, max(_length(LONG[-1], kind) for kind in kinds)):
        for row, length in enumerate((*TOP, *LONG)):
            for kind in kinds:
                if n == _length(length, kind):
                    weigh = _top if length in TOP else _covered
                    weighed[row] = np.where(spaced == kind, weigh(found, runs, n), weighed[row])
    bounds = found.bounds.tolist()
    for i, (page, counts) in enumerate(zip(pages, weighed.T.tolist(), strict=True)):
        own = slice(bounds[i], bounds[i + 1])
        top, covered = tuple(counts[: len(TOP)]), tuple(counts[len(TOP) :])
        hashes, lengths = found.hashes[own], found.lengths[own]
        yield Repeats(len(page.text), top, covered, page.spaced, hashes, lengths)


def _length(words: int, spaced: bool) -> int:
    """Of an n-gram, in words as they were split: about as much text whatever the script."""
    return words if spaced else round(words * _CHARACTERS)


class _Runs(NamedTuple):
    """Where the n-grams begin that come more than once in their text, each one's in a row."""

    places: NDArray[np.int64]  # of their first words; rising within a run
    texts: NDArray[np.int64]  # in which they are
    first: NDArray[np.bool_]  # whether a place begins a run


def _repeated(found: Words, longest: int) -> Iterator[tuple[int, _Runs]]:
    """The repeated n-grams of every length up to the longest."""
    sizes = np.diff(found.bounds)
    texts = np.repeat(np.arange(len(sizes)), sizes)
    places, pairs = np.arange(len(texts)), _pairs(found.hashes)
    left = np.repeat(found.bounds[1:], sizes) - places  # words of the text from each place on
    for n in range(2, longest + 1):
        places = places[left[places] >= n]
        places, grams = _sorted(places, _grams(found.hashes, pairs, places, n))
        own = texts[places]
        again = np.zeros(len(places), bool)
        again[1:] = (grams[1:] == grams[:-1]) & (own[1:] == own[:-1])
        twice = again.copy()
        twice[:-1] |= again[1:]
        places = places[twice]
        yield n, _Runs(places, own[twice], ~again[twice])


def _pairs(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of each word and the next."""
    return hashes[:-1] * _FACTOR + hashes[1:]


def _grams(
    hashes: NDArray[np.uint64], pairs: NDArray[np.uint64], places: NDArray[np.int64], n: int
) -> NDArray[np.uint64]:
    """A hash of the n words from each place on."""
    grams = pairs[places]
    for offset in range(2, n):
        grams = grams * _FACTOR + hashes[places + offset]
    return grams


def _sorted(
    places: NDArray[np.int64], grams: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Places and n-grams in the order of n-gram, then place.

    Numbers are sorted several times faster than places by numbers: so 40 bits of hash and the place
    are one number.
    """
    if places.max(initial=0) >> _PLACE_BITS:  # a single text of more words, 50 MB at least
        order = np.lexsort((places, grams))
        return places[order], grams[order]
    bits = np.uint64(_PLACE_BITS)
    keys = grams >> bits << bits | places.astype(np.uint64)
    keys.sort()
    return (keys & np.uint64((1 << _PLACE_BITS) - 1)).astype(np.int64), keys >> bits


def _top(found: Words, runs: _Runs, n: int) -> NDArray[np.int64]:
    """[texts] characters in the most frequent n-gram, of equally frequent ones the first.

    They are counted as joined by spaces, but where the script writes none. One that comes once
    repeats nothing.
    """
    low = np.int64((1 << 40) - 1)  # a key has the count above 40 bits, and less for later places
    best = np.zeros(len(found.bounds) - 1, np.int64)
    first = np.flatnonzero(runs.first)
    counts = np.diff(np.append(first, len(runs.places)))
    np.maximum.at(best, runs.texts[first], (counts << 40) + low - runs.places[first])
    texts = np.flatnonzero(best)
    places = low - (best[texts] & low)
    spaces = found.flags & words.LONE == 0
    lengths = -spaces[places].astype(np.int64)
    for place in (places + offset for offset in range(n)):
        lengths += found.lengths[place] + spaces[place]
    best[texts] = (best[texts] >> 40) * lengths
    return best


def _covered(found: Words, runs: _Runs, n: int) -> NDArray[np.int64]:
    """[texts] characters of the words in n-grams that came before."""
    again = runs.places[~runs.first]
    within = np.zeros(len(found.lengths), bool)
    for offset in range(n):
        within[again + offset] = True
    return sums(np.where(within, found.lengths, 0), found.bounds)


def _duplicates(
    rule: str, again: Sequence[str], parts: int, size: int, most: float, characters: float
) -> Verdict | None:
    return above(rule, share(len(again), parts), most) or above(
        f"{rule}, characters", share(sum(map(len, again)), size), characters
    )
