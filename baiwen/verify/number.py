"""A number, exactly: the last one that the answer states.

    check("7+5=12\\n4+3+1=8\\n47+35=82", "82")      -> right
    check("about 1,200.50", 1200.5)                -> right
    check("3/4", "0.75")                           -> right

Numbers are compared as fractions, never as floats, so 100000.4 is not 100000 and 0.9999999 is not 1
(both pass other graders, findings B1). Thousands may be grouped by commas; full-width digits count,
and an en dash may stand for the minus sign. `10²` and `3½` are no numbers here, `12 m²` is 12.
"""

import re
from fractions import Fraction

from baiwen.verify.verdict import Verdict

# A sign counts only where no digit or letter stands before it: "9-4" ends in 4.
_NUMBER = re.compile(
    r"(?<![\d.])(?:(?<!\w)-)?"
    # In one piece: of `1.5²` not the 1.
    r"(?>(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,3}(?!\d))?(?:/\d+)?)"
    r"(?![\d/⁰¹²³⁴-⁹⁻¼-¾⅐-⅞])",
    re.ASCII,
)
# ASCII for the full-width forms, and a minus for the minus sign and the en dash.
_FORMS = {0xFF00 + at: 0x20 + at for at in range(1, 0x5F)} | {0x2212: "-", 0x2013: "-"}
# The two bounds keep every answer cheap, hostile ones too.
_TAIL = 4000  # characters at the end of the answer that are searched
_LONGEST = 400  # characters of a number that is still compared


def check(answer: str, truth: str | int | float) -> Verdict:
    """Is the last number of `answer` equal to `truth`? An answer without a number is wrong."""
    expected = value(str(truth))
    if expected is None:
        return Verdict.error
    found = last(answer)
    return Verdict.of(found is not None and value(found) == expected)


def last(answer: str) -> str | None:
    """The number that the answer states last, as it stands there."""
    tail = answer[-_TAIL:].translate(_FORMS)
    if len(answer) > _TAIL:
        tail = tail.lstrip("0123456789.,/-eE+")  # the end of a number that was cut through
    found = _NUMBER.findall(tail)
    return found[-1] if found else None


def value(text: str) -> Fraction | None:
    """The number that `text` is, or None: `"1,200.5"`, `"-3"`, `"3/4"`, `"2e-7"`."""
    text = text.translate(_FORMS).strip()
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        return None
    above, _, below = text.replace(",", "").partition("/")
    if not below:
        return Fraction(above)
    return Fraction(above) / int(below) if int(below) else None
