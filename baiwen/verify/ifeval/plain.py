"""The 25 kinds of IFEval (Zhou et al., 2023) by the plain reading of each instruction.

    number_highlighted_sections("2*3*4 and 5*6*7", 1)     -> False: nothing is highlighted
    existence("concatenate", ["cat"])                     -> False: another word

Each function takes the answer and the published arguments by their names. True, False, or None
where it cannot be told. Full-width punctuation counts as what it stands for, Chinese has no blanks
between words, and the words that begin a postscript or a section may be Chinese.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

from baiwen.verify import json_value
from baiwen.verify.ifeval import language as languages
from baiwen.verify.text import paragraphs, phrase, sentences, words

MARKUP = " \t\r\n#>*_`~"  # what Markdown puts around a line or a word
QUOTES = "\"'“”‘’「」『』"
START = r"^[ \t#>*_\"'“‘「-]*"  # where a line begins, behind its markup
COMMAS = re.compile(
    "[,،、︐︑﹐﹑，､]"
)  # every comma of Unicode that English or Chinese text meets
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
CHINESE_OPTIONS = ("我的答案是肯定的。", "我的答案是否定的。", "我的答案是不确定的。")
READ = 100_000  # characters in which sentences are counted: more than a thousand of them


def compare(count: int, relation: str, wanted: int) -> bool:
    """The two relations that IFEval publishes: "less than" and "at least"."""
    return count < wanted if relation == "less than" else count >= wanted


def some(found: Iterator[str], most: int) -> int:
    """How many there are, counted no further than `most`."""
    return sum(1 for _ in islice(found, most))


# keywords


def existence(answer: str, keywords: list[str]) -> bool:
    """Every keyword occurs as a whole word (or words in a row), in any case."""
    answer = _nfc(answer)
    return all(phrase(keyword).search(answer) for keyword in keywords)


def frequency(answer: str, keyword: str, frequency: int, relation: str) -> bool:
    """The keyword occurs so often, as a whole word."""
    return compare(len(phrase(keyword).findall(_nfc(answer))), relation, frequency)


def forbidden_words(answer: str, forbidden_words: list[str]) -> bool:
    """None of them occurs as a whole word."""
    answer = _nfc(answer)
    return not any(phrase(word).search(answer) for word in forbidden_words)


def letter_frequency(answer: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """The character occurs so often, in either case."""
    count = _nfc(answer).casefold().count(letter.casefold())
    return compare(count, let_relation, let_frequency)


# language


def response_language(answer: str, language: str) -> bool | None:
    """The answer is in this language; None where it is too short to tell."""
    found = languages.sure(answer)
    return None if found is None else found == language.partition("-")[0]


# length_constraints


def number_sentences(answer: str, num_sentences: int, relation: str) -> bool:
    """So many sentences, as `text.sentences` counts."""
    return compare(some(sentences(answer[:READ]), num_sentences), relation, num_sentences)


def number_words(answer: str, num_words: int, relation: str) -> bool:
    """So many words; each Chinese character is one."""
    return compare(len(words(answer)), relation, num_words)


def number_paragraphs(answer: str, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs with lines of `***` between them (or around them)."""
    parts = re.split(r"^[^\S\n]*\*{3}[^\S\n]*$", answer, flags=re.MULTILINE)
    filled = [bool(words(part)) for part in parts]
    return sum(filled) == num_paragraphs and all(filled[1:-1])


