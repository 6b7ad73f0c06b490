"""Text cut as the tokenizer's pattern cuts it, for whole batches in NumPy.

    edges = np.array([0, 16])                       # one text
    cut(b"I'm  here: x=12\\n", edges)                # I 'm ␣ ␣here : ␣x = 1 2 \\n
    array([ 0,  1,  3,  4,  9, 10, 12, 13, 14, 15])

`vocabulary.PATTERN` is tried at every character in turn; here its alternatives are rules about
where runs of one kind of character meet, so that every rule is a comparison of whole arrays:

*   `\\p{N}`: a digit is a run by itself.
*   ` ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*`: signs take one space before them, and line ends behind them.
*   `[^\\r\\n\\p{L}\\p{N}]?\\p{L}+`: letters take one blank before them, or a sign that is alone.
*   `(?i:'s|'t|'re|...)`: such a sign, if an apostrophe, takes a few letters for itself.
*   `\\s*[\\r\\n]+`: blanks up to the last line end are one piece.
*   `\\s+(?!\\S)|\\s+`: the others are one, without the last if anything follows.

Only `simple` text is cut here: ASCII and those European letters and signs of which every version of
Unicode says the same, and which are in NFC whatever stands beside them.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator

import numpy as np

LETTER, DIGIT, SIGN, BLANK, OUTSIDE = range(5)  # kinds of runs; the last: beyond the text
_LETTERS = (0x80, 0x530)  # Latin, Greek, Cyrillic
_SIGNS = (0x2010, 0x2E80)  # punctuation, arrows, mathematics, boxes
_LINE = re.compile(r"\n(?=\S)")
_SUFFIX = re.compile(rb"'(?:[stmd]|re|ve|ll)", re.IGNORECASE)


def _kind(point: int) -> int:
    """The kind of a character; OUTSIDE if it is not simple."""
    character, old = chr(point), unicodedata.ucd_3_2_0
    category = unicodedata.category(character)
    if point < 128:
        is_blank = character in "\t\n\v\f\r "
        return BLANK if is_blank else {"L": LETTER, "N": DIGIT}.get(category[0], SIGN)
    is_simple = (
        any(low <= point < high for low, high in (_LETTERS, _SIGNS))
        and category == old.category(character)
        and category[0] in "LPS"
        and unicodedata.normalize("NFC", character) == character
        and character.upper() != "S"  # ſ, which an apostrophe takes for an s
    )
    return OUTSIDE if not is_simple else LETTER if category[0] == "L" else SIGN


_KINDS = np.array([_kind(point) for point in range(_SIGNS[1])], np.uint8)
_BYTES = bytes(_KINDS[:128]) + bytes([SIGN]) * 128
_SIZES = np.array([1] * 0xE0 + [3] * 16 + [4] * 16, np.uint8)  # bytes of a character by its first
_SIZES[0xC0:0xE0] = 2
_OTHER = re.compile(
    "[^" + "".join(re.escape(chr(point)) for point in np.flatnonzero(_KINDS != OUTSIDE)) + "]"
)


def simple(text: str) -> bool:
    """Whether `cut` cuts this text."""
    return text.isascii() or _OTHER.search(text) is None


def stretches(text: str) -> Iterator[tuple[bool, str]]:
    """The text in as few parts as tell what is simple from what is not, each with which it is.

    A part ends with a line: no piece of text spans a line end and what is not blank behind it.
    """
    if simple(text):
        yield True, text
        return
    begins = [0, *(found.end() for found in _LINE.finditer(text))]
    lines = (text[start:end] for start, end in itertools.pairwise([*begins, len(text)]))
    for is_simple, group in itertools.groupby(lines, key=simple):
        yield is_simple, "".join(group)


def cut(data: bytes, edges: np.ndarray) -> np.ndarray:
    """Where each piece begins, int64; edges: where each text begins, and the last one ends.

    data: simple texts as UTF-8, end to end.
    """
    if not data:
        return np.zeros(0, np.int64)
    raw = np.frombuffer(data, np.uint8)
    kinds = _kinds(data, raw)
    edge = np.zeros(len(data) + 1, bool)
    edge[edges] = True
    begins = edge[:-1].copy()
    begins[1:] |= kinds[1:] != kinds[:-1]
    begins[kinds == DIGIT] = True
    starts = np.flatnonzero(begins)  # of runs
    ends = np.append(starts[1:], len(data))
    kind = kinds[starts]
    before, after = np.full_like(kind, OUTSIDE), np.full_like(kind, OUTSIDE)
    before[1:], after[:-1] = kind[:-1], kind[1:]
    before[edge[starts]] = after[edge[ends]] = OUTSIDE
    lines = np.flatnonzero((raw == 10) | (raw == 13))
    _words(raw, starts, ends, (kind, before, after), begins)
    _blanks(starts, ends, (kind, before, after), lines, begins)
    return np.flatnonzero(begins)


def _kinds(data: bytes, raw: np.ndarray) -> np.ndarray:
    """The kind of the character that each byte is of."""
    kinds = np.frombuffer(data.translate(_BYTES), np.uint8)
    leads = np.flatnonzero(raw >= 0xC0)
    if not len(leads):
        return kinds
    kinds = kinds.copy()
    first, second = raw[leads].astype(np.int32), raw[leads + 1] & 0x3F
    three = leads[first >= 0xE0]
    points = (first & 0x1F) << 6 | second
    points[first >= 0xE0] = points[first >= 0xE0] << 6 & 0xFFFF | raw[three + 2] & 0x3F
    kinds[leads] = kinds[leads + 1] = _KINDS[points]
    kinds[three + 2] = kinds[three]
    return kinds


Runs = tuple[np.ndarray, np.ndarray, np.ndarray]  # kinds of runs, of those before and after each


def _words(
    raw: np.ndarray, starts: np.ndarray, ends: np.ndarray, runs: Runs, begins: np.ndarray
) -> None:
    """Signs and letters: what they take of what stands before them."""
    kind, before, after = runs
    signs = np.flatnonzero(kind == SIGN)
    spaced = (before[signs] == BLANK) & (raw[starts[signs] - 1] == ord(" "))
    begins[starts[signs[spaced]]] = False
    alone = signs[~spaced & (after[signs] == LETTER)]
    alone = alone[ends[alone] - starts[alone] == _SIZES[raw[starts[alone]]]]
    begins[ends[alone]] = False
    _suffixes(raw, starts[alone], ends[alone + 1], begins)
    letters = starts[(kind == LETTER) & (before == BLANK)]
    last = raw[letters - 1]
    begins[letters[(last != 10) & (last != 13)]] = False


def _suffixes(raw: np.ndarray, signs: np.ndarray, ends: np.ndarray, begins: np.ndarray) -> None:
    """An apostrophe and a few letters are a piece; the rest of the letters is another."""
    quotes = raw[signs] == ord("'")
    for start, end in zip(signs[quotes].tolist(), ends[quotes].tolist(), strict=True):
        found = _SUFFIX.match(raw[start : start + 3].tobytes())
        if found and start + found.end() < end:
            begins[start + found.end()] = True


def _blanks(
    starts: np.ndarray, ends: np.ndarray, runs: Runs, lines: np.ndarray, begins: np.ndarray
) -> None:
    """Cut the runs of blanks; lines: where line ends stand."""
    kind, before, after = runs
    blanks = np.flatnonzero(kind == BLANK)
    first, end = starts[blanks], ends[blanks]
    newest = np.searchsorted(lines, end) - 1  # the last line end before each run's end
    newest = np.append(lines, -1)[newest]
    cuts = [newest[(newest >= first) & (newest + 1 < end)] + 1]
    followed = (after[blanks] != OUTSIDE) & (newest + 1 < end)
    cuts.append(end[followed] - 1)
    taken = np.flatnonzero((before[blanks] == SIGN) & np.isin(first, lines, assume_unique=True))
    begins[first[taken]] = False  # line ends that belong to the signs before them
    gaps = lines[np.diff(lines, append=np.iinfo(np.int64).max) > 1] + 1  # behind runs of line ends
    behind = np.minimum(gaps[np.searchsorted(gaps, first[taken], side="right")], end[taken])
    cuts.append(behind[behind < end[taken]])
    begins[np.concatenate(cuts)] = True
