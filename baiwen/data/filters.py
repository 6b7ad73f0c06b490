"""Published heuristic filters: each a function of a document that returns why it goes, or None.

`PROSE` are for text, `CODE` for documents of the domain `code`; they run in this order and the
first that objects decides. In a recipe a filter is named to change a threshold or to switch it off:

    [filters]
    word_count = {least = 20}
    repeated_lines = false

C4: Raffel et al., 2020. Gopher: Rae et al., 2021, appendix A1.1. Codex: Chen et al., 2021, section
3.1. StarCoder: Li et al., 2023, section 3. FineWeb: Penedo et al., 2024, section 3.6.
"""

import inspect
import re
from collections.abc import Callable, Mapping

from baiwen import mistakes
from baiwen.data.document import CODE as CODE_DOMAIN
from baiwen.data.document import Document
from baiwen.errors import UserError

Filter = Callable[..., str | None]
Settings = Mapping[str, dict[str, float] | bool]  # filter -> its thresholds, or false for off

_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_BULLETS = ("-", "*", "•", "‣", "◦")
_GENERATED = re.compile(
    r"auto-?generated|automatically generated|generated (automatically|from)|do not edit", re.I
)
_GENERATED_LINES = 5  # first lines of a file, in which such words speak for the whole


def verdict(document: Document, settings: Settings) -> str | None:
    """Why the document goes, as the first filter of its domain that objects says it; else None."""
    for rule in CODE if document.domain == CODE_DOMAIN else PROSE:
        thresholds = settings.get(rule.__name__, True)
        if thresholds is False:
            continue
        reason = rule(document, **(thresholds if isinstance(thresholds, dict) else {}))
        if reason:
            return reason
    return None


def known(settings: Settings) -> Settings:
    """`settings`, or a `UserError` for a filter or a threshold that there is not."""
    rules = {rule.__name__: rule for rule in (*PROSE, *CODE)}
    for name, thresholds in settings.items():
        if name not in rules:
            hint = mistakes.nearest(name, list(rules))
            raise UserError(f"there is no filter {name!r}.{hint} There are: {', '.join(rules)}.")
        parameters = list(inspect.signature(rules[name]).parameters)[1:]
        for threshold in thresholds if isinstance(thresholds, dict) else ():
            if threshold not in parameters:
                hint = mistakes.nearest(threshold, parameters)
                listed = ", ".join(parameters) or "none"
                raise UserError(f"{name} has no threshold {threshold!r}.{hint} It has: {listed}.")
    return settings


def word_count(document: Document, least: int = 50, most: int = 100_000) -> str | None:
    """Too short to teach anything, or no single text (Gopher)."""
    count = len(document.words) + document.unspaced
    if count < least:
        return "too few words"
    return "too many words" if count > most else None


def mean_word_length(document: Document, least: float = 3, most: float = 10) -> str | None:
    """No words of a language (Gopher); only for scripts that write spaces."""
    if not document.spaced:
        return None
    mean = len("".join(document.words)) / max(len(document.words), 1)
    return None if least <= mean <= most else "word length"


def symbols(document: Document, most: float = 0.1) -> str | None:
    """More than one `#` or ellipsis to ten words (Gopher)."""
    text = document.text
    count = max(text.count("#"), text.count("...") + text.count("…"))
    return "symbols" if count > most * (len(document.words) + document.unspaced) else None


def bullets(document: Document, most: float = 0.9) -> str | None:
    """Lists without prose (Gopher)."""
    count = sum(line.lstrip().startswith(_BULLETS) for line in document.lines)
    return "bullets" if count > most * len(document.lines) else None


def ellipses(document: Document, most: float = 0.3) -> str | None:
    """Teasers: lines that end in an ellipsis (Gopher)."""
    count = sum(line.rstrip().endswith(("...", "…")) for line in document.lines)
    return "ellipses" if count > most * len(document.lines) else None


def letters(document: Document, least: float = 0.8) -> str | None:
    """Tables and numbers: words without a single letter (Gopher)."""
    if not document.spaced:
        return None
    mixed = [word for word in document.words if not word.isalpha()]
    without = sum(not any(map(str.isalpha, word)) for word in mixed)
    return "few letters" if without > (1 - least) * len(document.words) else None


def stop_words(document: Document, least: int = 2) -> str | None:
    """English without `the`, `of`, `and` ... is no sentence (Gopher); other languages pass."""
    if not document.spaced or document.meta.get("language", "en") != "en":
        return None
    seen: set[str] = set()
    for word in document.words:
        if word in _STOP_WORDS:
            seen.add(word)
            if len(seen) >= least:
                return None
    return "no stop words"


def repeated_lines(document: Document, most: float = 0.1) -> str | None:
    """Boilerplate: the share of characters in lines that came before (FineWeb)."""
    seen: set[str] = set()
    repeated = total = 0
    for line in document.lines:
        text = line.strip()
        total += len(text)
        repeated += len(text) if text in seen else 0
        seen.add(text)
    return "repeated lines" if repeated > most * total else None


def lorem_ipsum(document: Document) -> str | None:
    """A placeholder, not a text (C4)."""
    return "lorem ipsum" if "lorem ipsum" in document.text.lower() else None


def line_length(document: Document, most: int = 1000, mean: float = 100) -> str | None:
    """Data or minified code in the guise of source (Codex)."""
    lengths = [len(line) for line in document.text.split("\n")]
    if max(lengths) > most or sum(lengths) > mean * len(lengths):
        return "long lines"
    return None


def alphanumeric(document: Document, least: float = 0.25) -> str | None:
    """Source that is mostly signs (Codex; the share as in StarCoder)."""
    count = sum(map(str.isalnum, document.text))
    return "few alphanumeric" if count < least * len(document.text) else None


def generated(document: Document) -> str | None:
    """Written by a program, as its first lines say (Codex; the words as in StarCoder)."""
    head = "\n".join(document.text.split("\n", _GENERATED_LINES)[:_GENERATED_LINES])
    return "generated" if _GENERATED.search(head) else None


def characters(document: Document, least: int = 100) -> str | None:
    """An empty or nearly empty source file."""
    return "too short" if len(document.text) < least else None


PROSE: tuple[Filter, ...] = (
    word_count,
    mean_word_length,
    symbols,
    bullets,
    ellipses,
    letters,
    stop_words,
    repeated_lines,
    lorem_ipsum,
)
CODE: tuple[Filter, ...] = (characters, line_length, alphanumeric, generated)
