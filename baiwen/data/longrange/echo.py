"""Echo: words in an order that nothing foretells, to be written again.

    echo(parts, Random(0))      # "tree of 12 ..."  Repeat the words above.  "tree of 12 ..."

What all other kinds ask for is to find a place and to copy from it. From texts, most of whose words
can be guessed, a small model learns that late; from these it learns it in a few hundred steps
(`recipes/long`). They are no part of the report, and of use at the very beginning only.
"""

from collections.abc import Sequence
from random import Random

from baiwen.data.longrange import phrases
from baiwen.data.longrange.exercise import Exercise, Turn
from baiwen.data.longrange.passages import language
from baiwen.data.longrange.phrases import phrased


def echo(parts: Sequence[Sequence[str]], rng: Random, _questions: int = 1) -> Exercise:
    """The words of the text, of Chinese its characters, in random order, and again."""
    text = "".join(piece for part in parts for piece in part)
    spoken = language(text)
    words = text.split()
    if spoken == "zh":
        words = list("".join(words))
    rng.shuffle(words)
    said = (" " if spoken == "en" else "").join(words)
    question, opening = phrased(phrases.ECHO, spoken, rng)
    return Exercise("echo", spoken, said, (Turn(question, opening, said, 0),))
