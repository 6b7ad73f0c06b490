"""Words in alphabetical order.

    Sort these words from A to Z: tree, apple, river      apple, river, tree

A token is not its letters: which of two words comes first is learnt word by word.
"""

from random import Random

from baiwen.instruct.task import Task
from baiwen.instruct.words import NOUNS

# Difficulty: how many words. Which come first, a model has to know of each word.
FEWEST, MOST = 3, 4

PHRASINGS = (
    "Sort these words in alphabetical order: {}",
    "Sort these words from A to Z: {}",
    "Put {} in alphabetical order.",
    "Order these words alphabetically: {}",
)


def produce(rng: Random) -> Task:
    """Different words of the closed list; the reply is the list alone."""
    words = rng.sample(NOUNS, rng.randint(FEWEST, MOST))
    ordered = sorted(words)
    return Task(
        kind="word_sorting",
        prompt=rng.choice(PHRASINGS).format(", ".join(words)),
        reply=", ".join(ordered),
        answer=ordered,
        verifier="words",
        key=" ".join(ordered),
    )
