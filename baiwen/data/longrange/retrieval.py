"""Retrieval: a passage is asked for by the words in it, or by where it stands.

    keyword(parts, Random(0))       # Which passage above contains “lantern” and “harbour”? ...
    position(parts, Random(0))      # Which passage comes right after the words “...”? ...

A question has one right answer: the words occur together in one passage alone, in capitals or
not, and a quotation stands in the text once.
"""

import re
from collections.abc import Sequence
from random import Random

from baiwen.data.longrange import phrases
from baiwen.data.longrange.exercise import Exercise, Turn, Unfit
from baiwen.data.longrange.passages import language, starts, stripped
from baiwen.data.longrange.phrases import listed, phrased

SHORTEST = 20  # characters of a passage that is asked for
WORDS_TRIED = 8  # of a passage; the rarest of them are its keywords
MOST_WORDS = 4  # keywords in a question
WHOLE = 6  # characters of a Chinese clause that is a keyword as it stands, at most
QUOTED = 60  # characters of a quotation, at most
PASSAGES_TRIED = 20  # a question asked for, before a text is given up
NUMBERED_SHARE = 0.5  # of the questions for a position, over numbered passages
LABELS = ("[{}]", "({})", "#{}:", "§{}", "<{}>")  # one that the text has not

_WORD = re.compile(r"[^\W\d_]{4,}")
_CLAUSE = re.compile("[\u3400-\u9fff]{2,}")


def keyword(parts: Sequence[Sequence[str]], rng: Random, questions: int = 1) -> Exercise:
    """Passages asked for by words that occur together in none of the others."""
    pieces = [piece for part in parts for piece in part]
    text, begins = "".join(pieces), starts(pieces)
    spoken, small = language(text), [piece.lower() for piece in pieces]
    turns: list[Turn] = []
    for index in _tried(pieces, rng, questions):
        if len(turns) == questions:
            break
        if words := _keywords(pieces[index], small, rng):
            asked = phrased(phrases.KEYWORD, spoken, rng, words=listed(words, spoken))
            turns.append(Turn(*asked, *stripped(pieces[index], begins[index])))
    return _exercise("keyword", text, turns, "no words set a passage apart")


def position(parts: Sequence[Sequence[str]], rng: Random, questions: int = 1) -> Exercise:
    """Passages asked for by their neighbours, or by a number."""
    pieces = [piece for part in parts for piece in part]
    if rng.random() < NUMBERED_SHARE:
        return _by_number(pieces, rng, questions)
    text, begins = "".join(pieces), starts(pieces)
    spoken = language(text)
    turns: list[Turn] = []
    for index in _tried(pieces, rng, questions):
        if len(turns) == questions:
            break
        before = rng.random() < 0.5
        at = index + 1 if before else index - 1  # the neighbour that is quoted
        quote = quotation(pieces[at], text, tail=not before) if 0 <= at < len(pieces) else ""
        if quote:
            wording = phrases.BEFORE if before else phrases.AFTER
            asked = phrased(wording, spoken, rng, quote=quote)
            turns.append(Turn(*asked, *stripped(pieces[index], begins[index])))
    return _exercise("position", text, turns, "no quotation stands there once")


def quotation(piece: str, text: str, tail: bool = False) -> str:
    """The first or the last words of a passage, where they occur once in the text; else nothing."""
    lines = piece.strip().split("\n")
    line = lines[-1 if tail else 0].strip()
    quote = line[-QUOTED:] if tail else line[:QUOTED]
    if len(quote) < len(line) and language(quote) == "en":  # a whole number of words
        quote = quote.partition(" ")[2] if tail else quote.rpartition(" ")[0]
    return quote if len(quote) >= 6 and text.count(quote) == 1 else ""


def labels(count: int, text: str) -> list[str]:
    """Labels with the numbers from 1 on, in a form that does not occur in the text."""
    for form in LABELS:
        if not re.search(re.escape(form).replace(r"\{\}", r"\d+"), text):
            return [form.format(number) for number in range(1, count + 1)]
    raise Unfit("every form of a number occurs in the text")


def _by_number(pieces: Sequence[str], rng: Random, questions: int) -> Exercise:
    """Every passage has a number; one is asked for by it, or a number by its passage."""
    text = "".join(pieces)
    marks, spoken = labels(len(pieces), text), language(text)
    numbered = [f"{mark} {piece}" for mark, piece in zip(marks, pieces, strict=True)]
    begins = starts(numbered)
    turns: list[Turn] = []
    for index in _tried(pieces, rng, questions):
        if len(turns) == questions:
            break
        quote = quotation(pieces[index], text)
        passage, place = stripped(pieces[index], begins[index] + len(marks[index]) + 1)
        if not quote:
            continue
        if rng.random() < 0.5:
            asked = phrased(phrases.NUMBERED, spoken, rng, label=marks[index])
            turns.append(Turn(*asked, passage, place))
        else:
            asked = phrased(phrases.NUMBER_OF, spoken, rng, quote=quote)
            turns.append(Turn(*asked, marks[index], begins[index]))
    return _exercise("position", "".join(numbered), turns, "no quotation stands there once")


def _exercise(kind: str, context: str, turns: Sequence[Turn], reason: str) -> Exercise:
    if not turns:
        raise Unfit(reason)
    return Exercise(kind, language(context), context, tuple(turns))


def _tried(pieces: Sequence[str], rng: Random, questions: int) -> list[int]:
    """Different passages, at random, that are long enough to be asked for; whole ones first."""
    count = min(len(pieces), PASSAGES_TRIED * questions)
    chosen = rng.sample(range(len(pieces)), count)
    long = [index for index in chosen if len(pieces[index].strip()) >= SHORTEST]
    return sorted(long, key=lambda index: not _is_paragraph(index, pieces))


def _is_paragraph(index: int, pieces: Sequence[str]) -> bool:
    """Whether a passage is one paragraph, so that a reader sees where it begins and ends.

    The last one may have been cut.
    """
    begins = not index or pieces[index - 1].endswith("\n")
    ends = pieces[index].endswith("\n") and index + 1 < len(pieces)
    return begins and ends and "\n\n" not in pieces[index].strip()


def _keywords(piece: str, pieces: Sequence[str], rng: Random) -> list[str]:
    """The fewest of a passage's rarest words that only one of the `pieces` has together; or none.

    pieces: all passages in lower case, for a word is the same one in either.
    """
    words = _words(piece, rng)
    holders = {
        word: {at for at, each in enumerate(pieces) if word.lower() in each}
        for word in rng.sample(words, min(len(words), WORDS_TRIED))
    }
    rarest = sorted(holders, key=lambda word: len(holders[word]))
    for count in range(2, min(len(rarest), MOST_WORDS) + 1):
        chosen = rarest[:count]
        if len(set.intersection(*(holders[word] for word in chosen))) == 1:
            return rng.sample(chosen, count)
    return []


def _words(piece: str, rng: Random) -> list[str]:
    """The different words of a passage; of Chinese, that sets none apart, its short clauses.

    Where they are too few, a few characters out of each clause.
    """
    clauses = _CLAUSE.findall(piece)
    short = {clause for clause in clauses if len(clause) <= WHOLE}
    if len(short) >= MOST_WORDS:
        return sorted(short)
    found = [] if clauses else _WORD.findall(piece)
    for clause in clauses:
        size = min(len(clause), rng.randint(2, 4))
        at = rng.randrange(len(clause) - size + 1)
        found.append(clause[at : at + size])
    return sorted(set(found))
