"""RULER's needles in a haystack: eight tasks, from one number in noise to needles among needles.

    puzzle("niah_multikey_2", stack, Random(0), place=17)

A needle gives a value for a key: "One of the special magic numbers for pale-cedar is: 2817334."
Source of sentences, questions and parameters: NVIDIA/RULER, scripts/data/synthetic/niah.py and
scripts/synthetic.yaml. Numbers are those that `data.longrange` never shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Literal
from uuid import UUID

import numpy as np

from baiwen.data.longrange.needles import NEEDLE_DIGITS, number
from baiwen.errors import UserError
from baiwen.eval.long import marks
from baiwen.eval.long.haystack import Haystack, Needle, Passage, hide, noise
from baiwen.eval.long.puzzle import Puzzle

Kind = Literal["words", "numbers", "uuids"]
PATTERNS = {"numbers": marks.VALUES, "uuids": marks.UUIDS}
DEPTHS = 40  # places from the beginning of a text to its end, of which each needle has its own
WORDS = 50  # different ones that a text has at least, of which two make a key
ROOM = 128  # tokens of an answer
NEEDLE = "One of the special magic {kind} for {key} is: {value}."


@dataclass(frozen=True)
class Shape:
    """How many needles there are, among what, and how many are asked for."""

    among: Literal["noise", "text", "needles"] = "text"
    key: Kind = "words"
    value: Kind = "numbers"
    keys: int = 1
    values: int = 1  # of a key
    asked: int = 1  # keys


TASKS = {
    "niah_single_1": Shape(among="noise"),
    "niah_single_2": Shape(),
    "niah_single_3": Shape(value="uuids"),
    "niah_multikey_1": Shape(keys=4),
    "niah_multikey_2": Shape(among="needles"),
    "niah_multikey_3": Shape(among="needles", key="uuids", value="uuids"),
    "niah_multivalue": Shape(values=4),
    "niah_multiquery": Shape(keys=4, asked=4),
}


def puzzle(task: str, stack: Haystack, rng: Random, place: int) -> Puzzle:
    """One of the tasks, in the text that ends with passage `place` or in what stands for it."""
    shape = TASKS[task]
    draw = drawing(stack, rng)
    pairs = {draw(shape.key): [draw(shape.value) for _ in range(shape.values)]}
    while len(pairs) < shape.keys:
        pairs.setdefault(draw(shape.key), [draw(shape.value) for _ in range(shape.values)])
    said = [
        NEEDLE.format(kind=shape.value, key=key, value=value)
        for key, values in pairs.items()
        for value in values
    ]
    places = rng.sample(range(DEPTHS), len(said))
    hidden = [(place / (DEPTHS - 1), line) for place, line in zip(places, said, strict=True)]
    asked = rng.sample(list(pairs), shape.asked)
    truth = tuple(value for key in asked for value in pairs[key])
    before, after, cue = _asked(shape.value, asked, len(truth) > 1)
    return Puzzle(
        before=before,
        body=_body(shape, stack, hidden, rng, place, set(pairs)),
        after=after,
        cue=cue,
        truth=truth,
        official=marks.every,
        strict=marks.listed(PATTERNS[shape.value]),
        room=ROOM,
    )


def drawing(stack: Haystack, rng: Random) -> Callable[[Kind], str]:
    """Draws a key or a value of a kind; `UserError` where the text has too few words for keys."""
    if len(stack.words) < WORDS:
        raise UserError(
            f"haystack = {stack.name} has {len(stack.words)} different English words of 4 to 10 "
            f"letters, and {WORDS} are wanted to make keys of; give another text"
        )
    kinds: dict[Kind, Callable[[], str]] = {
        "words": lambda: "-".join(rng.sample(stack.words, 2)),
        "numbers": lambda: number(rng, NEEDLE_DIGITS, heldout=True),
        "uuids": lambda: str(UUID(int=rng.getrandbits(128), version=4)),
    }
    return lambda kind: kinds[kind]()


def _asked(kind: Kind, keys: list[str], many: bool) -> tuple[str, str, str]:
    """What is said before and after the text and opens the answer; in the singular of one."""
    query = f"{', '.join(keys[:-1])}, and {keys[-1]}" if len(keys) > 1 else keys[0]
    what = kind if many else kind.removesuffix("s")
    some, are_all, are = ("Some", "are all", "are") if many else ("A", "is", "is")
    asked = f"special magic {what} for {query} mentioned in the provided text"
    before = (
        f"{some} special magic {what} {are} hidden within the following text. Make sure to "
        f"memorize it. I will quiz you about the {what} afterwards.\n"
    )
    return before, f"What {are_all} the {asked}?", f" The {asked} {are}"


def _body(
    shape: Shape, stack: Haystack, hidden: list[Needle], rng: Random, place: int, taken: set[str]
) -> Callable[[int], list[int]]:
    if shape.among == "text":
        return lambda room: stack.hide(hidden, place, room)
    if shape.among == "noise":
        return lambda room: noise(stack.tokenizer, stack.words).hide(hidden, 0, room)
    seed = rng.getrandbits(64)
    others = partial(_others, shape, stack, taken)
    return lambda room: hide(others(Random(seed), room), hidden, stack.tokenizer, room)


def _others(
    shape: Shape, stack: Haystack, taken: set[str], rng: Random, room: int
) -> list[Passage]:
    """Needles for other keys than the `taken`, a line each, of `room` tokens or a few more."""
    draw, found = drawing(stack, rng), list[Passage]()
    while room > 0:
        key = draw(shape.key)
        if key in taken:
            continue
        line = NEEDLE.format(kind=shape.value, key=key, value=draw(shape.value))
        found.append(Passage(np.array(stack.tokenizer.encode(f"{line}\n")), "\n"))
        room -= len(found[-1].ids)
    return found
