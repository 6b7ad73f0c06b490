"""Gopher's rules on the quality of a document (Rae et al., 2021, appendix A1.1, arXiv 2112.11446).

    word_count(page, least=50)          # a Verdict, or None

The thresholds are the paper's. Where it leaves a choice (what a word is, which lines count) it is
that of datatrove's GopherQualityFilter. Words of scripts that write no spaces are characters, and
rules about the length of words or about English words pass them by.
"""

import re

from baiwen.data.filters.page import Page, above, below, share
from baiwen.data.pipeline.step import Verdict

_STOP_WORDS = ("the", "of", "and", "to", "that", "with", "be", "have")  # the frequent ones first
_STOP_WORD = re.compile(rf"\b(?:{'|'.join(_STOP_WORDS)})\b")
_BULLETS = ("-", "•")
_ELLIPSES = ("...", "…")


def word_count(page: Page, least: int = 50, most: int = 100_000) -> Verdict | None:
    """Too short to teach anything, or no single text."""
    count = page.counts.words - page.counts.signs
    return below("gopher: too few words", count, least) or above(
        "gopher: too many words", count, most
    )


def mean_word_length(page: Page, least: float = 3, most: float = 10) -> Verdict | None:
    """No words of a language; only for scripts that write spaces."""
    if not page.spaced:
        return None
    mean = share(page.counts.length, page.counts.words - page.counts.signs)
    return below("gopher: short words", mean, least) or above("gopher: long words", mean, most)


def symbols(page: Page, most: float = 0.1) -> Verdict | None:
    """More than one `#` or ellipsis to ten words."""
    ellipses = sum(map(page.text.count, _ELLIPSES))
    value = share(max(page.text.count("#"), ellipses), page.counts.words)
    return above("gopher: symbols", value, most)


def bullets(page: Page, most: float = 0.9) -> Verdict | None:
    """Lists without prose: the share of lines that begin with a bullet."""
    if sum(map(page.text.count, _BULLETS)) <= most * page.text.count("\n"):
        return None  # not even if each of them began a line
    lines = page.text.splitlines()
    count = sum(line.lstrip().startswith(_BULLETS) for line in lines)
    return above("gopher: bullets", share(count, len(lines)), most)


def ellipses(page: Page, most: float = 0.3) -> Verdict | None:
    """Teasers: the share of lines that end in an ellipsis."""
    if not any(map(page.text.__contains__, _ELLIPSES)):
        return None
    lines = page.text.splitlines()
    count = sum(line.rstrip().endswith(_ELLIPSES) for line in lines)
    return above("gopher: ellipses", share(count, len(lines)), most)


def letters(page: Page, least: float = 0.8, signs: bool = False) -> Verdict | None:
    """Tables and numbers: the share of words with a letter.

    `signs`: whether a sign is a word here too, as it is in datatrove. With them nearly half of the
    pages of good English blogs fall short of the paper's bound.
    """
    words = page.counts.words - (0 if signs else page.counts.signs)
    return below("gopher: few letters", share(page.counts.letters, words), least)


def stop_words(page: Page, least: int = 2) -> Verdict | None:
    """English without `the`, `of`, `and` ... is no sentence; other languages pass."""
    if not page.english:
        return None
    if sum(f" {word} " in page.text for word in _STOP_WORDS[: max(3, least)]) >= least:
        return None  # as in nearly all English, of any length
    return below("gopher: no stop words", len(set(_STOP_WORD.findall(page.text))), least)


RULES = (word_count, mean_word_length, symbols, bullets, ellipses, letters, stop_words)
