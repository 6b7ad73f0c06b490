"""The words of many texts at once, as hashes: what duplicates and contamination are found by.

    found = words(table["text"])                      # of all texts, end to end
    shingles, bounds = ngrams(found, 5)               # of each five words in a row
    shingles[bounds[i] : bounds[i + 1]]               # ... of text i

A word is a run of letters, digits and whatever else is not ASCII; punctuation and white space part
words, and each Chinese character or kana is a word of its own. Words are the same whatever their
case, as far as it does not change their length in bytes. What is punctuation or has a lower case is
taken from Unicode 3.2, which Python carries beside its own: hashes are the same under any version.

All is done for many texts at once in NumPy; hashes are polynomials modulo 2^64 (Karp and Rabin,
1987) of pieces of words, and of words.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SPAN = 1 << 17  # bytes of texts worked on at a time, so that all stays in the processor's cache
SLICE = 1 << 20  # bytes of texts for which somebody who goes on with their words has memory
PIECE = 8  # bytes of a word hashed at a time
BASE = 0x9E3779B97F4A7C15  # of a word's polynomial modulo 2^64: odd, from the golden ratio
STRIDE = 0xD1342543DE82EF95  # of an n-gram's: a multiplier by Steele and Vigna, 2021

# glibc hands freed memory back, to take it again page by page, a fifth of the time of what follows.
# It does so only beyond twice the largest block that was freed before, as this one is.
np.empty(1 << 24, np.uint8)  # no page of it is ever touched

_MASKS = np.array([(1 << 8 * size) - 1 for size in range(PIECE + 1)], np.uint64)  # first bytes

# Kinds of characters: in words, the same but with a lower case, between words, a word each.
WORD, CASED, APART, ALONE = range(4)
_KNOWN = 0x10500  # code points of other kinds than words are below, but for Chinese characters
_LEADS = ((2, 0xC2, 0xE0), (3, 0xE0, 0xF0), (4, 0xF0, 0xF8))  # size of characters, first bytes
_ALONE = (
    (0x3040, 0x3100),  # hiragana, katakana
    (0x31F0, 0x3200),
    (0x3400, 0x4DC0),  # Chinese characters
    (0x4E00, 0xA000),
    (0xF900, 0xFB00),
    (0xFF66, 0xFFA0),  # narrow katakana
    (0x20000, 0x40000),
)


@dataclass(frozen=True)
class Words:
    """The words of many texts, end to end."""

    hashes: np.ndarray  # uint64 [words]: equal for equal words, wherever they stand
    starts: np.ndarray  # int64 [words]: where in `data` each begins
    ends: np.ndarray  # int64 [words]: where it ends
    bounds: np.ndarray  # int64 [texts + 1]: words of text i are bounds[i] ... bounds[i + 1] - 1
    data: np.ndarray  # uint8: the UTF-8 of all texts, as Arrow holds it


def words(texts: pa.Array | pa.ChunkedArray) -> Words:
    """The words of strings; a null has none."""
    data, offsets = utf8(texts)
    cuts = np.unique(np.searchsorted(offsets, np.arange(0, len(data) + SPAN, SPAN)))
    found = [_words(data, offsets[first : last + 1]) for first, last in pairwise(cuts)]
    none = np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    hashes, starts, ends = map(np.concatenate, zip(none, *found, strict=True))
    return Words(hashes, starts, ends, np.searchsorted(starts, offsets), data)


def ngrams(words: Words, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes uint64 of each `n` words in a row within a text, and where each text's begin and end.

    A text of fewer words has one, of all of them; a text without words has none. Those of text i
    are `bounds[i]` ... `bounds[i + 1] - 1` with bounds int64 [texts + 1].
    """
    begins, counts = words.bounds[:-1], np.diff(words.bounds)
    rolled = _rolled(words.hashes, n)
    short = np.flatnonzero((counts > 0) & (counts < n))
    whole = np.ones(len(words.hashes), bool)  # whether an n-gram begins at a word
    for back in range(1, n):
        whole[words.bounds[1:][counts >= back] - back] = False
    whole[begins[short]] = True
    rolled[begins[short]] = _joined(words.hashes, begins[short], counts[short])
    bounds = np.concatenate(([0], np.cumsum(np.where(counts < n, counts > 0, counts - n + 1))))
    return mixed(rolled[whole]), bounds


def mixed(hashes: np.ndarray) -> np.ndarray:
    """Hashes whose every bit depends on all bits of the given ones (splitmix64's finish)."""
    hashes = hashes ^ (hashes >> np.uint64(30))
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    return hashes


