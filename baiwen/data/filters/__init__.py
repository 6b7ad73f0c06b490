"""Published heuristic filters: which documents go, and why.

    heuristics(table, {"word_count": {"least": 20}, "repeated_lines": False, "newlines": True})

A rule is a function of a page and thresholds that gives a verdict, or None where it has nothing to
object to. Rules stand in the files of their papers, each with its published thresholds:

    gopher, repetition, c4, fineweb     prose
    code                                documents of the domain `code`
    lists                               addresses and licences, of both

They run in the order of `PROSE` and `CODE`, the cheap ones first, and the first that objects
decides. In a recipe a rule is named to change its thresholds, to switch it off, or, for those of
`OFF`, on:

    [filters]
    word_count = {least = 20}
    repeated_lines = false
    line_punctuation = true

`c4.lines` and `privacy.mask` change texts and are steps of their own.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from baiwen import mistakes
from baiwen.data.document import CODE as CODE_DOMAIN
from baiwen.data.filters import c4, code, fineweb, gopher, lists, page, repetition, words
from baiwen.data.filters.page import Page
from baiwen.data.pipeline.step import Verdict, verdicts
from baiwen.errors import UserError

Rule = Callable[..., Verdict | None]
Setting = bool | dict[str, bool | float | str | list[str]]
Settings = Mapping[str, Setting]  # rule -> its thresholds, or false for off

PROSE: tuple[Rule, ...] = (
    *lists.RULES,
    *gopher.RULES,
    *repetition.RULES,
    *c4.RULES,
    *fineweb.RULES,
)
CODE: tuple[Rule, ...] = (*lists.RULES, *code.RULES)
NGRAMS: tuple[Rule, ...] = repetition.NGRAM_RULES  # of prose that the others leave, of its n-grams
ALL = tuple(dict.fromkeys((*PROSE, *NGRAMS, *CODE)))

# Rules that run where a recipe names them: they need a list, or fit a kind of text alone.
OFF = frozenset(
    (
        *lists.RULES,
        c4.curly_brackets,  # pages about programs have them
        fineweb.line_punctuation,  # for extracted web pages, a paragraph a line
        fineweb.short_lines,
        fineweb.newlines,
        code.comments,  # good code may have none
    )
)
_FITS: Mapping[type, tuple[str, tuple[type, ...]]] = {  # what may stand for a default of a type
    bool: ("true or false", (bool,)),
    int: ("a number", (int, float)),
    float: ("a number", (int, float)),
    tuple: ("a list of strings", (list, tuple)),
}
_BATCH = 1 << 18  # characters measured together, unless a document has more


def heuristics(table: pa.Table, settings: Settings) -> pa.Table:
    """A step: the verdict of the first rule that objects to each document.

    Reads text, domain, language and, for addresses and licences, meta; all but text may be absent.
    """
    prose, code_, ngrams = (_active(rules, settings) for rules in (PROSE, CODE, NGRAMS))
    found: list[Verdict | None] = []
    for batch in _batches(table):
        found += _judged(batch, prose, code_, ngrams)
    return verdicts(found)


def verdict(text: str, settings: Settings, **columns: str | None) -> Verdict | None:
    """The verdict on one document, of which `columns` are given beside the text."""
    row = {name: [value] for name, value in {"text": text, **columns}.items()}
    rule, value, bound = heuristics(pa.table(row), settings).to_pylist()[0].values()
    return Verdict(rule, value, bound) if rule else None


def known(settings: Settings) -> Settings:
    """`settings`, or a `UserError` for a rule, a threshold or a list that there is not."""
    rules = {rule.__name__: rule for rule in ALL}
    for name, thresholds in settings.items():
        if name not in rules:
            hint = mistakes.nearest(name, list(rules))
            raise UserError(f"there is no filter {name!r}.{hint} There are: {', '.join(rules)}.")
        if isinstance(thresholds, dict):
            _check(name, thresholds, list(inspect.signature(rules[name]).parameters.values())[1:])
    return settings


def _check(name: str, thresholds: Mapping[str, object], own: list[inspect.Parameter]) -> None:
    defaults = {parameter.name: parameter.default for parameter in own}
    for threshold, value in thresholds.items():
        if threshold not in defaults:
            hint = mistakes.nearest(threshold, list(defaults))
            listed = ", ".join(defaults) or "none"
            raise UserError(f"{name} has no threshold {threshold!r}.{hint} It has: {listed}.")
        kind, fits = _FITS[type(defaults[threshold])]
        if type(value) not in fits:
            raise UserError(f"{name}: {threshold} = {value!r} has to be {kind}.")


def files(settings: Settings) -> list[Path]:
    """The files of lists that the settings name, which the verdicts depend on."""
    given = (thresholds for thresholds in settings.values() if isinstance(thresholds, dict))
    named = (thresholds.get("files") for thresholds in given)
    return [Path(path) for paths in named if isinstance(paths, list) for path in paths]


def _active(rules: Sequence[Rule], settings: Settings) -> list[Rule]:
    """The rules that are on, with their thresholds."""
    active = []
    for rule in rules:
        thresholds = settings.get(rule.__name__, rule not in OFF)
        if thresholds is not False:
            active.append(partial(rule, **thresholds) if isinstance(thresholds, dict) else rule)
    return active


def _batches(table: pa.Table) -> Iterator[pa.Table]:
    """Rows of a table in a row, of `_BATCH` characters or one document."""
    start = size = 0
    for row, length in enumerate(pc.utf8_length(table["text"]).to_pylist()):
        if row > start and size + length > _BATCH:
            yield table.slice(start, row - start)
            start, size = row, 0
        size += length
    if start < table.num_rows:
        yield table.slice(start)


def _judged(
    table: pa.Table, prose: Sequence[Rule], code_: Sequence[Rule], ngrams: Sequence[Rule]
) -> list[Verdict | None]:
    found_words = words.split(_prose(table))
    documents = page.pages(table, page.counted(found_words))
    found = [_first(code_ if one.domain == CODE_DOMAIN else prose, one) for one in documents]
    left = [
        place
        for place, one in enumerate(documents)
        if not found[place] and one.domain != CODE_DOMAIN
    ]
    if ngrams and left:
        survivors = [documents[place] for place in left]
        measured = repetition.measured(found_words.of(left), survivors)
        for place, repeats in zip(left, measured, strict=True):
            found[place] = _first(ngrams, repeats)
    return found


def _prose(table: pa.Table) -> list[str]:
    """The texts whose words are looked at: none of code."""
    texts = table["text"].to_pylist()
    if "domain" not in table.column_names:
        return texts
    domains = table["domain"].to_pylist()
    return [
        "" if domain == CODE_DOMAIN else text for text, domain in zip(texts, domains, strict=True)
    ]


def _first(rules: Sequence[Rule], one: Page | repetition.Repeats) -> Verdict | None:
    for rule in rules:
        if found := rule(one):
            return found
    return None
