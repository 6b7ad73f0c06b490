"""The kinds of IFEval as the official checkers decide them, their oddities included.

    existence("concatenate", ["cat"])         -> True: keywords are patterns found anywhere
    number_bullet_lists("---", 1)             -> True

After google-research/instruction_following_eval, without nltk, and without its patterns where those
are quadratic. What cannot be equal: a checker with an argument missing draws a random one there
(`Verdict.error` here), and one that is asked for "#" a random letter ("#" is counted here);
`langdetect` has a random seed there; Punkt's table of spellings is not read here (see `punkt`).
"""

import json
import re

from baiwen.verify import punkt
from baiwen.verify.ifeval import language as languages
from baiwen.verify.ifeval.plain import OPTIONS, READ, compare, some


class NotWordsError(ValueError):
    """A keyword that is a pattern of more than words and full stops."""


def existence(answer: str, keywords: list[str]) -> bool:
    """Every keyword, a pattern, is found anywhere."""
    return all(_pattern(keyword).search(answer) for keyword in keywords)


def frequency(answer: str, keyword: str, frequency: int, relation: str) -> bool:
    """The keyword, a pattern, is found so often, within words too."""
    return compare(len(_pattern(keyword.strip()).findall(answer)), relation, frequency)


def forbidden_words(answer: str, forbidden_words: list[str]) -> bool:
    """No word, a pattern, is found between word boundaries."""
    return not any(_pattern(word, r"\b").search(answer) for word in forbidden_words)


