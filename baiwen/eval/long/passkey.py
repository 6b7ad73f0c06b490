"""The passkey grid: a number hidden at every depth of texts of every length.

    puzzle(stack, Random(0), depth=0.5)    # "... The pass key is 71432. Remember it. ..."
    depths(5)                              # [0.0, 0.25, 0.5, 0.75, 1.0]

Sentence and question are those of Mohtashami and Jaggi (2023), in the words that
`data.longrange` teaches, in the language of the text; the numbers are those that it never shows.
A base model goes on from "The pass key is ", a chat model is asked for it.
"""

from random import Random

from baiwen.data.longrange import needles, phrases
from baiwen.eval.long import marks
from baiwen.eval.long.haystack import Haystack
from baiwen.eval.long.puzzle import Puzzle

ROOM = 24  # tokens of an answer: five digits, and a few words around them


def puzzle(stack: Haystack, rng: Random, depth: float, place: int) -> Puzzle:
    """A key of five digits at `depth` of the text that ends with passage `place`."""
    key = needles.number(rng, needles.PASSKEY_DIGITS, heldout=True)
    sentence = phrases.PASSKEY_HIDDEN[stack.language][0].format(value=key)
    question, cue = phrases.PASSKEY[stack.language][0]
    return Puzzle(
        before="",
        body=lambda room: stack.hide([(depth, sentence)], place, room),
        after=question,
        cue=cue,
        truth=(key,),
        official=marks.every,
        strict=marks.listed(marks.NUMBERS),
        room=ROOM,
        cued_chat=False,
    )


def depths(count: int) -> list[float]:
    """So many depths from the beginning of a text to its end; the middle if there is one."""
    return [index / (count - 1) for index in range(count)] if count > 1 else [0.5]
