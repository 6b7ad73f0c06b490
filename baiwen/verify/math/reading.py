"""What texts state, as `grammar.py` reads them.

    reading("3 cm")        -> Quantity(Fraction(3), Unit("length", Fraction(1, 100)))
    reading("twelve")      -> Fraction(12)
    reading("\\int x")     -> None: the grammar has no place for it
    based("1234_5")        -> 194
    flat("a \\, b")        -> ["a", "b"]

Readings are kept: a truth is read once for all of its answers.
"""

import re
from functools import lru_cache

from baiwen.verify.math.grammar import read
from baiwen.verify.math.notation import LONGEST, tokens
from baiwen.verify.math.numerals import numeral
from baiwen.verify.math.terms import Statement, UnreadableError

_BASED = re.compile(r"(-?)(?:\\(?:text(?:bf|rm)?|mathrm|mathbf))?([0-9A-Z]+)_(\d{1,2})")


def reading(text: str, grouped: bool = True) -> Statement | None:
    """What the text states; None where it is no numeral and the grammar has no place for it."""
    return _reading(text, grouped) if len(text) <= LONGEST else None


@lru_cache(maxsize=4096)
def _reading(text: str, grouped: bool) -> Statement | None:
    if (said := numeral(text)) is not None:  # "ten" is no product of t, e and n
        return said
    try:
        return read(text, grouped)
    except UnreadableError:
        return None


def based(text: str) -> int | None:
    """The value of a whole number with its base, `1234_5`; None for any other text."""
    match = _BASED.fullmatch(re.sub(r"[\s{}()$]", "", text[:LONGEST]).rstrip("."))
    if not match or not 2 <= int(match[3]) <= 36:
        return None
    try:
        return int(match[1] + match[2], int(match[3]))
    except ValueError:
        return None


def flat(text: str) -> list[str]:
    """The text without its layout."""
    try:
        return [token.text for token in tokens(text)]
    except UnreadableError:
        return text.split()
