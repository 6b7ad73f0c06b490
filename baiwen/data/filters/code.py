"""Rules for source code: Codex (Chen et al., 2021, section 3.1, arXiv 2107.03374), SantaCoder
(Ben Allal et al., 2023, section 5, arXiv 2301.03988), StarCoder (Li et al., 2023, section 3.1,
arXiv 2305.06161), StarCoder2 (Lozhkov et al., 2024, section 4, arXiv 2402.19173).

    line_length(page, most=500)         # a Verdict, or None

`page.language` is the programming language's name, in any case; rules of one language pass the
others by.
"""

import re
from collections.abc import Callable, Mapping
from html import unescape

from baiwen.data.filters.page import Page, above, below, share
from baiwen.data.pipeline.step import Verdict

# Words in the first lines of a file that a program wrote (StarCoder2's, and Codex's "do not edit").
_GENERATED = re.compile(
    r"auto-?generated|automatically generated|generated (?:automatically|from)"
    r"|this file is generated|do not edit",
    re.I,
)
_GENERATED_LINES = 5  # in which such words speak for the whole (StarCoder2)

# Languages whose lines may be long (StarCoder2), and of data (StarCoder, StarCoder2).
_LONG_LINED = frozenset(("html", "json", "markdown", "roff", "smt", "tex", "text", "xml"))
_DATA = frozenset(("json", "yaml"))
_TABLES = frozenset(("json", "yaml", "text", "dot", "graphviz (dot)", "web ontology language"))
_ASSEMBLY = frozenset(("assembly", "motorola 68k assembly", "webassembly"))
_XML_HEAD = 100  # first characters, in which XML says that it is (StarCoder)

# Runs of data written as text (StarCoder2): base64, bytes in hexadecimal, Unicode escapes.
_ENCODED = re.compile(
    r"[a-zA-Z0-9+/\n=]{64,}"
    r"|(?:\b(?:0x|\\x)?[0-9a-fA-F]{2}(?:,|\b\s*)){8,}"
    r"|(?:\\u[0-9a-fA-F]{4}){8,}"
)
# What is in any such run: 64 signs of base64, or 16 of eight bytes when what parts them is cut.
_RUN, _LONG, _BYTES = b"a" * 64, b"a" * 16, b", \t\n\r\f\v\x1c\x1d\x1e\x1f"
_BASE64 = bytes(ord("a") if chr(code).isalnum() or code in b"+/\n=" else 0 for code in range(256))
_HEX = bytes(ord("a") if code in b"0123456789abcdefABCDEF\\x" else 0 for code in range(256))

# What a browser does not show: comments, scripts, styles and tags. What is not closed goes up to
# the end, as in HTML's standard: so time is linear in any text (html.parser's is its square).
_HIDDEN = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(script|style)\b.*?(?:</\1\b[^>]*(?:>|\Z)|\Z)"
    r"|<[a-z/!?](?:[^>=]+|=\s*(?:\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z))?)*+(?:>|\Z)",
    re.I | re.S,
)

