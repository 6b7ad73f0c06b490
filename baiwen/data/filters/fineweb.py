"""FineWeb's own rules (Penedo et al., 2024, section 3.6, arXiv 2406.17557).

They were found by comparing crawls: lists, menus and repeated boilerplate of web pages of which the
main text was extracted, a paragraph a line. Text whose lines were broken to a width is no such
page, so but for `repeated_lines` they run where the recipe names them.
"""

from baiwen.data.filters.page import Page, above, below, share
from baiwen.data.pipeline.step import Verdict

# Ends of sentences (Unicode's Sentence_Terminal) of the scripts that the web is mostly written in.
_ENDS = (*".?!‼⁇⁈⁉。｡．？！۔؟।॥։።፧።៕៖။၊࠾᠃᠉", "܀", "܁", "܂")


def line_punctuation(page: Page, least: float = 0.12) -> Verdict | None:
    """Menus: the share of lines that end like a sentence."""
    count = sum(line.endswith(_ENDS) for line in page.lines)
    return below("fineweb: lines without punctuation", share(count, len(page.lines)), least)


def short_lines(page: Page, most: float = 0.67, characters: int = 30) -> Verdict | None:
    """Lists: the share of lines of few characters; a line of a script without spaces needs half."""
    longest = characters if page.spaced else characters // 2
    count = sum(len(line) <= longest for line in page.lines)
    return above("fineweb: short lines", share(count, len(page.lines)), most)


def repeated_lines(page: Page, most: float = 0.1) -> Verdict | None:
    """Boilerplate: the share of characters in lines that came before.

    0.1 is the paper's; datatrove, which made the data set, has 0.01.
    """
    length = sum(len(line) for line in page.repeated if line.strip())
    whole = len(page.text) - page.text.count("\n")
    return above("fineweb: repeated lines", share(length, whole), most)


def newlines(page: Page, most: float = 0.3) -> Verdict | None:
    """Lists: line breaks for each word (datatrove's FineWebQualityFilter)."""
    value = share(page.text.count("\n"), page.counts.words)
    return above("fineweb: line breaks", value, most)


RULES = (line_punctuation, short_lines, repeated_lines, newlines)
