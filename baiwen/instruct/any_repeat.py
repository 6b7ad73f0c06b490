"""A word, again and again: how often is left open within bounds.

    Write "sun" from 3 to 5 times.                  sun sun sun sun
    Say "owl" at least 2 and at most 4 times.        owl owl

A kind of few demonstrations in `recipes/tiny`, which online RL goes on with.
"""

from random import Random

from baiwen.instruct.task import Task
from baiwen.instruct.words import NOUNS

# Difficulty: how often at least, and how many more times are right.
FEWEST, MOST = 2, 6
NARROWEST, WIDEST = 1, 3

PHRASINGS = (
    'Write "{}" from {} to {} times.',
    'Say "{}" at least {} and at most {} times.',
    'Repeat the word "{}" {} times or more, but no more than {} times.',
)


def produce(rng: Random) -> Task:
    """A noun and how often it may be said."""
    word, least = rng.choice(NOUNS), rng.randint(FEWEST, MOST)
    most = least + rng.randint(NARROWEST, WIDEST)
    return Task(
        kind="any_repeat",
        prompt=rng.choice(PHRASINGS).format(word, least, most),
        reply=" ".join([word] * rng.randint(least, most)),
        answer=[{"is": "repeats", "word": word, "count": least, "most": most}],
        verifier="instruction",
        key=f"{word} {least} {most}",
    )
