"""Constraints on a whole short answer, exact where IFEval's are bounds (spec 7 area 4).

The truth is a list of constraints, each a function of this file and its arguments:

    check("RED SUN", [{"is": "upper_case"}, {"is": "word_count", "count": 2}])     -> right

Every constraint has to hold. One that is unknown to this file, or a word without a letter or digit,
is `Verdict.error`, never a pass. Words are those of `text.words`. The 25 published kinds of IFEval
are in `ifeval`.
"""

import re
import unicodedata
from collections.abc import Callable
from operator import index
from typing import Any

from baiwen.verify import text
from baiwen.verify.verdict import Verdict


def check(answer: str, truth: list[dict[str, Any]]) -> Verdict:
    """Does `answer` meet every constraint of `truth`? An empty answer meets none."""
    answer = unicodedata.normalize("NFC", answer).strip()
    try:
        passed = [
            _CONSTRAINTS[constraint["is"]](answer, **_arguments(constraint)) for constraint in truth
        ]
    except (KeyError, TypeError, AttributeError, ValueError):
        # No such constraint, or arguments that are not its own: the row is at fault.
        return Verdict.error
    return Verdict.of(bool(answer) and all(passed)) if passed else Verdict.error


def word_count(answer: str, count: int) -> bool:
    """Exactly `count` words."""
    return len(text.words(answer)) == index(count)


def repeats(answer: str, word: str, count: int, most: int | None = None) -> bool:
    """`word`, `count` times, or from `count` to `most` times, and nothing else."""
    found, each = text.words(answer), _asked(word)
    times = len(found) // len(each)
    return found == each * times and count <= times <= (count if most is None else most)


def upper_case(answer: str) -> bool:
    """Letters, all of them capitals."""
    return answer.isupper()


def ends_with(answer: str, word: str) -> bool:
    """The last word is `word`, in any case."""
    wanted = _asked(word.lower())
    return text.words(answer.lower())[-len(wanted) :] == wanted


def contains(answer: str, word: str) -> bool:
    """`word` occurs as a word (or as words in a row), in any case."""
    words, wanted = text.words(answer.lower()), _asked(word.lower())
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words)))


def bullets(answer: str, count: int) -> bool:
    """Exactly `count` lines, each a Markdown bullet with text."""
    lines = answer.splitlines()
    return len(lines) == index(count) and all(re.match(r"[-*] +\S", line) for line in lines)


_CONSTRAINTS: dict[str, Callable[..., bool]] = {
    constraint.__name__: constraint
    for constraint in (word_count, repeats, upper_case, ends_with, contains, bullets)
}


def _arguments(constraint: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in constraint.items() if name != "is"}


def _asked(word: str) -> list[str]:
    """The words that a constraint names; a `ValueError` where there is none."""
    if not (words := text.words(word)):
        raise ValueError(f"no word in {word!r}")
    return words
