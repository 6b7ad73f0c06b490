"""Text to tokens: LaTeX and plain writing, in ASCII, Unicode and Chinese punctuation.

    tokens("5\\,cm")          -> number 5, word cm
    tokens("x² ≤ 1,000")      -> letter x, symbol ^, number 2, command le, number 1000
    tokens("\\frac{1}{2}")     -> command frac, symbol {, number 1, ...

Layout (`\\left`, `\\,`, `$`) is dropped. A run of letters is a function, a word or a product of
variables: `sin`, `apples`, `xy`. Each expression here runs in linear time, and a text is short.
"""

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from baiwen.verify.math import units
from baiwen.verify.math.terms import UnreadableError

LONGEST = 2000  # characters that are still read
_DIGITS = 4000  # digits of a number: below Python's own limit for int()


class Token(NamedTuple):
    """A piece of the text; `spaced` where white space stands before it."""

    kind: str  # number, letter, word, command, symbol
    text: str
    spaced: bool = False
    value: Fraction = Fraction(0)


_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"
_UNICODE = {
    **dict(zip(_SUPERSCRIPTS, "0123456789-", strict=True)),
    **dict(zip("−–—×·⋅∗∙÷⁄∕", "---*****///", strict=True)),
    **{"≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "⩽": "\\le ", "⩾": "\\ge ", "≈": "\\approx "},
    **{"∞": "\\infty ", "π": "\\pi ", "√": "\\sqrt ", "∛": "\\sqrt[3]", "°": "^\\circ "},
    **{"±": "\\pm ", "∓": "\\mp ", "∪": "\\cup ", "∈": "\\in ", "∅": "\\emptyset ", "′": "'"},
    **{"∠": "\\angle ", "℃": "^\\circ C", "、": ", ", "；": "; ", "\u200b": "", "ℝ": "\\mathbb{R}"},
    **{"½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4", "⅛": " 1/8"},
    **{
        "…": "\\ldots ",
        "θ": "\\theta ",
        "α": "\\alpha ",
        "β": "\\beta ",
        "¢": " cents",
        "∩": "\\cap ",
    },
}
_TRANSLATED = str.maketrans(_UNICODE)
_RAISED = re.compile(f"[{_SUPERSCRIPTS}]+")

_SEPARATOR = r"(?:\{,\}|\\,|\\!|,\\!|\\ |[ ~])"
_TOKEN = re.compile(
    r"(?P<space>\s+|~|\\[ ,;:!>\n]|\\q?quad(?![a-zA-Z])|\\hspace\s*\{[^{}]*\}|\\[()\[\]])"
    r"|(?P<drop>\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|hfill|mathopen"
    r"|mathclose|nolimits|rm|bf|it)(?![a-zA-Z])\.?|\\phantom\s*\{[^{}]*\})"
    r"|\\(?:text(?:bf|it|rm|sf|tt|normal)?|mathrm|mathbf|mathit|mathsf|mbox|hbox|operatorname\*?)"
    r"\s*\{(?P<text>[^{}]*)\}"
    r"|(?P<repeating>\d*\.\d*(?:\\overline|\\bar)\s*\{?\d+\}?"
    r"|\d*\.\d*\\dot\s*\{?\d\}?(?:\d*\\dot\s*\{?\d\}?)?|\d+\.\d*\(\d+\))"
    rf"|(?P<number>(?:\d{{1,3}}(?:(?:,|{_SEPARATOR})\d{{3}})++(?!,?\d)(?:\.\d+)?"
    r"|\d++(?:\.\d++)?(?!\.\d)|\.\d+)(?:[eE][+-]?\d+(?![\w.]))?)"
    r"|\\(?P<command>[a-zA-Z]+|(?=\d)|.)"
    r"|(?P<half>[aApP]\.[mM]\.?)"
    r"|(?P<letters>[a-zA-Z]+|[\u3400-\u9fff]+)"
    r"|(?P<symbol><=|>=|!=|==|\*\*|->|:=|.)",
    re.DOTALL,
)
# A comma before three digits may also stand between two numbers; this one reads it so.
_UNGROUPED = re.compile(_TOKEN.pattern.replace(f"(?:,|{_SEPARATOR})", _SEPARATOR), re.DOTALL)
_MAYBE_GROUPED = re.compile(r"\d,[1-9]\d{2}(?!\d)")
_REPEATING = re.compile(r"(\d*)\.(\d*?)(?:\\\w+\s*)?[({]?(\d+)[)}]?")

FUNCTIONS = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan"}
    | {"sinh", "cosh", "tanh", "ln", "log", "lg", "exp", "sqrt"}
)
_NAMED = FUNCTIONS | {"pi", "theta", "infty", "alpha", "beta", "lambda"}
_COMMANDS = _NAMED | {"frac", "times", "cdot", "le", "leq", "ge", "geq", "pm", "cup", "triangle"}
_SPELLED = {"infinity": "infty", "inf": "infty", "oo": "infty"}
_ALIASES = {"**": "^", "==": "=", ":=": "=", "：": ":", "，": ",", "＝": "="}
CONNECTIVES = frozenset({"and", "or", "和", "或", "与", "且", "或者"})
_WORD = 4  # letters from which on a run is a word


