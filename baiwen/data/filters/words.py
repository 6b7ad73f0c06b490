"""The words of many texts at once, as the published rules count them.

    words = split(["It isn't here.", "Nor there."])
    words.lengths           # [2, 3, 3, 4, 1, 3, 5, 1]: It isn 't here . Nor there .
    words.bounds            # [0, 5, 8]: where each text's words begin and end

A sign is a word of its own and upper case differs from lower, as in the tokenizers (spaCy, NLTK)
with which the papers' rules were tuned and which datatrove runs; `data.words`, for duplicates,
drops signs and folds case. A sign within a word belongs to it (3.14, snake_case, GPT-4), but for
dashes, colons and the like between letters and a full stop before a capital; an apostrophe begins a
word ('s, 't). Characters of scripts that write no spaces are a word each.

Everything is NumPy over the code points, a slice that fits the processor's cache at a time. A
word's hash is a polynomial in its characters, from prefix sums that wrap around; equal over texts,
batches and machines.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint32]

# Kinds of characters, as bits: a word's flags are those of its characters together.
SPACE, SIGN, LETTER, DIGIT, MARK, LONE = (np.uint8(1 << i) for i in range(6))

# Scripts that write no spaces, in which each character is a word: Thai, Lao, Tibetan, Myanmar,
# Khmer, kana, Chinese characters.
_LONE = (
    (0x0E00, 0x0F00),
    (0x0F00, 0x1000),
    (0x1000, 0x10A0),
    (0x1780, 0x1800),
    (0x3040, 0x3100),
    (0x3400, 0x4DC0),
    (0x4E00, 0xA000),
    (0xF900, 0xFB00),
    (0x20000, 0x32000),
)
_SIGNS = (0x1F000, 0x1FC00)  # emoji and other pictures
_DOT, _DASH, _COMMA = (ord(sign) for sign in ".-,")

# What signs do beside words, as bits.
_PARTING, _APOSTROPHE, _RUNNING, _CLINGING = (np.uint8(1 << i) for i in range(4))
_ROLES = (
    (_PARTING, "-–—~:<>=/…"),
    (_APOSTROPHE, "'’"),
    (_RUNNING, ".-~^"),  # "..." and "--" are one sign each
    (_CLINGING, "-/@|\\"),
)

_SLICE = 1 << 15  # characters looked at together: what fits the second-level cache
_BASE = 0x9E3779B97F4A7C15 | 1  # odd, so it has an inverse modulo 2**64


@dataclass(frozen=True)
class Words:
    """The words of texts, end to end."""

    hashes: NDArray[np.uint64]  # [words]
    lengths: NDArray[np.int64]  # [words], in characters
    flags: NDArray[np.uint8]  # [words], the kinds of their characters
    bounds: NDArray[np.int64]  # [texts + 1]: text i has the words bounds[i] ... bounds[i + 1] - 1

    def of(self, texts: Sequence[int]) -> "Words":
        """The words of some of the texts, in their order."""
        chosen = np.zeros(len(self.bounds) - 1, bool)
        chosen[list(texts)] = True
        sizes = np.diff(self.bounds)
        kept = np.repeat(chosen, sizes)
        bounds = np.concatenate(([0], np.cumsum(sizes[chosen])))
        return Words(self.hashes[kept], self.lengths[kept], self.flags[kept], bounds)


def split(texts: Sequence[str]) -> Words:
    """The words of each text."""
    codes = np.frombuffer("\n".join(("", *texts, "")).encode("utf-32-le"), "<u4")
    offsets = np.cumsum([1, *(len(text) + 1 for text in texts)])
    parts = [(start, *_words(codes[start : end + 1])) for start, end in pairwise(_cuts(codes))]
    if not parts:
        return Words(np.empty(0, "u8"), np.empty(0, "i8"), np.empty(0, "u1"), np.zeros(1, "i8"))
    starts = np.concatenate([start + found for start, found, *_ in parts])
    hashes, lengths, flags = (np.concatenate([part[i] for part in parts]) for i in (2, 3, 4))
    return Words(hashes, lengths, flags, np.searchsorted(starts, offsets))


def kinds(codes: Codes) -> NDArray[np.uint8]:
    """The kind of each code point."""
    return np.take(_table(), codes)


def _cuts(codes: Codes) -> list[int]:
    """Places of white space at least a slice apart, from the first character to the last."""
    cuts = [0]
    while cuts[-1] < len(codes) - 1:
        cuts.append(_space(codes, cuts[-1] + _SLICE))
    return cuts


def _space(codes: Codes, place: int) -> int:
    """Where the first white space is from a place on; the last character is one."""
    for start in range(place, len(codes), _SLICE):
        spaces = np.flatnonzero(kinds(codes[start : start + _SLICE]) == SPACE)
        if len(spaces):
            return start + int(spaces[0])
    return len(codes) - 1


def _words(
    codes: Codes,
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint8]]:
    """Starts, hashes, lengths and flags of the words of a slice between two white spaces."""
    kind = kinds(codes)
    seen = kind != SPACE
    glued = _glued(codes, kind)
    opens, closes = seen.copy(), seen
    opens[1:] &= ~glued
    starts = np.flatnonzero(opens)
    closes[:-1] &= ~glued
    ends = np.flatnonzero(closes) + 1
    if not len(starts):
        return starts, starts.astype(np.uint64), starts, starts.astype(np.uint8)
    flags = np.bitwise_or.reduceat(kind, starts)  # with those of the white space that follows
    return starts, _hashes(codes, starts, ends), ends - starts, flags & ~SPACE


def _glued(codes: Codes, kind: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[characters - 1]: whether the next character goes on with the word of this one."""
    inner = (kind & (LETTER | DIGIT | MARK) != 0) & (kind & LONE == 0)
    sign = kind == SIGN
    glued = inner[1:] & inner[:-1]
    same = np.flatnonzero(sign[1:] & (codes[1:] == codes[:-1]))
    glued[same[_roles(codes[same]) & _RUNNING != 0]] = True
    starts = np.flatnonzero(sign[1:] & ~sign[:-1]) + 1  # of runs of signs
    ends = np.flatnonzero(sign[:-1] & ~sign[1:]) + 1
    within = inner[starts - 1] & inner[ends]
    single = ends - starts == 1
    _glue_one(glued, codes, starts[within & single])
    _glue_outer(glued, codes, inner, starts[~within], ends[~within])
    many = within & ~single & (_roles(codes[starts]) & _RUNNING == 0)
    glued[_ranges(starts[many] - 1, ends[many])] = True
    _glue_addresses(glued, codes, kind, _Runs(starts, ends, within))
    return glued


