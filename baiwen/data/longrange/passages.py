"""A text in passages: paragraphs, as far as it shows where they end, of a bounded size.

    passages("One line.\\n\\nAnother.", 5, 100)       # ["One line.\\n\\n", "Another."]
    "".join(passages(text, 5, 100)) == text         # always

A passage ends at an empty line, or behind a line as long as a paragraph, once it has `least`
characters, and anywhere once it has `most`; a longer line is cut where its sentences end, a longer
sentence between its words.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

SAMPLE = 4_000  # characters that tell the language
CHINESE_FROM = 0.3  # share of Han characters among the letters

_LINE = re.compile(r"[^\n]*\n(?:[^\S\n]*\n)*|[^\n]+")  # with the empty lines below it
_SENTENCE = re.compile(r".+?(?:[.!?][\"'”’)]*\s+|[。！？…][”’」』）]*\s*|\Z)", re.DOTALL)
_BORDERS = " \t，、；："  # a sentence that is too long is cut behind one of them
_HAN = re.compile("[\u3400-\u9fff]")


def passages(text: str, least: int, most: int) -> list[str]:
    """The text cut into passages, white space and all."""
    found: list[str] = []
    held, size = [], 0
    for unit in _units(text, most):
        held.append(unit)
        size += len(unit)
        is_end = unit.count("\n") > 1 or (len(unit) >= least and unit.endswith("\n"))
        if size >= most or (size >= least and is_end):
            found.append("".join(held))
            held, size = [], 0
    rest = "".join(held)
    if found and len(rest) < least:
        found[-1] += rest
    elif rest:
        found.append(rest)
    return found


def language(text: str) -> str:
    """zh where its letters are Chinese, by a simple share, else en."""
    sample = text[:SAMPLE]
    letters = sum(map(str.isalpha, sample))
    return "zh" if len(_HAN.findall(sample)) > CHINESE_FROM * letters else "en"


def starts(pieces: Sequence[str]) -> list[int]:
    """Where each piece begins in their sum, in characters."""
    return [0, *accumulate(map(len, pieces))][: len(pieces)]


def stripped(piece: str, start: int = 0) -> tuple[str, int]:
    """The piece without white space around it, and where that begins if the piece does `start`."""
    bare = piece.lstrip()
    return bare.rstrip(), start + len(piece) - len(bare)


def _units(text: str, most: int) -> Iterator[str]:
    for line in _LINE.findall(text):
        if len(line) <= most:
            yield line
            continue
        for sentence in _SENTENCE.findall(line):
            yield from _cut(sentence, most)


def _cut(sentence: str, most: int) -> Iterator[str]:
    """The sentence in parts of at most `most` characters, whole words where they are no longer."""
    start = 0
    while len(sentence) - start > most:
        near, last = start + most // 2, start + most
        found = max(sentence.rfind(border, near, last) for border in _BORDERS) + 1
        end = found or last
        yield sentence[start:end]
        start = end
    yield sentence[start:]
