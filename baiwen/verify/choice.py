"""Multiple choice: the letter that an answer settles on.

    check("The answer is (B).", "B")                                            -> right
    check("答案：B", "B")                                                         -> right
    check("rome", {"letter": "B", "options": ["Oslo", "Rome", "Bonn"]})         -> right
    check("A or B", "B")                                                        -> wrong
    check("Not A. Then perhaps B?", "B")                                        -> undecided

The truth is the letter (or letters: "BD"), or a dict of `letter` and `options`, the texts of A, B,
C ... in order. The first of these forms that occurs settles the answer:

    1. the last `\\boxed{B}` or `\\boxed{B. Rome}`, or the text of an option in it
    2. the last "answer is B", "answer: (B)", "答案是B", "故选B" ...; or the text of an option there
    3. "B is correct", "选项B正确" of one letter, and no other
    4. the whole answer is a letter or the text of an option, up to case, space and a full stop
    5. one line, and no other, begins with a letter: "B. Rome", "(B) because ..."
    6. one letter in brackets, and no other: "... so (B)"

One letter too many or too few is wrong. Where nothing is settled, the answer is undecided if it
names a letter or an option all the same, else wrong. Only the two ends of a long answer are read.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from baiwen.verify import exact
from baiwen.verify.verdict import Verdict

_READ = 4000  # characters at either end of the answer
_ONE = r"\(?[A-J]{1,10}\)?"
_LIST = rf"{_ONE}(?:(?: ?[,/&、和或与及] ?| (?:and|or) ){_ONE}){{0,9}}(?![A-Za-z0-9'])"
_LINK = r"(?: ?(?:is|are|was|be|:|=|应该?|是|为)){1,2}"
_HAN = "[一-鿿]"
_ABOUT = r"[ *_$\"'“:]{0,6}"
_ASKED = r"(?:\b[Aa]nswer|ANSWER|\b[Cc]hoice|\b[Oo]ption|答案|选项|正确的)"
_NAMED = r"(?:[Oo]ption |选项 ?)?"
_NOT_DENIED = rf"(?<!不)(?<![不没]{_HAN})(?<![不没]{_HAN}{{2}})"  # 不选, 没有选, 不可以选
_TAKEN = rf"(?:答案|\bI (?:would |will )?(?:choose|pick|select)|{_NOT_DENIED}选择?)"
_BEFORE = r"(?:^|[.。!?,:;] ?|[Oo]ption |选项|\b(?:[Ss]o|[Tt]hus|[Hh]ence|[Tt]herefore),? )"
_SAID = re.compile(
    rf"{_ASKED}{_ABOUT}(?:[a-z]+ ){{0,1}}{_LINK}{_ABOUT}{_NAMED}({_LIST})"
    rf"|{_TAKEN}{_ABOUT}({_LIST})"
)
_CORRECT = re.compile(
    rf"{_BEFORE}\(?([A-J])\)?(?: is (?:the )?(?:correct|right)\b| ?(?:选项|项)?[是为]?正确)",
    re.MULTILINE,
)
_QUOTED = re.compile(rf"{_ASKED}{_ABOUT}{_LINK}{_ABOUT}([^\n]{{1,200}})")
_BOXED = re.compile(r"\\boxed ?\{ ?(?:\\(?:text|mathrm|mathbf) ?\{)? ?([^{}\n]{1,200})")
_WHOLE = re.compile(rf"{_LIST}[.:]?")
_LINE = re.compile(r"^[ *_#>-]{0,6}(?:\(([A-J])\)|([A-J])(?:[.):]|\*\*|$))", re.MULTILINE)
_BRACKETS = re.compile(r"\(([A-Ja-j])\)")
_LONE = re.compile(r"(?<![A-Za-z0-9'])(?:[B-HJ]|A(?! [a-z]))(?![A-Za-z0-9'])")


def check(answer: str, truth: str | dict[str, Any]) -> Verdict:
    """Is the letter that `answer` settles on the one of `truth`?"""
    asked: dict[str, Any] = truth if isinstance(truth, dict) else {"letter": truth}
    wanted, options = asked.get("letter", ""), asked.get("options", [])
    if not _is_readable(wanted, options):
        return Verdict.error
    text = _plain(answer)
    if letters := settled(text, options):
        return Verdict.of(letters == set(wanted.upper()))
    said = _key(text)
    named = _LONE.search(text) or any(_key(option) in said for option in options)
    return Verdict.undecided if named else Verdict.wrong


def _is_readable(wanted: object, options: object) -> bool:
    if not (isinstance(wanted, str) and re.fullmatch("[A-Ja-j]{1,10}", wanted)):
        return False
    if not isinstance(options, list):
        return False
    listed = all(isinstance(text, str) and _key(text) for text in options)
    return listed and (not options or ord(max(wanted.upper())) - ord("A") < len(options))


def settled(text: str, options: Sequence[str] = ()) -> set[str]:
    """The letters that `text` settles on by one of the six forms, if on any."""
    if boxed := _BOXED.findall(text):
        return _listed(boxed[-1].strip()) or _option(boxed[-1], options) or _leading(boxed[-1])
    if said := _SAID.findall(text):
        return set(re.findall("[A-J]", "".join(said[-1])))
    if (quoted := _QUOTED.findall(text)) and (option := _option(quoted[-1], options)):
        return option
    if len(correct := set(_CORRECT.findall(text))) == 1:
        return correct
    if whole := _listed(text.strip().strip("*$\"'“” ")) or _option(text, options):
        return whole
    lines = _leading(text)
    brackets = {letter.upper() for letter in _BRACKETS.findall(text)}
    return next((found for found in (lines, brackets) if len(found) == 1), set())


def _listed(text: str) -> set[str]:
    """The letters of a text that is nothing else; a single one may be small."""
    text = text.upper() if len(text.strip("().:")) == 1 else text
    return set(re.findall("[A-J]", text)) if _WHOLE.fullmatch(text) else set()


def _leading(text: str) -> set[str]:
    """The letters that begin a line: of `B. Rome` B."""
    return {before or after for before, after in _LINE.findall(text)}


def _option(text: str, options: Sequence[str]) -> set[str]:
    places = [at for at, option in enumerate(options) if _key(option) == _key(text)]
    return {chr(ord("A") + places[0])} if len(places) == 1 else set()


def _key(text: str) -> str:
    return exact.normalise(text).casefold()


def _plain(answer: str) -> str:
    """Both ends, full-width forms made plain, each run of blanks one blank."""
    if len(answer) > 2 * _READ:
        answer = f"{answer[:_READ]}\n{answer[-_READ:]}"
    return re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFKC", answer))
