"""How an answer is marked: RULER's way, and one that listing everything does not win.

    official("12345, 67890", ("12345",))              -> 1.0: the truth is in the answer somewhere
    strict(NUMBERS, "12345, 67890", ("12345",))       -> 0.0: and so is what is not true
    strict(NUMBERS, "It is 12345.", ("12345",))       -> 1.0

RULER counts the truths that are substrings of the answer, in lower case (`string_match_all`; for
questions on documents the best one, `string_match_part`): an answer that repeats the whole text has
full marks. The strict mark reads from the answer, to its first blank line, everything of the kind
that was asked for; where one thing was asked for it must be that and nothing else, where several
were it is precision times recall.
"""

import re
import string
from collections.abc import Callable, Collection, Sequence

NUMBERS = re.compile(r"\d+")
VALUES = re.compile(r"\d{5,}")  # not the numbering of a list
UUIDS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VARIABLES = re.compile(r"\b[A-Z]{5}\b")
WORDS = re.compile(r"[a-z]+", re.IGNORECASE)
ARTICLES = re.compile(r"\b(a|an|the)\b")

Mark = Callable[[str, Sequence[str]], float]  # (answer, truth) -> 0 to 1


def every(answer: str, truth: Sequence[str]) -> float:
    """The share of truths that the answer holds: RULER's `string_match_all`."""
    return sum(one.lower() in answer.lower() for one in truth) / len(truth)


def some(answer: str, truth: Sequence[str]) -> float:
    """Whether the answer holds one of them: RULER's `string_match_part`."""
    return float(any(one.lower() in answer.lower() for one in truth))


def exact(found: Collection[str], truth: Collection[str]) -> float:
    """Precision times recall of what was found; of a single truth all or nothing."""
    right = len({*found} & {*truth})
    if len(truth) == 1:
        return float({*found} == {*truth})
    return right / len({*found}) * right / len({*truth}) if found else 0.0


def listed(kind: re.Pattern[str], among: Collection[str] | None = None) -> Mark:
    """The strict mark of answers that list things of a kind, or those of them that are `among`.

    As officially, capitals or not are one; what is `among` is in lower case.
    """

    def mark(answer: str, truth: Sequence[str]) -> float:
        found = {one.lower() for one in kind.findall(said(answer))}
        asked = [one.lower() for one in truth]
        return exact(found if among is None else found & set(among), asked)

    return mark


def same(answer: str, truth: Sequence[str]) -> float:
    """Whether the answer is one of the truths, as SQuAD compares them: no case, articles, stops."""
    return float(plain(said(answer)) in map(plain, truth))


def said(answer: str) -> str:
    """The answer to its first blank line: what a base model goes on with is no part of it."""
    return re.split(r"\n\s*\n", answer.strip(), maxsplit=1)[0]


def plain(text: str) -> str:
    """Text without case, punctuation and articles (Rajpurkar et al., 2016, `normalize_answer`)."""
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(ARTICLES.sub(" ", bare).split())
