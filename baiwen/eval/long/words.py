"""RULER's two tasks of counting: words of a numbered list, and coded words of a text.

    common words      ten words stand in the list 30 times each, all others 3 times
    frequent words    six random letters each; the word of rank k stands there in proportion to k^-2

Source: NVIDIA/RULER, scripts/data/synthetic/{common,freq}_words_extraction.py. Below 4,096 tokens
the ten words stand there 6 times and the others once, as there.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import chain, repeat
from random import Random
from string import ascii_lowercase

from baiwen.errors import UserError
from baiwen.eval.long import marks
from baiwen.eval.long.haystack import Haystack
from baiwen.eval.long.puzzle import Puzzle
from baiwen.tokenizer.tokenizer import Tokenizer

COMMON = 10  # words that are asked for
SHORT = 4096  # tokens, below which words stand there less often
COMMON_ROOM, FREQUENT_ROOM = 120, 50  # tokens of an answer
FREQUENT = 3  # coded words that are asked for
CODE = 6  # letters of a coded word
NOISE = "..."  # the most frequent of all, which nobody asks for
TOKENS_A_CODE = 50  # of the length, for each different coded word
LIST = (
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n"
)
LIST_QUESTION = "\nQuestion: What are the 10 most common words in the above list?"
LIST_CUE = " Answer: The top 10 words that appear most often in the list are:"
CODED = (
    "Read the following coded text and track the frequency of each coded word. Find the three most "
    "frequently appeared coded words."
)
CODED_QUESTION = (
    "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three "
    "most frequently appeared words in the above coded text?"
)
CODED_CUE = (
    " Answer: According to the coded text above, the three most frequently appeared words are:"
)


def common(stack: Haystack, rng: Random, length: int) -> Puzzle:
    """The ten words of a list that stand there most often; a solved instance stands ahead."""
    words = rng.sample(stack.words, len(stack.words))
    asked, others = words[:COMMON], words[COMMON:]
    often, seldom = (6, 1) if length < SHORT else (30, 3)
    seed = rng.getrandbits(64)
    return Puzzle(
        before=f"{_example(others, rng, length)}\n{LIST}",
        body=lambda room: _list(stack, asked, others, (often, seldom), Random(seed), room),
        after=LIST_QUESTION,
        cue=LIST_CUE,
        truth=tuple(asked),
        official=marks.every,
        strict=marks.listed(marks.WORDS, among=stack.words),
        room=COMMON_ROOM,
    )


def frequent(tokenizer: Tokenizer, rng: Random, length: int) -> Puzzle:
    """The three coded words of a text that stand there most often."""
    wanted = max(length // TOKENS_A_CODE, FREQUENT + 2)
    codes: dict[str, None] = {NOISE: None}
    while len(codes) < wanted:
        codes["".join(rng.choices(ascii_lowercase, k=CODE))] = None
    ranked, seed = list(codes), rng.getrandbits(64)
    return Puzzle(
        before=CODED,
        body=lambda room: _coded(tokenizer, ranked, Random(seed), room),
        after=CODED_QUESTION,
        cue=CODED_CUE,
        truth=tuple(ranked[1 : 1 + FREQUENT]),
        official=marks.every,
        strict=marks.listed(marks.WORDS, among=ranked),
        room=FREQUENT_ROOM,
    )


def _list(
    stack: Haystack,
    asked: list[str],
    others: list[str],
    times: tuple[int, int],
    rng: Random,
    room: int,
) -> list[int]:
    """The list in exactly `room` ids; what is cut is its last entry, and none of the ten."""
    often, seldom = times
    entries = asked * often
    spare = room - len(_joined(stack.tokenizer, entries))
    if spare < 0:
        raise UserError(f"a text of {room} tokens has no room for {COMMON} words {often} times")
    for taken, word in enumerate(others):
        added = [word] * seldom
        cost = len(_joined(stack.tokenizer, added, first=COMMON * often + taken * seldom))
        if cost > spare:
            rng.shuffle(entries)
            return _joined(stack.tokenizer, entries + added)[:room]
        entries += added
        spare -= cost
    raise UserError(
        f"haystack = {stack.name} has {len(stack.words):,} different words, too few for a list of "
        f"{room:,} tokens; give a longer text"
    )


def _joined(tokenizer: Tokenizer, words: Sequence[str], first: int = 0) -> list[int]:
    """A numbered list in ids."""
    return tokenizer.encode(_numbered(words, first))


def _numbered(words: Sequence[str], first: int = 0) -> str:
    return "".join(f" {number}. {word}" for number, word in enumerate(words, first + 1))


def _example(others: list[str], rng: Random, length: int) -> str:
    """A small list, the question and its answer."""
    count, often, seldom = (20, 3, 1) if length < SHORT else (40, 10, 3)
    words = others[-count:]
    entries = words[:COMMON] * often + words[COMMON:] * seldom
    rng.shuffle(entries)
    return f"{LIST}{_numbered(entries)}{LIST_QUESTION}{LIST_CUE}{_numbered(words[:COMMON])}"


def _coded(tokenizer: Tokenizer, ranked: list[str], rng: Random, room: int) -> list[int]:
    """The coded text in exactly `room` ids; what is left over is noise."""
    ids = {code: tokenizer.encode(f" {code}") for code in ranked}

    def cost(words: int) -> int:
        return sum(n * len(ids[code]) for n, code in zip(_zipf(words, ranked), ranked, strict=True))

    words = bisect_right(range(3 * room), room, key=cost) - 1
    counts = _zipf(words, ranked)
    if counts[FREQUENT] <= counts[FREQUENT + 1]:
        raise UserError(f"a text of {room} tokens is too short to tell its frequent words apart")
    text = list(chain.from_iterable(map(repeat, ranked, counts)))
    rng.shuffle(text)
    spare = room - cost(words)
    return [token for code in [*text, *[NOISE] * spare] for token in ids[code]][:room]


def _zipf(words: int, ranked: Sequence[str]) -> list[int]:
    """How often each rank occurs among so many words: the zeta distribution with exponent 2."""
    return [int(words * 6 / (math.pi * rank) ** 2) for rank in range(1, len(ranked) + 1)]
