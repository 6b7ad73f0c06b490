"""Instructions that a program can check: the 25 kinds of IFEval (Zhou et al., 2023), in two modes.

    check("no, no", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]})     -> wrong

The truth is a row of IFEval as it is published, or any dict with its two lists; `prompt` is what
`combination:repeat_prompt` repeats where its own argument is missing. Two fields of ours choose:

    "mode"   "plain" (the default): the plain reading (`plain.py`), English and Chinese;
             "compat": the official checkers' verdicts (`compat.py`)
    "loose"  true: the answer may also pass without its first line, its last line, its asterisks

A right answer meets every instruction; an empty one meets none. An unknown id or mode, a missing,
unknown or unreadable argument is `Verdict.error`: nothing is drawn at random.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from baiwen.verify.ifeval import compat, language, plain
from baiwen.verify.verdict import Verdict

MODES = {"plain": plain, "compat": compat}


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_text, value))


def _letter(value: object) -> bool:
    return isinstance(value, str) and len(value.strip()) == 1


def _relation(value: object) -> bool:
    return value in ("less than", "at least")


def _language(value: object) -> bool:
    return isinstance(value, str) and value in language.codes()


# The published ids, their arguments and what those may be; a kind's function is named after it.
KINDS: dict[str, dict[str, Callable[[object], bool]]] = {
    "keywords:existence": {"keywords": _texts},
    "keywords:frequency": {"keyword": _text, "frequency": _count, "relation": _relation},
    "keywords:forbidden_words": {"forbidden_words": _texts},
    "keywords:letter_frequency": {
        "letter": _letter,
        "let_frequency": _count,
        "let_relation": _relation,
    },
    "language:response_language": {"language": _language},
    "length_constraints:number_sentences": {"num_sentences": _count, "relation": _relation},
    "length_constraints:number_paragraphs": {"num_paragraphs": _count},
    "length_constraints:number_words": {"num_words": _count, "relation": _relation},
    "length_constraints:nth_paragraph_first_word": {
        "num_paragraphs": _count,
        "nth_paragraph": _count,
        "first_word": _text,
    },
    "detectable_content:number_placeholders": {"num_placeholders": _count},
    "detectable_content:postscript": {"postscript_marker": _text},
    "detectable_format:number_bullet_lists": {"num_bullets": _count},
    "detectable_format:constrained_response": {},
    "detectable_format:number_highlighted_sections": {"num_highlights": _count},
    "detectable_format:multiple_sections": {"section_spliter": _text, "num_sections": _count},
    "detectable_format:json_format": {},
    "detectable_format:title": {},
    "combination:two_responses": {},
    "combination:repeat_prompt": {"prompt_to_repeat": _text},
    "startend:end_checker": {"end_phrase": _text},
    "startend:quotation": {},
    "change_case:capital_word_frequency": {
        "capital_frequency": _count,
        "capital_relation": _relation,
    },
    "change_case:english_capital": {},
    "change_case:english_lowercase": {},
    "punctuation:no_comma": {},
}


def check(answer: str, truth: Mapping[str, Any]) -> Verdict:
    """Does `answer` meet every instruction of `truth`, in its mode, strict or loose?"""
    found = verdicts(answer, truth)
    worst = (Verdict.error, Verdict.wrong, Verdict.undecided)
    return next((verdict for verdict in worst if verdict in found), Verdict.right)


def verdicts(
    answer: str, truth: Mapping[str, Any], mode: str | None = None, loose: bool | None = None
) -> list[Verdict]:
    """A verdict for each instruction of `truth`, in order: what IFEval's four metrics average.

    `mode` and `loose` go before the truth's own. A truth that is no row has one: `Verdict.error`.
    """
    if not isinstance(truth, Mapping) or not _is_row(truth):
        return [Verdict.error]
    module = MODES.get(mode or truth.get("mode", "plain"))
    loose = truth.get("loose", False) if loose is None else loose
    tries = [text for text in (_loosened(answer) if loose else [answer]) if text.strip()]
    rows = zip(truth["instruction_id_list"], truth["kwargs"], strict=True)
    return [_verdict(tries, module, kind, _given(kind, own, truth)) for kind, own in rows]


def _is_row(truth: Mapping[str, Any]) -> bool:
    ids, given = truth.get("instruction_id_list"), truth.get("kwargs")
    lists = isinstance(ids, list) and isinstance(given, list) and 0 < len(ids) == len(given)
    return lists and truth.get("mode", "plain") in tuple(MODES)


def _given(kind: object, own: object, truth: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of one instruction by name, or None where they are not those of its kind.

    A row of the published Parquet file holds the names of all kinds; those of others are null.
    """
    if kind not in tuple(KINDS) or not isinstance(own, Mapping | None):
        return None
    given = {name: value for name, value in (own or {}).items() if value is not None}
    if kind == "combination:repeat_prompt":
        given.setdefault("prompt_to_repeat", truth.get("prompt"))
    wanted = KINDS[str(kind)]
    readable = given.keys() == wanted.keys() and all(wanted[name](given[name]) for name in given)
    return given if readable else None


def _verdict(
    tries: list[str], module: ModuleType | None, kind: str, given: dict[str, Any] | None
) -> Verdict:
    """One instruction: right if any of `tries` meets it."""
    if module is None or given is None:
        return Verdict.error
    meets = getattr(module, kind.rpartition(":")[2])
    verdict = Verdict.wrong
    try:
        for text in tries:
            met = meets(text, **given)
            if met:
                return Verdict.right
            if met is None:
                verdict = Verdict.undecided
    except compat.NotWordsError:
        return Verdict.error
    return verdict


def _loosened(answer: str) -> list[str]:
    """The answer, without its first line, its last, both; and each without asterisks."""
    lines = answer.split("\n")
    cuts = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return list(dict.fromkeys(cuts + [cut.replace("*", "") for cut in cuts]))
