"""The same text, up to what nobody means: space, Unicode form, a closing full stop or quotes.

    check(' "Rome".', "Rome")        -> right
    check("rome", "Rome")            -> wrong: case is meant
    check("It is Rome", "Rome")      -> wrong

The answer alone is asked for: text around it is not looked through for something that fits.
"""

import unicodedata

from baiwen.verify.verdict import Verdict

_AROUND = " \t\r\n\"'`“”‘’「」*"
_END = ".。"


def check(answer: str, truth: str) -> Verdict:
    """Is the whole `answer` the `truth`, both normalised?"""
    expected = normalise(str(truth))
    return Verdict.of(normalise(answer) == expected) if expected else Verdict.error


def normalise(text: str) -> str:
    """NFKC, one blank for each run of white space, no quotes around, no full stop at the end."""
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    return text.strip(_AROUND).rstrip(_END).strip(_AROUND)
