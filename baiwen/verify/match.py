"""The same answer up to case, punctuation and articles, as SQuAD compares (Rajpurkar et al., 2016).

    check("The Eiffel Tower.", ["Eiffel tower", "La Tour Eiffel"])     -> right
    check("埃菲尔铁塔。", "《埃菲尔铁塔》")                                  -> right
    f1("in the old town", "the old town of Bern")                      -> 0.571...

The truth is the accepted answer or a list of them; one of them has to be the whole answer. In
Chinese each character is a word, and blanks do not count between characters. A truth of nothing but
punctuation or articles ("%", "The The") is compared as it is written.

Unlike SQuAD's, marks that make another number or name of it count: -5 is not 5, 3.14 is not 3 14,
C++ is not C.
"""

import re
import unicodedata
from collections import Counter

from baiwen.verify import exact, text
from baiwen.verify.verdict import Verdict

_ARTICLES = frozenset(("a", "an", "the"))
# A minus before a number, what stands between its digits, and what ends a name.
_MARKS = re.compile(r"(?<!\w)-(?=\.?\d)|(?<=\d)[.:/](?=\d)|(?<=[A-Za-z])[+#]+(?!\w)")


def check(answer: str, truth: str | list[str]) -> Verdict:
    """Is the whole `answer` one of the accepted ones?"""
    accepted = truth if isinstance(truth, list) else [truth]
    if not accepted or not all(isinstance(each, str) and each.strip() for each in accepted):
        return Verdict.error
    said = normalise(answer), _marks(answer)
    return Verdict.of(
        any(
            said == (words, _marks(each))
            if (words := normalise(each))
            else exact.normalise(answer) == each.strip()
            for each in accepted
        )
    )


def normalise(answer: str) -> list[str]:
    """The words that count."""
    words = [word.replace("'", "").replace("’", "") for word in text.words(answer.casefold())]
    return [word for word in words if word not in _ARTICLES]


def _marks(answer: str) -> list[str]:
    """The marks that count, in order; a minus may be an en dash."""
    plain = unicodedata.normalize("NFKC", answer).replace("\u2212", "-").replace("\u2013", "-")
    return _MARKS.findall(plain)


def f1(answer: str, truth: str | list[str]) -> float:
    """The best F1 of the words of `answer` against an accepted one: between 0 and 1."""
    accepted = truth if isinstance(truth, list) else [truth]
    return max((_overlap(normalise(answer), normalise(each)) for each in accepted), default=0.0)


def _overlap(said: list[str], wanted: list[str]) -> float:
    shared = (Counter(said) & Counter(wanted)).total()
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0