def tokens(text: str, grouped: bool = True) -> list[Token]:
    """The tokens of `text`; `UnreadableError` where it is too long or holds what cannot be one."""
    if len(text) > LONGEST:
        raise UnreadableError("too long")
    found: list[Token] = []
    spaced = False
    money = text.count("$") % 2 == 1  # an even number of them are the marks around mathematics
    for match in (_TOKEN if grouped else _UNGROUPED).finditer(_prepared(text)):
        kind = match.lastgroup or ""
        if kind == "space":
            spaced = True
        elif kind != "drop" and (match[0] != "$" or money):
            pieces = _pieces(kind, match[kind])
            found += (token._replace(spaced=True) for token in pieces) if spaced else pieces
            spaced = kind == "text"
    return found


def _prepared(text: str) -> str:
    return ascii_form(text).replace("{}", "").replace("...", "\\ldots ")


def maybe_grouped(text: str) -> bool:
    """Could a comma in `text` both group digits and stand between numbers? Not before a zero."""
    return _MAYBE_GROUPED.search(text) is not None


def ascii_form(text: str) -> str:
    """Signs of Unicode in their LaTeX or ASCII form."""
    if text.isascii():
        return text
    text = _RAISED.sub(lambda run: f"^{{{run[0]}}}", text).translate(_TRANSLATED)
    return unicodedata.normalize("NFKC", text)


def _pieces(kind: str, text: str) -> Iterator[Token]:
    if kind in ("number", "repeating"):
        yield Token("number", text, value=number(text) if kind == "number" else repeating(text))
    elif kind == "letters":
        yield from _letters(text)
    elif kind == "text":
        yield from _text(text)
    elif kind == "half":
        yield Token("word", text.replace(".", ""))
    elif kind == "command":
        yield from _command(text)
    else:
        yield Token("symbol", _ALIASES.get(text, text))


def number(text: str) -> Fraction:
    """A number as written: `1,234.5`, `2e-3`, `10\\,000`; its size is bounded."""
    if text.isdecimal() and len(text) <= _DIGITS:
        return Fraction(int(text))
    mantissa, _, exponent = text.lower().partition("e")
    mantissa = re.sub(r"[^\d.]", "", mantissa)
    if len(mantissa) > _DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > _DIGITS:
        raise UnreadableError("a number of too many digits")
    return Fraction(mantissa) * Fraction(10) ** int(exponent) if exponent else Fraction(mantissa)


def repeating(text: str) -> Fraction:
    """A repeating decimal: `0.1\\overline{6}`, `0.(3)`, `0.\\dot{1}4\\dot{2}`."""
    if text.count("dot") == 2:
        before, first, second = text.split("\\dot")
        text = f"{before}({re.sub(r'[^0-9]', '', first + second)})"
    match = _REPEATING.fullmatch(text)
    if not match or len(text) > _DIGITS:
        raise UnreadableError("no repeating decimal")
    whole, once, again = match.groups()
    period = Fraction(int(again), 10 ** len(again) - 1)
    return Fraction(f"{whole or 0}.{once or 0}") + period / 10 ** len(once)