class _Runs(NamedTuple):
    """Runs of signs in a slice."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    within: NDArray[np.bool_]  # whether they stand between characters of words


def _glue_one(glued: NDArray[np.bool_], codes: Codes, signs: NDArray[np.int64]) -> None:
    """Single signs within words."""
    left, sign, right = codes[signs - 1], codes[signs], codes[signs + 1]
    kind, role = kinds(right), _roles(sign)
    both = kinds(left) & kind
    parted = (role & _PARTING != 0) & (kind & LETTER != 0)
    parted |= (sign == _DASH) & (both & DIGIT != 0)
    parted |= (sign == _COMMA) & (both & LETTER != 0)
    sentence = (left >= ord("a")) & (left <= ord("z")) & (right >= ord("A")) & (right <= ord("Z"))
    parted |= (sign == _DOT) & sentence
    glued[signs[~parted & (role & _APOSTROPHE == 0)] - 1] = True
    glued[signs[~parted]] = True


def _glue_outer(
    glued: NDArray[np.bool_],
    codes: Codes,
    inner: NDArray[np.bool_],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> None:
    """Signs that cling to a word before or after it: -x, docs/, the full stops of J. and U.S."""
    after = starts[(_roles(codes[starts]) & _CLINGING != 0) & inner[starts - 1]]
    glued[after - 1] = True
    before = ends[(_roles(codes[ends - 1]) & _CLINGING != 0) & inner[ends]]
    glued[before - 1] = True
    dots = starts[(codes[starts] == _DOT) & (ends - starts == 1) & inner[starts - 1]]
    dots = dots[~inner[dots - 2]]
    letters, ahead = codes[dots - 1], codes[dots - 2]
    upper = (letters >= ord("A")) & (letters <= ord("Z"))
    glued[dots[upper | (ahead == _DOT)] - 1] = True


def _glue_addresses(
    glued: NDArray[np.bool_], codes: Codes, kind: NDArray[np.uint8], runs: _Runs
) -> None:
    """What follows `scheme://` up to white space is one word, but for the signs that end it."""
    found = np.flatnonzero((runs.ends - runs.starts == 3) & runs.within)
    for offset, code in enumerate(map(ord, "://")):
        found = found[codes[runs.starts[found] + offset] == code]
    if not len(found):
        return
    spaces = np.flatnonzero(kind == SPACE)
    after = np.searchsorted(spaces, runs.starts[found])
    before = np.maximum(found - 1, 0)
    stops, opens = spaces[after], np.append(-1, spaces)[after]
    alone = (runs.ends[before] <= opens) | ~runs.within[before] | (found == 0)
    last = np.minimum(np.searchsorted(runs.ends, stops), len(runs.ends) - 1)
    ended = runs.ends[last] == stops
    stops = np.where(ended, runs.starts[last] + (codes[runs.starts[last]] == ord("/")), stops)
    glued[_ranges(runs.starts[found][alone], stops[alone] - 1)] = True


def _ranges(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """All places from each start up to its end."""
    sizes = np.maximum(ends - starts, 0)
    before = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)


def _hashes(codes: Codes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The sum of a word's characters, each times the base to the power of its place in the word."""
    powers, inverses = _powers(1 << len(codes).bit_length())
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes + np.uint64(1)) * powers[: len(codes)], out=sums[1:])
    return mixed((sums[ends] - sums[starts]) * inverses[starts])


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each bit of the result depends on all of a value (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The first powers of the base, and of its inverse, modulo 2**64."""
    both = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        powers = np.full(count, base, np.uint64)
        powers[0] = 1
        both.append(np.cumprod(powers))
    return both[0], both[1]


def _roles(codes: Codes) -> NDArray[np.uint8]:
    """What signs do beside words."""
    return np.take(_role_table(), codes, mode="clip")


@cache
def _role_table() -> NDArray[np.uint8]:
    """The roles of the code points of punctuation; the last stands for all that follow."""
    table = np.zeros(0x2100, np.uint8)
    for role, signs in _ROLES:
        for sign in signs:
            table[ord(sign)] |= role
    return table


@cache
def _table() -> NDArray[np.uint8]:
    """The kind of every code point; beyond the basic plane by block."""
    table = np.full(0x110000, LETTER, np.uint8)
    table[:0x10000] = [_kind(chr(code)) for code in range(0x10000)]
    table[slice(*_SIGNS)] = SIGN
    for low, high in _LONE:
        lone = table[low:high]
        lone[lone & (LETTER | MARK) != 0] |= LONE
    return table


def _kind(character: str) -> np.uint8:
    if character.isspace():
        return SPACE
    category = unicodedata.category(character)[0]
    return {"L": LETTER, "N": DIGIT, "M": MARK}.get(category, SIGN)
