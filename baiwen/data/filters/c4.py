"""C4's rules (Raffel et al., 2020, section 2.2, arXiv 1910.10683; those on long words and policies
from the code that made it, tensorflow/datasets c4_utils).

    lines(table, Lines(least_sentences=3))      # a step: it changes the text

C4 looks at a page line by line: what is no sentence goes, and with too little left, the page. So
these rules are a step that gives `text`, and `lorem_ipsum` and `curly_brackets` are filters too,
for pipelines without it. Words of scripts that write no spaces are characters, and their full stops
are full stops. The list of bad words is left out: harm is a dimension of the quality classifier.
"""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Annotated, NamedTuple

import pyarrow as pa
from pydantic import Field

from baiwen.config import Knobs
from baiwen.data.filters.page import Page
from baiwen.data.pipeline.step import Verdict, verdicts

Count = Annotated[int, Field(ge=0)]

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
# Ends of lines: C4's, and the full stops of scripts that have others. Curly quotation marks end a
# line where the text is not English; C4 and datatrove know straight ones alone.
_ENDS = frozenset(".?!\"'。！？…।۔؟」』")
_CURLY = frozenset("”’»")
# Where one sentence ends and the next begins; not after an initial, a title or an ellipsis.
_NEXT = re.compile(
    r"[.?!。！？।۔؟](?:"
    r"(?<![\s.(][A-Za-z].)(?<!\b[DM]r.)(?<!\bM[rs]s.)(?<!\.\.)(?<=[.?!])"
    r"(?:[\"'”’)\]]*\s+(?=\S)|(?<=[a-z]\.)(?=[A-Z]))"
    r"|(?<=[^.?!])[”’」』）]*(?=\S))"
)
_LONE = re.compile("[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


class Lines(Knobs):
    """Which lines of a page stay, and how much there has to be left of it."""

    ends: bool = True  # lines have to end like a sentence (C4)
    least_words: Count = 3  # words of a line (C4: 3)
    longest_word: Count = 1000  # characters of a line's longest word (C4's code: 1,000); 0: any
    javascript: bool = True  # drop lines that mention JavaScript (C4)
    policies: bool = True  # drop lines on cookies and terms of use (C4's code)
    citations: bool = True  # cut "[1]", "[edit]" and "[citation needed]" out of lines (C4's code)
    curly_brackets: bool = True  # drop pages with a line that has "{" (C4)
    lorem_ipsum: bool = True  # drop pages with a placeholder (C4)
    least_sentences: Count = 5  # sentences of what is left of a page (C4: 5)


def lorem_ipsum(page: Page) -> Verdict | None:
    """A placeholder, not a text."""
    if "psum" not in page.text and "PSUM" not in page.text:
        return None  # spares nearly all texts a copy in lower case
    return Verdict("c4: lorem ipsum") if "lorem ipsum" in page.text.lower() else None


def curly_brackets(page: Page) -> Verdict | None:
    """A program, not a text."""
    return Verdict("c4: curly bracket") if "{" in page.text else None


RULES = (lorem_ipsum, curly_brackets)


def lines(table: pa.Table, knobs: Lines) -> pa.Table:
    """A step: each text with the lines that are sentences; reads text (and language)."""
    languages = table["language"].to_pylist() if "language" in table.column_names else ()
    texts, found = [], []
    for i, text in enumerate(table["text"].to_pylist()):
        kept, verdict = cleaned(text, knobs, languages[i] if languages else None)
        texts.append(None if verdict or kept == text else kept)
        found.append(verdict)
    return verdicts(found).append_column("text", pa.array(texts, pa.large_string()))


def cleaned(text: str, knobs: Lines, language: str | None = None) -> tuple[str, Verdict | None]:
    """What is left of a text, and why it goes."""
    ends = _ENDS if language in (None, "en") else _ENDS | _CURLY
    able = _able(text, knobs)
    kept = []
    for line in text.splitlines():
        line = line.strip()
        bare = _CITATION.sub("", line) if able.citations else line
        if knobs.ends and (bare[-1:] not in ends or bare.endswith("...")):
            continue
        if not _has_words(line, knobs) or not bare:
            continue
        if rule := _objection(bare, able):
            return text, Verdict(rule)
        if not _is_notice(bare, able):
            kept.append(bare)
    count = _sentences(kept, knobs.least_sentences)
    if count < knobs.least_sentences:
        return text, Verdict("c4: too few sentences", count, knobs.least_sentences)
    return "\n".join(kept).strip(), None


class _Able(NamedTuple):
    """Which rules can find anything in a text: it is searched once, not line by line."""

    citations: bool
    javascript: bool
    policies: bool
    curly_brackets: bool
    lorem_ipsum: bool


def _able(text: str, knobs: Lines) -> _Able:
    lower = text.lower()
    return _Able(
        knobs.citations and "[" in text,
        knobs.javascript and "javascript" in lower,
        knobs.policies and any(map(lower.__contains__, _POLICIES)),
        knobs.curly_brackets and "{" in text,
        knobs.lorem_ipsum and "lorem ipsum" in lower,
    )


def _has_words(line: str, knobs: Lines) -> bool:
    """Whether a line has words enough, and none too long."""
    least, longest = knobs.least_words, knobs.longest_word
    if longest and len(line) > longest and any(len(word) > longest for word in line.split()):
        return False
    if not least or len(line.split(None, least - 1)) >= least:
        return True
    return not line.isascii() and len(_LONE.findall(line)) >= least


def _objection(line: str, able: _Able) -> str | None:
    """Why the page of a line goes; scripts are passed over, whose lines go alone."""
    lower = line.lower() if able.lorem_ipsum or able.javascript else ""
    if able.lorem_ipsum and "lorem ipsum" in lower:
        return "c4: lorem ipsum"
    if able.curly_brackets and "{" in line and not (able.javascript and "javascript" in lower):
        return "c4: curly bracket"
    return None


def _is_notice(line: str, able: _Able) -> bool:
    """Whether a line is about JavaScript, cookies or terms of use."""
    if not (able.javascript or able.policies):
        return False
    lower = line.lower()
    if able.javascript and "javascript" in lower:
        return True
    return able.policies and any(map(lower.__contains__, _POLICIES))


def _sentences(lines: Iterable[str], least: int) -> int:
    """How many sentences the lines have; not counted beyond what is asked for."""
    count = 0
    for line in lines:
        if count >= least:
            break
        count += 1 + sum(1 for _ in islice(_NEXT.finditer(line), least))
    return count
