"""RULER's variable tracking: a value, and the variables that get it one from the other.

    VAR KZQPA = 61290        ...noise...        VAR BTWEM = VAR KZQPA        ...

Asked for are all variables that have the value; a solved instance, of shorter names, stands ahead.
Source: NVIDIA/RULER, scripts/data/synthetic/variable_tracking.py (one chain of four hops).
"""

from random import Random
from string import ascii_uppercase

from baiwen.eval.long import marks
from baiwen.eval.long.haystack import NOISE_LINE, Haystack, noise
from baiwen.eval.long.puzzle import Puzzle

HOPS = 4
LETTERS, EXAMPLE_LETTERS = 5, 3  # of a name
EXAMPLE_LINES = 12  # of noise
ROOM = 30  # tokens of an answer
BEFORE = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
QUESTION = "Question: Find all variables that are assigned the value {value} in the text above."
CUE = (
    " Answer: According to the chain(s) of variable assignment in the text above, "
    f"{HOPS + 1} variables are assigned the value {{value}}, they are: "
)


def puzzle(stack: Haystack, rng: Random) -> Puzzle:
    """A chain of assignments, in order, among noise."""
    names, value, lines = chain(rng, LETTERS)
    depths = sorted(rng.random() for _ in lines)
    hidden = list(zip(depths, lines, strict=True))
    return Puzzle(
        before=f"{_example(rng)}\n\n{BEFORE}",
        body=lambda room: noise(stack.tokenizer, stack.words).hide(hidden, 0, room),
        after=QUESTION.format(value=value),
        cue=CUE.format(value=value),
        truth=tuple(names),
        official=marks.every,
        strict=marks.listed(marks.VARIABLES),
        room=ROOM,
    )


def chain(rng: Random, letters: int) -> tuple[list[str], str, list[str]]:
    """The variables, their value, and the assignments."""
    names: dict[str, None] = {}
    while len(names) <= HOPS:
        names["".join(rng.choices(ascii_uppercase, k=letters))] = None
    first, *others = names
    value = str(rng.randint(10_000, 99_999))
    lines = [f"VAR {first} = {value}"]
    lines += [f"VAR {name} = VAR {last}" for last, name in zip(names, others, strict=False)]
    return list(names), value, lines


def _example(rng: Random) -> str:
    names, value, lines = chain(rng, EXAMPLE_LETTERS)
    text = [NOISE_LINE.rstrip()] * EXAMPLE_LINES
    for place, line in zip(
        sorted(rng.sample(range(EXAMPLE_LINES), len(lines))), lines, strict=True
    ):
        text[place] += f"\n{line}"
    question, cue = QUESTION.format(value=value), CUE.format(value=value)
    return "{}{}\n{}{}{}".format(BEFORE, "\n".join(text), question, cue, " ".join(names))
