"""Repair: a part of a text is taken out, or its passages are out of order; the answer mends it.

fim(parts, Random(0))           # context.replace(mark, answer, 1) is the text
reorder(parts, Random(0))       # the labels' order, each with the first words of its passage
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

from baiwen.data.longrange import phrases
from baiwen.data.longrange.exercise import Exercise, Turn, Unfit
from baiwen.data.longrange.passages import language, stripped
from baiwen.data.longrange.phrases import phrased
from baiwen.data.longrange.retrieval import labels

MARKS = ("[...]", "____", "<missing>", "[gap]", "【……】")  # one that the text has not
SHORTEST_GAP, LONGEST_GAP = 20, 4_000  # characters; drawn evenly by their logarithm
GAP_SHARE = 8  # a gap is at most one part in so many of the text
GAPS_TRIED = 8
FEWEST, MOST = 3, 12  # passages that are put out of order
SHOWN = 40  # characters of each passage that stand in the answer


def fim(parts: Sequence[Sequence[str]], rng: Random, _questions: int = 1) -> Exercise:
    """A gap of any length anywhere in the text, between whole words."""
    text = "".join(piece for part in parts for piece in part)
    marks = [mark for mark in MARKS if mark not in text]
    if not marks:
        raise Unfit("every mark of a gap occurs in the text")
    mark, spoken = rng.choice(marks), language(text)
    start, end = _gap(text, spoken, rng)
    question, opening = phrased(phrases.FIM, spoken, rng, mark=mark)
    turn = Turn(question, opening, text[start:end], start)
    return Exercise("fim", spoken, f"{text[:start]}{mark}{text[end:]}", (turn,))


def reorder(parts: Sequence[Sequence[str]], rng: Random, _questions: int = 1) -> Exercise:
    """The longest document in a few numbered passages, shuffled, in between the other documents.

    Where there is but one document, all of it is shuffled.
    """
    longest = max(range(len(parts)), key=lambda index: sum(map(len, parts[index])))
    segments = _segments(parts[longest], rng)
    others = [piece for index, part in enumerate(parts) if index != longest for piece in part]
    order = list(range(len(segments)))
    while order == sorted(order):
        rng.shuffle(order)
    marks = labels(len(segments), "".join(map("".join, parts)))
    places = sorted(rng.randrange(len(others) + 1) for _ in order)
    context: list[str] = []
    for nth, (place, which) in enumerate(zip(places, order, strict=True)):
        context += others[places[nth - 1] if nth else 0 : place]
        context.append(_on_its_own(f"{marks[nth]} {segments[which]}", "".join(context[-1:])))
    context += others[places[-1] :]
    spoken = language("".join(segments))
    answer = "\n".join(
        f"{marks[order.index(which)]} {_beginning(segment)}"
        for which, segment in enumerate(segments)
    )
    question, opening = phrased(phrases.REORDER, spoken, rng)
    return Exercise("reorder", spoken, "".join(context), (Turn(question, opening, answer, None),))


def _gap(text: str, spoken: str, rng: Random) -> tuple[int, int]:
    """Where a gap begins and ends: words, without the white space around them."""
    longest = min(len(text) // GAP_SHARE, LONGEST_GAP)
    if longest < SHORTEST_GAP:
        raise Unfit("too short for a gap")
    for _ in range(GAPS_TRIED):
        length = round(math.exp(rng.uniform(math.log(SHORTEST_GAP), math.log(longest))))
        start = rng.randrange(len(text) - length + 1)
        end = start + length
        start, end = _words(text, start, end, apart=_spaced if spoken == "en" else _unbroken)
        gone, start = stripped(text[start:end], start)
        if gone:
            return start, start + len(gone)
    raise Unfit("no words in the gap")


def _words(text: str, start: int, end: int, apart: Callable[[str, str], bool]) -> tuple[int, int]:
    """What lies between two places, without the parts of words at its ends, which may be all.

    apart: whether a word may end and another begin between two characters, "" beyond the text.
    """
    start = next((i for i in range(start, end) if apart(text[max(i - 1, 0) : i], text[i])), end)
    end = next((i for i in range(end, start, -1) if apart(text[i : i + 1], text[i - 1])), start)
    return start, end


def _spaced(outside: str, _inside: str) -> bool:
    """In writing with spaces: words stand between them."""
    return not outside.strip()


def _unbroken(outside: str, inside: str) -> bool:
    """In Chinese: anywhere but within what is written in Latin letters and digits."""
    return not all(each.isascii() and each.isalnum() for each in (outside, inside))


def _segments(pieces: Sequence[str], rng: Random) -> list[str]:
    """The passages of a document in a few groups of about as many, all different."""
    count = rng.randint(FEWEST, min(max(len(pieces), FEWEST), MOST))
    if len(pieces) < count:
        raise Unfit(f"fewer than {FEWEST} passages")
    bounds = [len(pieces) * i // count for i in range(count + 1)]
    segments = ["".join(pieces[a:b]) for a, b in pairwise(bounds)]
    if len({segment.strip() for segment in segments}) < count:
        raise Unfit("equal passages")
    return segments


def _on_its_own(segment: str, before: str) -> str:
    """A segment that begins and ends a line, whatever stands before and behind it."""
    ended = segment if segment.endswith("\n") else f"{segment}\n\n"
    return ended if before.endswith("\n") or not before else f"\n\n{ended}"


def _beginning(segment: str) -> str:
    """The first words of a segment, on one line."""
    line = " ".join(segment[: 2 * SHOWN].split())
    if len(line) <= SHOWN:
        return line
    cut = line[:SHOWN]
    return (cut.rpartition(" ")[0] if language(cut) == "en" else "") or cut
