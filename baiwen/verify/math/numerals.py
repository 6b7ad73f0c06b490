"""Numbers in words, English and Chinese.

    numeral("one hundred and five")     -> Fraction(105)
    numeral("\\text{minus two}")         -> Fraction(-2)
    numeral("两万零五十")                 -> Fraction(20050)
    numeral("百分之三点五")               -> Fraction(7, 200)
    numeral("一百二")                    -> None: 120 to some, 102 to others

Only a text that is nothing but a number is read, up to a length.
"""

import re
from fractions import Fraction

_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_FROM_TWENTY = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: number for number, word in enumerate(_BELOW_TWENTY.split())}
_TENS = {word: 10 * number for number, word in enumerate(_FROM_TWENTY.split(), start=2)}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_DIGITS = {sign: at for at, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_AROUND = " .。$"  # what may stand around a number
_TEXT = re.compile(r"\\(?:text(?:bf|rm)?|mathrm|mathbf) ?\{([^{}]*)\}")
_MINUS = re.compile(r"^(?:(?:minus|negative) +|[-\u2212负] *)")
# 一百二 is 120 or 102, 一二十 ten or twenty; the others are no numbers.
_DOUBTFUL = re.compile(
    r"[百千万亿][一二两三四五六七八九]$|[一二两三四五六七八九]{2}|[零〇]$|[十百千]{2}"
)
_LONGEST = 80  # characters


def numeral(text: str) -> Fraction | None:
    """The number that a text says in words; None where it says none."""
    text = text.strip(_AROUND).lower()
    if spelt := _TEXT.fullmatch(text):
        text = spelt[1].strip(_AROUND)
    if len(text) > _LONGEST:
        return None
    bare = _MINUS.sub("", text)
    found = _english(bare) if bare.isascii() else _chinese(bare.removesuffix("个"))
    return found if found is None or bare == text else -found


def _english(text: str) -> Fraction | None:
    if text in ("half", "a half", "one half"):
        return Fraction(1, 2)
    total = below = 0  # below: of the thousand that is being read
    words = re.sub(r" and |\b-\b", " ", text).split()
    for word in words:
        small = _SMALL.get(word) or _TENS.get(word)
        room = below % 100 == 0 or (below % 100 >= 20 and below % 10 == 0 and (small or 10) < 10)
        if small and room:
            below += small
        elif word == "hundred" and 0 < below < 100:
            below *= 100
        elif word in _LARGE and below and total % (1000 * _LARGE[word]) == 0:
            total, below = total + below * _LARGE[word], 0
        else:
            return Fraction(0) if text == "zero" else None
    return Fraction(total + below) if words else None


def _chinese(text: str) -> Fraction | None:
    if text in ("半", "一半"):
        return Fraction(1, 2)
    below, parted, above = text.partition("分之")
    if parted:
        parts = Fraction(100) if below == "百" else _chinese(below), _chinese(above)
        return parts[1] / parts[0] if parts[0] and parts[1] is not None else None
    whole, point, decimals = text.partition("点")
    if point:
        head, tail = _whole(whole), _positional(decimals)
        return None if head is None or tail is None else head + Fraction(tail, 10 ** len(decimals))
    found = _whole(text)
    return None if found is None else Fraction(found)


def _positional(text: str) -> int | None:
    """`三一四` as 314."""
    if not text or not _DIGITS.keys() >= set(text):
        return None
    return int("".join(str(_DIGITS[sign]) for sign in text))


def _whole(text: str) -> int | None:
    """`两万零五十` as 20050."""
    if (digits := _positional(text)) is not None:
        return digits
    if not text or _DOUBTFUL.search(text):
        return None
    total = below = digit = 0  # below: of the myriad that is being read
    for sign in text:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
        elif sign in _UNITS:
            below, digit = below + (digit or 1) * _UNITS[sign], 0
        elif sign == "万" and below + digit:
            total, below, digit = total + (below + digit) * 10**4, 0, 0
        elif sign == "亿" and total + below + digit:
            total, below, digit = (total + below + digit) * 10**8, 0, 0
        else:
            return None
    return total + below + digit