def nth_paragraph_first_word(
    answer: str, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Exactly so many paragraphs with empty lines between, and the nth begins with this word."""
    found = paragraphs(answer)
    if len(found) != num_paragraphs or not 1 <= nth_paragraph <= num_paragraphs:
        return False
    start = _nfc(found[nth_paragraph - 1]).lstrip(MARKUP + QUOTES)
    return bool(phrase(first_word).match(start))


# detectable_content


def number_placeholders(answer: str, num_placeholders: int) -> bool:
    """At least so many `[placeholders]` with text in them, `［］` and `【】` too; no links."""
    found = re.findall(r"[\[［【]([^\[\]［］【】\n]+)[\]］】](?!\()", answer)
    return sum(map(bool, map(words, found))) >= num_placeholders


def postscript(answer: str, postscript_marker: str) -> bool:
    """A line begins with the marker (blanks within it are free), and text follows."""
    marker = phrase(" ".join("".join(_nfkc(postscript_marker).split())), gap=r"[^\S\n]?")
    text = _nfkc(answer)
    found = re.search(START + marker.pattern, text, re.MULTILINE | re.IGNORECASE)
    return bool(found and words(text[found.end() :]))


# detectable_format


def number_bullet_lists(answer: str, num_bullets: int) -> bool:
    """Exactly so many lines that are a bullet, a blank and text: a rule `---` is none."""
    found = re.findall(r"^[\"“]?[^\S\n]*[-*+•●·][^\S\n]+(?=.*[^\s*_-])", answer, re.MULTILINE)
    return len(found) == num_bullets


def constrained_response(answer: str) -> bool:
    """The answer is one of the three options, in English or Chinese, and nothing else."""
    plain = _nfc(answer).strip(MARKUP + QUOTES)
    return plain in OPTIONS or plain in CHINESE_OPTIONS


def number_highlighted_sections(answer: str, num_highlights: int) -> bool:
    """At least so many `*highlights*` as Markdown reads them; a `**bold**` one is one."""
    return len(_HIGHLIGHT.findall(answer)) >= num_highlights


def multiple_sections(answer: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many lines begin with the word and another number: `Section 2`, `第二节`."""
    word = re.escape(section_spliter.strip())
    number = r"[ \t]*(\d{1,9}|[一二三四五六七八九十百]{1,9})"
    starts = rf"{START}(?:{word}{number}|第{number}[ \t]*{word})"
    found = re.findall(starts, answer, re.MULTILINE)
    return len({after or before for after, before in found}) >= num_sections


def json_format(answer: str) -> bool:
    """The whole answer is a JSON object or array, perhaps in a code fence."""
    try:
        return isinstance(json_value.parse(answer), dict | list)
    except ValueError:
        return False


def title(answer: str) -> bool:
    """A title in `<<double angular brackets>>`, or a line that is `《one》`."""
    angular = re.findall(r"<<([^<>\n]+)>>", answer.replace("＜", "<").replace("＞", ">"))
    chinese = re.findall(r"^[ \t#*_]*《([^《》\n]+)》[ \t*_]*$", answer, re.MULTILINE)
    return any(map(words, angular + chinese))


# combination


def two_responses(answer: str) -> bool:
    """Exactly two answers, not the same, with `******` between them."""
    first, *rest = (part.strip() for part in answer.strip().strip("*").split("******"))
    return len(rest) == 1 and bool(words(first) and words(rest[0])) and first != rest[0]


def repeat_prompt(answer: str, prompt_to_repeat: str) -> bool:
    """The request word for word, case and blanks aside, then an answer."""
    request = " ".join(_nfc(prompt_to_repeat).casefold().split())
    said = " ".join(_nfc(answer).casefold().split())
    return said.startswith(request) and bool(words(said[len(request) :]))


# startend


def end_checker(answer: str, end_phrase: str) -> bool:
    """The last words are these, in any case; quotes and Markdown around them do not count."""
    said, wanted = (
        " ".join(_nfc(text).casefold().split()).strip(MARKUP + QUOTES)
        for text in (answer, end_phrase)
    )
    if not said.endswith(wanted):
        return False
    return bool(phrase(wanted).match(said, len(said) - len(wanted)))


def quotation(answer: str) -> bool:
    """Double quotation marks around the whole answer: `"..."`, `“...”` or `＂...＂`."""
    answer = answer.strip()
    return len(answer) > 2 and (answer[0], answer[-1]) in {('"', '"'), ("“", "”"), ("＂", "＂")}


# change_case, punctuation


def english_capital(answer: str) -> bool:
    """English (as far as one can tell) without a small letter."""
    return answer.isupper() and _english(answer)


def english_lowercase(answer: str) -> bool:
    """English (as far as one can tell) without a capital letter."""
    return answer.islower() and _english(answer)


def capital_word_frequency(answer: str, capital_frequency: int, capital_relation: str) -> bool:
    """So many words in capitals; a hyphenated one is one word, "I" is one."""
    found = [word for word in _HYPHENATED.findall(answer) if word.isupper()]
    return compare(len(found), capital_relation, capital_frequency)


def no_comma(answer: str) -> bool:
    """No comma of any script: `,` `，` `、` ..."""
    return not COMMAS.search(answer)


_HYPHENATED = re.compile(r"\w+(?:[-'’]\w+)*")
# A star opens a highlight where text follows it and no letter stands before it, save a Chinese one;
# it closes one the other way round.
_OPEN, _CLOSE = r"(?<![^\W\u3400-\u9fff*])", r"(?![^\W\u3400-\u9fff])"
_HIGHLIGHT = re.compile(rf"{_OPEN}(\*{{1,3}})(?=[^\s*])[^*\n]*[^\s*]\1{_CLOSE}")


def _english(answer: str) -> bool:
    return languages.sure(answer) in (None, "en") and bool(re.search("[A-Za-z]", answer))


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