def _letters(run: str) -> Iterator[Token]:
    """A function, a constant, a word, or variables that stand side by side."""
    name = _SPELLED.get(run.lower(), run if len(run) < 3 else run.lower())
    if name in _NAMED or name == "infty":
        yield Token("command", name)
    elif is_word(run):
        yield Token("word", run)
    else:
        for letter in run:
            yield Token("letter", letter)


def is_word(run: str) -> bool:
    """Is a run of letters a word rather than a product of variables?"""
    if not run.isascii() or run.lower() in CONNECTIVES or run.lower() in units.MULTIPLES:
        return True
    if len(run) >= _WORD or (len(run) == 3 and run.isupper()):
        return True
    return len(run) > 1 and (units.is_unit(run) or run in _SHORT_WORDS)


_SHORT_WORDS = frozenset({"is", "as", "at", "of", "the", "so", "no", "No", "yes", "Yes", "odd"}) | {
    *("per", "sq", "cu", "am", "pm", "men", "st", "nd", "rd", "th")
}


_PIECE = re.compile(r"\d+(?:\.\d+)?|[aApP]\.[mM]\.?|[^\W\d_]+|[^\w\s]")


def _text(text: str) -> Iterator[Token]:
    """What stands in `\\text{...}`: words, numbers and signs; letters are words there."""
    for piece in _PIECE.findall(text.replace("~", " ")):
        if piece[0].isdigit():
            yield Token("number", piece, value=number(piece))
        elif piece[0].isalpha():
            yield Token("word", piece.replace(".", ""))
        else:
            yield Token("symbol", piece)


_MEANINGS = {
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "dbinom": "binom",
    "tbinom": "binom",
    "leq": "le",
    "leqslant": "le",
    "geq": "ge",
    "geqslant": "ge",
    "neq": "ne",
    "lt": "<",
    "gt": ">",
    "cdot": "*",
    "times": "*",
    "ast": "*",
    "div": "/",
    "lbrace": "\\{",
    "rbrace": "\\}",
    "{": "\\{",
    "}": "\\}",
    "%": "%",
    "$": "$",
    "langle": "(",
    "rangle": ")",
    "lbrack": "[",
    "rbrack": "]",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "|": "|",
    "colon": ":",
    "varnothing": "emptyset",
    "degree": "circ",
    "dots": "ldots",
    "cdots": "ldots",
    "tg": "tan",
    "arctg": "arctan",
    "ctg": "cot",
    "to": "->",
    "mid": "|",
    "&": "&",
    "#": "#",
    "\\": "newline",
    "cr": "newline",
    "prime": "'",
    "land": ",",
    "wedge": ",",
    "lor": ",",
    "vee": ",",
}


def _command(name: str) -> Iterator[Token]:
    meaning = _MEANINGS.get(name, name)
    if not name or name == "-":  # a row's end that lost a backslash, as in the golds of MATH
        yield Token("command", "newline")
        yield from (Token("symbol", sign) for sign in name)
    elif meaning.isalpha():
        yield from _known(meaning)
    else:
        yield Token("symbol", meaning)


def _known(name: str) -> Iterator[Token]:
    """A command; where letters ran into it (`\\sinx`), the command and the letters."""
    head = max((known for known in _COMMANDS if name.startswith(known)), key=len, default="")
    tail = name.removeprefix(head)
    if head and tail and len(tail) < 3 and name not in _WHOLE:
        yield Token("command", _MEANINGS.get(head, head))
        yield from (Token("letter", letter) for letter in tail)
    else:
        yield Token("command", name)


_WHOLE = FUNCTIONS | {"left", "leftarrow", "length", "geom", "fraction", "begin", "beta", "infty"}
