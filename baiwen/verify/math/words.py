"""Answers in words: yes and no, names, days, letters of a choice.

equal("\\text{Monday}", "monday", ...)     -> True
equal("no solutions", "\\emptyset", ...)     -> True
chosen("The answer is (B) because ...")       -> "B"
"""

import re
import unicodedata

from baiwen.verify.math import extract

_WRAP = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mathrm|mathbf|mbox|operatorname)(?![a-z])")
_BREAK = re.compile(r"\\[ ,;:!]|[{}$~*]")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_FILLING = frozenset({"a", "an", "the", "is", "are", "it", "there", "that", "this", "be", "的"})
_MEANINGS = {
    "emptyset": "no solution",
    "varnothing": "no solution",
    "no solutions": "no solution",
    "no real solution": "no solution",
    "no real solutions": "no solution",
    "无解": "no solution",
    "空集": "no solution",
    "dne": "does not exist",
    "doesn't exist": "does not exist",
    "不存在": "does not exist",
    "infinite": "infinitely many",
    "infinitely many solutions": "infinitely many",
    "true": "yes",
    "correct": "yes",
    "是": "yes",
    "对": "yes",
    "正确": "yes",
    "false": "no",
    "incorrect": "no",
    "否": "no",
    "不是": "no",
    "错": "no",
    "错误": "no",
}
_LETTER = re.compile(r"\(?([A-Ja-j])\)?\.?")
_CHOSEN = re.compile(
    r"[\s(（\[【*]*+(?:(?:option|choice|answer|选项?)\s*+[:：]?\s*+)?[(（\[【*]*+"
    r"([A-J])(?=[\s)）\]】*]*(?:[.:：、．,，)）\]】]|$)|[)）])",
    re.IGNORECASE,
)
_CLOSING_LETTER = re.compile(r"(?:[(（]([A-J])[)）]|(?<![A-Za-z])([A-J]))[\s*.。)）]*\Z")


def equal(answer: str, truth: str, answer_is_maths: bool, truth_is_maths: bool) -> bool | None:
    """Do two texts, of which at least one is no mathematics, say the same?

    Words are never equal to a number; words and other words are compared as they stand. What is
    neither words nor readable is left undecided.
    """
    if not answer_is_maths and not truth_is_maths and bare(answer) == bare(truth):
        return True
    left, right = spoken(answer), spoken(truth)
    if left is not None and right is not None:
        if left == right:
            return True
        return None if f" {right} " in f" {left} " and len(left) < 80 else False
    if left is not None and truth_is_maths:
        return False
    if right is not None and answer_is_maths:
        return False
    return None


def bare(text: str) -> str:
    """The text without space, braces and wrapping, in small letters."""
    return "".join(_BREAK.sub("", _WRAP.sub("", text)).lower().rstrip(". ").split())


def spoken(text: str) -> str | None:
    """The words of a text in small letters; None where it is not made of words alone."""
    text = unicodedata.normalize("NFKC", text[:400])
    text = " ".join(_BREAK.sub(" ", _WRAP.sub("", text)).split())
    text = text.replace("\\emptyset", "emptyset").replace("\\varnothing", "varnothing")
    if re.search(r"[\\^_=<>+*/|\d]", text):
        return None
    found = [word for word in _WORD.findall(text.lower()) if word not in _FILLING or word == text]
    phrase = " ".join(found)
    return _MEANINGS.get(phrase, phrase) or None


def letter(truth: str) -> str | None:
    """The letter of a choice that the truth is: `B`, `(B)`, `\\text{(B)}`."""
    match = _LETTER.fullmatch("".join(_BREAK.sub(" ", _WRAP.sub("", truth)).split()))
    return match[1] if match and match[1].isupper() else None


def chosen(answer: str) -> str | None:
    """The letter that an answer chooses; None where it chooses none."""
    text = answer[-4000:]
    boxed = extract.last_boxed(text)
    marked = boxed if boxed is not None else extract.after_mark(text)
    for part in (
        [marked] if marked is not None else [text.strip(), text.strip().rpartition("\n")[2]]
    ):
        plain = _BREAK.sub(" ", _WRAP.sub("", part)).strip()
        if match := _CHOSEN.match(plain):
            return match[1].upper()
    last = text.strip().rpartition("\n")[2]
    if boxed is None and (match := _CLOSING_LETTER.search(_BREAK.sub(" ", last))):
        return match[1] or match[2]
    return None
