"""Mathematics: is the final answer of a text equal to the truth?

    check("... so x is \\boxed{\\frac{1}{2}}.", "0.5")      -> right
    check("The answer is 50%.", "\\frac{1}{2}")            -> right
    check("#### 1,234", 1234)                             -> right
    check("选(B)", "B")                                     -> right
    check("\\boxed{0.9999999}", 1)                         -> wrong
    check("\\boxed{9^{9^{9^9}}}", 1)                       -> timeout

The answer is looked for as `extract.py` says and compared as `compare.py` says, exactly, in about a
tenth of a millisecond. What these rules cannot read goes to Math-Verify in `worker.py`, a process
that is ended after a second; what neither can tell is `undecided`. No answer raises.
"""

import re
import time
from fractions import Fraction

from baiwen.verify.math import extract, words, worker
from baiwen.verify.math.compare import equal
from baiwen.verify.math.reading import based, reading
from baiwen.verify.verdict import Verdict

# What Math-Verify would take for something else: it adds up "7 3", cuts 0.33... off, and drops the
# base of 12_{three}.
_MISLEADING = re.compile(r"\d\s+\d|\d[\s}]*_|\d\s?(?:\.\.\.|…|\\[cl]?dots)")
_SECONDS = 1.0  # for an answer, from the call to the verdict


def check(answer: str, truth: str | int | float | Fraction) -> Verdict:
    """Is the final answer in `answer` equal to `truth`? An answer without one is wrong."""
    begin = time.monotonic()
    expected = stated(truth)
    if not expected:
        return Verdict.error
    choice = words.letter(expected)
    if choice and (letter := words.chosen(answer)):
        return Verdict.of(letter == choice)
    found = final_answer(answer, expected)
    if not found:
        return Verdict.wrong
    verdict = equal(found, expected)
    if verdict is not None:
        return Verdict.of(verdict)
    if _MISLEADING.search(f"{found};{expected}"):
        return Verdict.undecided
    return worker.ask(found, expected, _SECONDS - (time.monotonic() - begin))


def stated(truth: object) -> str:
    """The truth as text; of a whole solution, its final answer."""
    if isinstance(truth, bool) or not isinstance(truth, str | int | float | Fraction):
        return ""
    text = str(truth).strip()
    if "\\boxed" in text or "####" in text:
        return next(iter(extract.candidates(text)), "")
    return text


def final_answer(answer: str, truth: str) -> str:
    """The first candidate that can be read; of a truth in words, the first that is words."""
    found = extract.candidates(answer)
    if reading(truth) is None and based(truth) is None:
        spoken = (part for part in found if words.spoken(truth) and words.spoken(part))
        return next(spoken, found[0] if found else "")
    readable = (part for part in found if reading(part) is not None or based(part) is not None)
    return next(readable, found[0] if found else "")