# Comments by family of languages: strings are matched as well, for what looks like a comment in
# them is none. A string that stands for itself in Python is documentation, which counts.
_C = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|(?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))'
_PYTHON = (
    r'(?P<comment>#[^\n]*|(?m:^)[ \t]*[rRuU]?(?:"""(?:\\.|[^\\])*?(?:"""|\Z)'
    r"|'''(?:\\.|[^\\])*?(?:'''|\Z)))"
    r'|"""(?:\\.|[^\\])*?(?:"""|\Z)'
    r"|'''(?:\\.|[^\\])*?(?:'''|\Z)"
    r'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
)
_HASH = r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|(?P<comment>#[^\n]*)'
_SQL = r"'(?:''|[^'])*'|(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))"
_FAMILIES = (
    (_PYTHON, "python"),
    (_HASH, "shell bash ruby perl r yaml makefile dockerfile elixir julia"),
    (_SQL, "sql haskell lua ada"),
    (
        _C,
        "c c++ c# objective-c java javascript typescript go rust kotlin swift scala php dart css",
    ),
)
_COMMENTS: Mapping[str, re.Pattern[str]] = {
    language: re.compile(pattern, re.S)
    for pattern, names in _FAMILIES
    for language in names.split()
}


def characters(page: Page, least: int = 100) -> Verdict | None:
    """An empty or nearly empty source file; the bound is ours."""
    return below("code: too short", len(page.text), least)


def line_count(page: Page, most: int = 100_000, data: int = 512) -> Verdict | None:
    """Data or generated code: more lines than anyone writes (StarCoder2); `data`: of data files."""
    bound = data if _language(page) in _TABLES else most
    return above("starcoder: too many lines", page.text.count("\n") + 1, bound)


def line_length(
    page: Page, most: int = 1000, mean: float = 100, markup: int = 100_000
) -> Verdict | None:
    """Data or minified code in the guise of source (Codex).

    Of markup and data, whose paragraphs are lines, only the longest line counts: `markup`
    (StarCoder2).
    """
    lengths = list(map(len, page.text.split("\n")))
    if _language(page) in _LONG_LINED:
        return above("starcoder: long line", max(lengths), markup)
    return above("codex: long line", max(lengths), most) or above(
        "codex: long lines", sum(lengths) / len(lengths), mean
    )


def alphanumeric(page: Page, least: float = 0.25) -> Verdict | None:
    """Source that is mostly signs (Codex; the share as in The Stack)."""
    value = share(_count(page.text, str.isalnum), len(page.text))
    return below("codex: few alphanumeric", value, least)


def alphabetic(page: Page, least: float = 0.25) -> Verdict | None:
    """Source that is mostly numbers and signs (StarCoder); not of assembly."""
    if _language(page) in _ASSEMBLY:
        return None
    value = share(_count(page.text, str.isalpha), len(page.text))
    return below("starcoder: few letters", value, least)


def generated(page: Page) -> Verdict | None:
    """Written by a program, as its first lines say (Codex; the words as in StarCoder2)."""
    head = "\n".join(page.text.split("\n", _GENERATED_LINES)[:_GENERATED_LINES])
    return Verdict("starcoder: generated") if _GENERATED.search(head) else None


def encoded(page: Page, longest: int = 1024, most: float = 0.5) -> Verdict | None:
    """Data written as text: the longest run in characters, and the share of all (StarCoder2)."""
    runs = [len(found[0]) for found in _ENCODED.finditer(page.text)] if _dense(page.text) else []
    return above("starcoder: encoded data", max(runs, default=0), longest) or above(
        "starcoder: encoded data, share", share(sum(runs), len(page.text)), most
    )


def xml(page: Page) -> Verdict | None:
    """XML under another name (StarCoder)."""
    if _language(page) == "xml" or "<?xml version=" not in page.text[:_XML_HEAD]:
        return None
    return Verdict("starcoder: xml")


def html(page: Page, least: float = 0.2, characters: int = 100) -> Verdict | None:
    """HTML that is mostly markup: the share of visible text, and how much there is (StarCoder)."""
    if _language(page) != "html":
        return None
    visible = len(_visible(page.text))
    return below("starcoder: little visible text", visible, characters) or below(
        "starcoder: mostly markup", share(visible, len(page.text)), least
    )


def data_file(
    page: Page, least: int = 50, most: int = 5000, letters: float = 0.5
) -> Verdict | None:
    """JSON and YAML: characters of the file, and the share of letters among them (StarCoder)."""
    if _language(page) not in _DATA:
        return None
    size = len(page.text)
    return (
        below("starcoder: small data file", size, least)
        or above("starcoder: large data file", size, most)
        or below("starcoder: data", share(_count(page.text, str.isalpha), size), letters)
    )


def comments(page: Page, least: float = 0.01, most: float = 0.8) -> Verdict | None:
    """The share of characters in comments (SantaCoder); of languages whose comments are known.

    The paper ran it on Python, Java and JavaScript.
    """
    pattern = _COMMENTS.get(_language(page))
    if not pattern:
        return None
    length = sum(len(found["comment"] or "") for found in pattern.finditer(page.text))
    value = share(length, len(page.text))
    return below("santacoder: few comments", value, least) or above(
        "santacoder: mostly comments", value, most
    )


RULES = (
    characters,
    line_count,
    line_length,
    generated,
    xml,
    data_file,
    html,
    alphanumeric,
    alphabetic,
    encoded,
    comments,
)


def _language(page: Page) -> str:
    return (page.language or "").lower()


_Test = Callable[[str], bool]
_ASCII: Mapping[_Test, bytes] = {
    test: bytes(code for code in range(128) if test(chr(code)))
    for test in (str.isalnum, str.isalpha)
}


def _count(text: str, test: _Test) -> int:
    """How many characters pass; the ASCII ones in one go."""
    data = text.encode("ascii", "ignore")
    plain = len(data) - len(data.translate(None, _ASCII[test]))
    return plain if text.isascii() else plain + sum(test(c) for c in text if c > "\x7f")


def _dense(text: str) -> bool:
    """Whether there may be a run of data in a text: what `_ENCODED` finds out at length."""
    data = text.encode("ascii", "ignore")
    return (
        _RUN in data.translate(_BASE64)
        or _LONG in data.translate(_HEX, _BYTES)
        or text.count("\\u") >= 8
    )


def _visible(text: str) -> str:
    """What a browser would show, with white space squeezed."""
    return " ".join(unescape(_HIDDEN.sub("", text)).split())
