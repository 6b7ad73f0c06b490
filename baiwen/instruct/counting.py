"""Counting, with the count said along the way: letters in a word, or a thing in a list.

    How many times does "n" occur in "banana"?            b a n1 a n2 a: 2
    How many of these are pear: fig, pear, sun, pear?     fig, pear 1, sun, pear 2: 2

The running count turns a sum over the whole list into one step after another.
"""

from random import Random

from baiwen.instruct.task import Task, chinese
from baiwen.instruct.words import NOUNS, ZH_NOUNS

# Difficulty: the length of a list; words are those of the closed list, three to seven letters.
FEWEST, MOST = 4, 7
KINDS_OF_THINGS = 3  # different things in a list
LETTER_SHARE = 0.4  # of the instances; the rest count things

LETTERS = (
    'How many times does "{0}" occur in "{1}"?',
    'How many letters "{0}" are in "{1}"?',
    'Count the letter "{0}" in "{1}".',
)
THINGS = (
    'How many times does "{}" occur in this list: {}?',
    'Count "{}" in this list: {}',
    "How many of these are {}: {}?",
)
ZH_THINGS = ("这里有几个“{}”：{}", "数一数“{}”出现几次：{}")


def produce(rng: Random) -> Task:
    """Count a letter of a word, or a thing in a list."""
    return _letters(rng) if rng.random() < LETTER_SHARE else _things(rng)


def _letters(rng: Random) -> Task:
    word = rng.choice(NOUNS)
    letter = rng.choice(word)
    return Task(
        kind="counting",
        prompt=rng.choice(LETTERS).format(letter, word),
        reply=f"{' '.join(tally(word, letter, ''))}: {word.count(letter)}",
        answer=str(word.count(letter)),
        verifier="number",
        key=f"{letter} in {word}",
    )


def _things(rng: Random) -> Task:
    in_chinese = chinese(rng)
    kinds = rng.sample(ZH_NOUNS if in_chinese else NOUNS, KINDS_OF_THINGS)
    things = rng.choices(kinds, k=rng.randint(FEWEST, MOST))
    wanted, count = kinds[0], things.count(kinds[0])
    comma = "、" if in_chinese else ", "
    return Task(
        kind="counting",
        prompt=rng.choice(ZH_THINGS if in_chinese else THINGS).format(wanted, comma.join(things)),
        reply=f"{comma.join(tally(things, wanted, ' '))}: {count}",
        answer=str(count),
        verifier="number",
        key=f"{wanted} in {' '.join(sorted(things))}",
    )


def tally(items: str | list[str], wanted: str, gap: str) -> list[str]:
    """The items, each `wanted` one followed by how many there were so far."""
    seen, marked = 0, []
    for item in items:
        seen += item == wanted
        marked.append(f"{item}{gap}{seen}" if item == wanted else item)
    return marked
