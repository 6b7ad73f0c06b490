"""A list of words or numbers in the right order, set apart by commas or white space.

    check("3, 14, 27", ["3", "14", "27"])     -> right
    check("苹果、梨", ["苹果", "梨"])            -> right
    check("14, 3, 27", ["3", "14", "27"])     -> wrong

Nothing but the list counts: a word before or after it makes it another list.
"""

import re
import unicodedata

from baiwen.verify.verdict import Verdict

_BETWEEN = re.compile(r"[\s,，、;；]+")


def check(answer: str, truth: list[str]) -> Verdict:
    """Is `answer` exactly the words of `truth`, in that order and nothing else?"""
    if not isinstance(truth, list) or not truth:
        return Verdict.error
    return Verdict.of(split(answer) == [str(word) for word in truth])


def split(text: str) -> list[str]:
    """The words of a list; brackets around it and a full stop after it do not count."""
    text = unicodedata.normalize("NFC", text).strip().rstrip(".。").strip("[]")
    return [word for word in _BETWEEN.split(text) if word]
