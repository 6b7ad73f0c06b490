"""Forms: what is read out of a reply, and what makes it no document.

    read("problem", "<problem>2 + 2?</problem><solution>\\\\boxed{4}</solution>")
        -> {"problem": "2 + 2?", "solution": "\\\\boxed{4}"}
    read("text", "Sure!")                                  -> {"text": "Sure!"}
    list(formed(drafts, Format()))                         # "Sure!": refused, format: too short

A reply without the marks that were asked for is read as a whole where the form has but one part; of
the others it is unreadable, and asked for again. Code of Python is compiled, never run, here.
"""

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from baiwen.config import Knobs
from baiwen.data.generate.drafts import Draft, apply
from baiwen.data.generate.prompts import Form
from baiwen.data.words import ngrams, words

STEP = "format"
PARTS: dict[Form, tuple[str, ...]] = {
    "text": ("text",),
    "questions": ("text",),
    "problem": ("problem", "solution"),
    "exercise": ("exercise", "program", "tests"),
}
GRAM = 5  # words in a row that a text should not say again and again
EDGE = 300  # characters at either end where a model speaks of itself
CHINESE = re.compile(r"[\u4e00-\u9fff]")
LETTER = re.compile(r"[^\W\d_]")
_FENCE = re.compile(r"```[\w+-]*\n(.*?)\n?```", re.DOTALL)
_TURN = re.compile(  # a line that begins a question, or an answer
    r"\W*(?:(?P<question>question|q|问题?)|answer|a|答案?)\s*\d*\W*?[:：]", re.IGNORECASE
)
# How models speak of what they do, and refuse it; ours, after what they say.
_ASIDE = re.compile(
    r"^\W*(?:sure|certainly|of course|absolutely|okay|ok)\b[,!.:]"
    r"|\bhere(?:'s| is| are) (?:the|a|an|my|your) (?:\w+ ){0,4}"
    r"(?:text|version|rewrite|summary|section|document|pairs|problem|exercise)\b"
    r"|\b(?:let me know if|hope this helps|feel free to ask|as requested)\b"
    r"|^\W*(?:好的|当然|没问题)[，,！!。：:]|以下是(?:我|为您|根据|改写|重写)|希望(?:这|以上).{0,8}有(?:所)?帮助",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi(?:'m| am) sorry,? (?:but )?i|\bi (?:cannot|can't|am unable to|'m unable to) "
    r"(?:help|assist|write|provide|comply|fulfil|create|generate|do)\b"
    r"|作为(?:一个|一款)?(?:AI|人工智能|语言模型|大语言模型)|(?:抱歉|对不起)，?我(?:无法|不能)",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"\{(?:document|topic)\}"
    r"|(?<![\w)\]])\[(?:insert|your|name|date|topic|此处)[^\]\n]{0,40}\](?![(\[])"
    r"|lorem ipsum|\bTODO\b"
    r"|</?(?:text|document|problem|solution|exercise|program|tests)\b[^>\n]{0,20}>",
    re.IGNORECASE,
)


class Format(Knobs):
    """What every document keeps to; not reported."""

    least_characters: Annotated[int, Field(gt=0)] = 200  # of its text
    least_pairs: Annotated[int, Field(gt=0)] = 2  # of question and answer
    least_tests: Annotated[int, Field(gt=0)] = 3  # of an exercise
    least_distinct: Annotated[float, Field(ge=0, le=1)] = 0.6  # share of its 5-grams


def read(form: Form, reply: str) -> dict[str, str] | None:
    """The parts of a reply; None where one of them is missing."""
    names = PARTS[form]
    found = {name: _between(name, reply) for name in names}
    if len(names) == 1 and found[names[0]] is None:
        return {names[0]: reply.strip()} if reply.strip() else None
    parts = {name: part for name, part in found.items() if part}
    if len(parts) < len(names):
        return None
    return {name: _bare(part) if form == "exercise" else part for name, part in parts.items()}


def formed(drafts: Iterable[Draft], knobs: Format) -> Iterator[Draft]:
    """The drafts with their texts; refused is what is no document by its form."""

    def step(batch: Sequence[Draft]) -> list[Draft]:
        whole = [replace(draft, text=written(draft)) for draft in batch]
        shares = distinct([draft.text for draft in whole])
        return [_formed(draft, knobs, share) for draft, share in zip(whole, shares, strict=True)]

    return apply(drafts, step)


def written(draft: Draft) -> str:
    """The text of the document that the parts of a draft make."""
    parts = draft.parts
    match draft.prompt.form:
        case "problem":
            return f"{parts['problem']}\n\n{parts['solution']}"
        case "exercise":
            told = textwrap.indent(parts["exercise"], "# ", lambda _: True)
            return f"{told}\n\n{parts['program'].strip()}\n\n\n{parts['tests'].strip()}\n"
        case _:
            return parts["text"]


def distinct(texts: Sequence[str]) -> list[float]:
    """The share of each text's n-grams that it has not said before; 1 where it has none."""
    grams, bounds = ngrams(words(pa.array(texts, pa.large_string())), GRAM)
    spans = pairwise(bounds)
    return [len(np.unique(grams[a:b])) / (b - a) if b > a else 1.0 for a, b in spans]


def _formed(draft: Draft, knobs: Format, share: float) -> Draft:
    text = draft.text
    if draft.reply and draft.reply.cut:
        return draft.refused(STEP, "cut off")
    if len(text) < knobs.least_characters:
        return draft.refused(STEP, "too short", len(text), knobs.least_characters)
    edges = text if len(text) <= 2 * EDGE else f"{text[:EDGE]}\n{text[-EDGE:]}"
    if _REFUSAL.search(edges):
        return draft.refused(STEP, "a refusal")
    if _ASIDE.search(edges):
        return draft.refused(STEP, "speaks to who asked")
    if _OPEN.search(draft.parts.get("exercise", text)):  # programs have d[name], [name for ...]
        return draft.refused(STEP, "a place left open")
    if share < knobs.least_distinct:
        return draft.refused(STEP, "repeats itself", share, knobs.least_distinct)
    if other := _other_language(draft):
        return draft.refused(STEP, "another language", other, 0.5)
    return _complete(draft, knobs)


def _complete(draft: Draft, knobs: Format) -> Draft:
    """The draft, refused where its form wants more."""
    match draft.prompt.form:
        case "questions":
            pairs = _pairs(draft.text)
            if pairs < knobs.least_pairs:
                return draft.refused(STEP, "too few questions", pairs, knobs.least_pairs)
        case "problem":
            if "\\boxed{" not in draft.parts["solution"]:
                return draft.refused(STEP, "no final answer")
        case "exercise":
            if not _compiles(draft.parts["program"]):
                return draft.refused(STEP, "no program")
            tests = _asserted(draft.parts)
            if tests < knobs.least_tests:
                return draft.refused(STEP, "too few tests", tests, knobs.least_tests)
    return draft


def _pairs(text: str) -> int:
    """How many questions have an answer after them."""
    turns = filter(None, map(_TURN.match, text.splitlines()))
    asked = (turn["question"] is not None for turn in turns)
    return sum(question and not answer for question, answer in pairwise(asked))


def _other_language(draft: Draft) -> float:
    """The share of letters that are of the wrong script, where most are; else 0."""
    if draft.prompt.form == "exercise":
        return 0.0
    letters = LETTER.findall(draft.text)
    chinese = len(CHINESE.findall(draft.text)) / max(len(letters), 1)
    wrong = 1 - chinese if draft.prompt.language == "zh" else chinese
    return wrong if wrong > 0.5 else 0.0


def _asserted(parts: Mapping[str, str]) -> int:
    """How many assertions the tests are; none where they are no Python."""
    try:
        tree = ast.parse(parts["tests"])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    return sum(isinstance(node, ast.Assert) for node in tree.body)


def _compiles(source: str) -> bool:
    try:
        return bool(ast.parse(source).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _between(name: str, reply: str) -> str | None:
    """What stands between the last pair of these marks."""
    found = re.findall(rf"<{name}>(.*?)</{name}>", reply, re.DOTALL | re.IGNORECASE)
    return found[-1].strip() if found else None


def _bare(text: str) -> str:
    """Code without the fence around it."""
    found = _FENCE.fullmatch(text)
    return found[1] if found else text