def letter_frequency(answer: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """The letter occurs so often in the lowered answer."""
    return compare(answer.lower().count(letter.lower()), let_relation, let_frequency)


def response_language(answer: str, language: str) -> bool:
    """What `langdetect` says; a text without letters passes."""
    return languages.detect(answer) in (None, language)


def number_sentences(answer: str, num_sentences: int, relation: str) -> bool:
    """Punkt's sentences."""
    return compare(some(punkt.cut(answer[:READ]), num_sentences), relation, num_sentences)


def number_words(answer: str, num_words: int, relation: str) -> bool:
    """Runs of word characters: "don't" is two, a run of Chinese is one."""
    return compare(len(re.findall(r"\w+", answer)), relation, num_words)


def number_paragraphs(answer: str, num_paragraphs: int) -> bool:
    """Parts between `***`, wherever that stands."""
    parts = [bool(part.strip()) for part in answer.split("***")]
    return sum(parts) == num_paragraphs and all(parts[1:-1])


def nth_paragraph_first_word(
    answer: str, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Filled parts between two line breaks are counted, but empty ones have a place as well."""
    parts = answer.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    if nth_paragraph > count or not parts[nth_paragraph - 1].strip():
        return False
    word = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    first = re.split("[.,?!'\"]", word, maxsplit=1)[0].lower()
    return count == num_paragraphs and first == first_word.lower()


def number_placeholders(answer: str, num_placeholders: int) -> bool:
    """Brackets that close on their line, empty ones too."""
    closed = (part for line in answer.split("\n") for part in line.split("]")[:-1])
    return sum("[" in part for part in closed) >= num_placeholders


def postscript(answer: str, postscript_marker: str) -> bool:
    """The marker is found anywhere in the lowered answer."""
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = postscript_marker.strip()
    wanted = re.compile(known[marker]) if marker in known else _pattern(marker.lower())
    return bool(wanted.search(answer.lower()))


def number_bullet_lists(answer: str, num_bullets: int) -> bool:
    """Lines that begin with a dash or with a single star."""
    stars = re.findall(r"^[^\S\n]*\*[^*].*$", answer, re.MULTILINE)
    dashes = re.findall(r"^[^\S\n]*-", answer, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def constrained_response(answer: str) -> bool:
    """One of the three options is found anywhere."""
    return any(option in answer for option in OPTIONS)


def number_highlighted_sections(answer: str, num_highlights: int) -> bool:
    """Whatever stands between two stars of a line, plus what stands between two double stars."""
    single = re.findall(r"\*([^\n*]*)\*", answer)
    double = re.findall(r"\*\*([^\n*]*)\*\*", answer)
    return sum(bool(found.strip()) for found in single + double) >= num_highlights


def multiple_sections(answer: str, section_spliter: str, num_sections: int) -> bool:
    """The word, a pattern, and a number, anywhere."""
    found = _pattern(section_spliter.strip(), after=r"\s?\d+", flags=0).findall(answer)
    return len(found) >= num_sections


def json_format(answer: str) -> bool:
    """Python's JSON, with one fence around it."""
    text = answer.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(answer: str) -> bool:
    """`<<`, something but angular brackets, `>>` on one line."""
    for line in answer.split("\n"):
        opened, closed = line.find("<<"), line.rfind(">>")
        if 0 <= opened < closed - 2 and line[opened : closed + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


def two_responses(answer: str) -> bool:
    """Two filled parts between `******`, not the same."""
    parts = [part.strip() for part in answer.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def repeat_prompt(answer: str, prompt_to_repeat: str) -> bool:
    """The lowered answer begins with the lowered prompt."""
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(answer: str, end_phrase: str) -> bool:
    """The lowered answer ends with the phrase, double quotes aside."""
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(answer: str) -> bool:
    """A straight double quote at both ends."""
    answer = answer.strip()
    return len(answer) > 1 and answer[0] == answer[-1] == '"'


def english_capital(answer: str) -> bool:
    """No small letter, and English to `langdetect`."""
    return answer.isupper() and languages.detect(answer) in (None, "en")


def english_lowercase(answer: str) -> bool:
    """No capital letter, and English to `langdetect`."""
    return answer.islower() and languages.detect(answer) in (None, "en")


def capital_word_frequency(answer: str, capital_frequency: int, capital_relation: str) -> bool:
    """Tokens of the Penn Treebank in capitals."""
    found = (
        token.isupper() for sentence in punkt.cut(answer[:READ]) for token in _treebank(sentence)
    )
    return compare(sum(found), capital_relation, capital_frequency)


def no_comma(answer: str) -> bool:
    """No ASCII comma."""
    return "," not in answer


# The Penn Treebank's tokens as nltk cuts them, as far as it matters to capitals: punctuation stands
# alone, "IT'S" is "IT" and "'S", "CANNOT" is "CAN" and "NOT".
_APART = re.compile(r"[«»“”„‘’;@#$%&?!*\"<>‒-―]|[\[\](){}]|\.{2,}|--|`+|''|[:,](?!\d)")
_CLITIC = re.compile(r"(?<=[^'\s])('[sSmMdD]|'ll|'LL|'re|'RE|'ve|'VE|n't|N'T)(?=\s|$)")
_CONTRACTION = re.compile(r"\b(can|gim|gon|got|lem|wan)(not|me|na|ta)\b", re.IGNORECASE)
_CONTRACTED = frozenset(("cannot", "gimme", "gonna", "gotta", "lemme", "wanna"))


def _treebank(sentence: str) -> list[str]:
    text = _APART.sub(r" \g<0> ", re.sub(r"\.(?=[\])}>\"'»”’\s]*$)", " . ", sentence))
    text = _CLITIC.sub(r" \1", text)
    return _CONTRACTION.sub(_apart, text).split()


def _apart(found: re.Match[str]) -> str:
    whole = found[0].lower() in _CONTRACTED
    return f"{found[1]} {found[2]}" if whole else found[0]


def _pattern(
    keyword: str, around: str = "", after: str = "", flags: int = re.IGNORECASE
) -> re.Pattern[str]:
    """A keyword as the pattern that the official checkers take it for.

    Words, blanks and full stops match in linear time; any other operator is refused, as what it
    would do is no property of the answer.
    """
    if re.search(r"[\[\]\\^$|?*+(){}]", keyword):
        raise NotWordsError(keyword)
    return re.compile(around + keyword + around + after, flags)