def slices(texts: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array | pa.ChunkedArray]:
    """The strings some `SLICE` bytes at a time: their words take several times as much memory."""
    sizes = pc.binary_length(texts).fill_null(0).to_numpy()
    cuts = np.unique(np.cumsum(sizes, dtype=np.int64) // SLICE, return_index=True)[1]
    for first, last in pairwise([*cuts.tolist(), len(texts)]):
        yield texts[first:last]


def utf8(texts: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all texts uint8, and where each begins and ends: int64 [texts + 1]; no copy."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    texts = texts.cast(pa.large_string())
    if texts.null_count:
        texts = texts.fill_null("")
    _, places, held = texts.buffers()
    if not len(texts) or held is None:
        return np.zeros(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    offsets = np.frombuffer(places, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(held, np.uint8)[offsets[0] : offsets[-1]], offsets - offsets[0]


def _words(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hashes, starts and ends of the words of a few texts."""
    begin = offsets[0]
    inside, cut, lower = _classes(data[begin : offsets[-1]])
    cut[offsets - begin] = True
    here, before = inside[1:], inside[:-1]
    edges = here ^ before
    cut &= here & before
    if cut.any():
        starts = np.flatnonzero((here & edges) | cut)
        ends = np.flatnonzero((before & edges) | cut)
    else:
        starts, ends = np.flatnonzero(edges).reshape(-1, 2).T
    return _hashes(lower, starts, ends), starts + begin, ends + begin


def _classes(data: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each byte is inside a word, where words are cut apart, and all in lower case.

    inside: bool [bytes + 2], that of byte i at i + 1. cut: bool [bytes + 1], true before byte i.
    lower: uint8 [bytes + PIECE], zeros at its end.
    """
    inside, cut = np.zeros(len(data) + 2, bool), np.zeros(len(data) + 1, bool)
    lower = np.zeros(len(data) + PIECE, np.uint8)
    small = np.bitwise_or(data, (data - 65 < 26) * np.uint8(32), out=lower[: len(data)])
    inside[1:-1] = (small - 97 < 26) | (data - 48 < 10) | (data >= 0x80)
    leads = np.flatnonzero(data >= 0xC2)
    for size, first, past in _LEADS if len(leads) else ():
        at = leads[(data[leads] >= first) & (data[leads] < past)]
        if not len(at):
            continue
        points = _points(data, at, size)
        kinds = _kinds()[points]
        alone, apart, cased = (at[kinds == kind] for kind in (ALONE, APART, CASED))
        cut[alone] = cut[alone + size] = True
        for byte in range(size):
            inside[apart + 1 + byte] = False
        if len(cased):
            _write(lower, cased, _cases()[points[kinds == CASED]], size)
    return inside, cut, lower


def _points(data: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
    """The code points of the characters of `size` bytes that begin at `at`."""
    points = (data[at] & (0x7F >> size)).astype(np.int32)
    for byte in range(1, size):
        points = points << 6 | (data[at + byte] & 0x3F)
    return points


def _write(data: np.ndarray, at: np.ndarray, points: np.ndarray, size: int) -> None:
    """Put code points at `at`, instead of others of `size` bytes, whose first byte is the same."""
    for byte in range(size):
        bits = points >> 6 * (size - 1 - byte)
        data[at + byte] = bits & 0x3F | 0x80 if byte else bits | (0xF00 >> size & 0xFF)


def _hashes(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A hash of each word: the polynomial of its pieces of eight bytes, each of them mixed.

    data: `PIECE` bytes more than those of the words.
    """
    pieces = np.ndarray(len(data) - PIECE + 1, "<u8", data, strides=(1,))  # one at each byte
    sizes = ends - starts
    hashes = mixed(pieces[starts] & _MASKS.take(sizes, mode="clip"))
    more = (sizes - 1) // PIECE  # pieces beyond the first
    long = np.flatnonzero(more)
    if not len(long):
        return hashes
    counts = more[long]
    first = np.cumsum(counts) - counts
    before = (np.arange(counts.sum()) - np.repeat(first - 1, counts)) * PIECE  # bytes, of each
    left = np.repeat(sizes[long], counts) - before
    further = pieces[np.repeat(starts[long], counts) + before]
    further = mixed(further & _MASKS.take(left, mode="clip"))
    powers = np.full(counts.max() + 1, BASE, np.uint64)
    powers[0] = 1
    powers = np.cumprod(powers)
    further *= powers[(left - 1) // PIECE]
    hashes[long] = hashes[long] * powers[counts] + np.add.reduceat(further, first)
    return hashes


def _joined(hashes: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The polynomial of the words from each of `begins` on, `counts` of them."""
    found = np.zeros(len(begins), np.uint64)
    for word in range(counts.max(initial=0)):
        there = counts > word
        found[there] = found[there] * np.uint64(STRIDE) + hashes[begins[there] + word]
    return found


def _rolled(hashes: np.ndarray, n: int) -> np.ndarray:
    """At each word the polynomial of it and the `n - 1` that follow, in whatever text they are."""
    found = hashes.copy()
    for word in range(1, n):
        found *= np.uint64(STRIDE)
        found[:-word] += hashes[word:]
    return found


@cache
def _kinds() -> np.ndarray:
    """The kind of each code point, uint8."""
    kinds = np.full(0x110000, WORD, np.uint8)
    for point in range(0x80, _KNOWN):
        category = unicodedata.ucd_3_2_0.category(chr(point))
        if category[0] in "PZ" or category == "Cc":
            kinds[point] = APART
    for low, high in _ALONE:
        alone = kinds[low:high]
        alone[alone == WORD] = ALONE
    kinds[np.flatnonzero(_cases())] = CASED
    return kinds


@cache
def _cases() -> np.ndarray:
    """The lower case of each code point that has one of as many bytes, uint32; 0: it has none."""
    cases = np.zeros(_KNOWN, np.uint32)
    for point in range(0x80, _KNOWN):
        char = chr(point)
        lower = char.lower()
        if lower != char and len(lower) == 1 and len(lower.encode()) == len(char.encode()):
            known = unicodedata.ucd_3_2_0.category(char) != "Cn"
            cases[point] = ord(lower) if known else 0
    return cases
