"""Needles: a sentence hidden in a long text, whose number is asked for at the end.

    passkey(parts, Random(0))            # "... The pass key is 71432. ..."  What is the pass key?
    needle(parts, Random(0), questions=2)    # several of "... magic number for pale-cedar is ..."

`held_out` says of every number whether it is for evaluation: nothing here hides such a number,
whatever the seed, so no instance of an evaluation that draws only those is ever trained on.
"""

import hashlib
from collections.abc import Sequence
from random import Random

from baiwen.data.longrange import phrases
from baiwen.data.longrange.exercise import Exercise, Turn
from baiwen.data.longrange.passages import language, starts
from baiwen.data.longrange.phrases import phrased

HELDOUT_SHARE = 20  # one number in so many is kept for evaluation
PASSKEY_DIGITS = 5
NEEDLE_DIGITS = 7  # RULER's
MOST_NEEDLES = 8  # in a text, of which some are asked for
CHARACTERS_A_NEEDLE = 400  # of a text, so that a short one is not all needles


def held_out(value: str) -> bool:
    """Whether a number is for evaluation only: a function of its digits alone."""
    digest = hashlib.blake2b(value.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELDOUT_SHARE == 0


def number(rng: Random, digits: int, heldout: bool = False) -> str:
    """A number of so many digits, of the one side or the other."""
    while True:
        value = str(rng.randrange(10 ** (digits - 1), 10**digits))
        if held_out(value) == heldout:
            return value


def passkey(parts: Sequence[Sequence[str]], rng: Random, _questions: int = 1) -> Exercise:
    """One pass key hidden anywhere between the passages of the documents `parts`."""
    pieces = [piece for part in parts for piece in part]
    spoken = language("".join(pieces))
    value = number(rng, PASSKEY_DIGITS)
    sentence = rng.choice(phrases.PASSKEY_HIDDEN[spoken]).format(value=value)
    context, (place,) = hide(pieces, [sentence], rng)
    question, opening = phrased(phrases.PASSKEY, spoken, rng)
    turn = Turn(question, opening, value, context.index(value, place))
    return Exercise("passkey", spoken, context, (turn,), verifier="number")


def needle(parts: Sequence[Sequence[str]], rng: Random, questions: int = 1) -> Exercise:
    """Several keys with a number each, hidden anywhere; some of them are asked for."""
    pieces = [piece for part in parts for piece in part]
    spoken = language("".join(pieces))
    least = max(2, questions)
    most = min(MOST_NEEDLES, sum(map(len, pieces)) // CHARACTERS_A_NEEDLE)
    hidden = _pairs(rng, spoken, rng.randint(least, max(least, most)))
    sentences = [
        rng.choice(phrases.NEEDLE_HIDDEN[spoken]).format(key=key, value=value)
        for key, value in hidden.items()
    ]
    context, places = hide(pieces, sentences, rng)
    where = dict(zip(hidden, places, strict=True))
    turns = []
    for key in rng.sample(list(hidden), questions):
        question, opening = phrased(phrases.NEEDLE, spoken, rng, key=key)
        place = context.index(hidden[key], where[key])
        turns.append(Turn(question, opening, hidden[key], place))
    return Exercise("needle", spoken, context, tuple(turns), verifier="number")


def hide(pieces: Sequence[str], sentences: Sequence[str], rng: Random) -> tuple[str, list[int]]:
    """The text with each sentence before one of its pieces, or at its end; and from where on.

    Sentences that fall into the same place keep the order they are given in.
    """
    order = sorted((rng.randrange(len(pieces) + 1), which) for which in range(len(sentences)))
    grown = list(pieces)
    for shift, (at, which) in enumerate(order):
        grown.insert(at + shift, _set_apart(sentences[which], grown[at + shift - 1] if at else ""))
    begins = starts(grown)
    places = {which: begins[at + shift] for shift, (at, which) in enumerate(order)}
    return "".join(grown), [places[which] for which in range(len(sentences))]


def _set_apart(sentence: str, before: str) -> str:
    """The sentence with the white space around it that the passage before it ends with."""
    if not before:
        return f"{sentence}\n\n"
    if space := before[len(before.rstrip()) :]:
        return f"{sentence}{space}"
    return f" {sentence} " if before[-1].isascii() else sentence


def _pairs(rng: Random, spoken: str, count: int) -> dict[str, str]:
    """So many different keys, each with a number."""
    joint = "-" if spoken == "en" else ""
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        key = joint.join(
            (rng.choice(phrases.QUALITIES[spoken]), rng.choice(phrases.THINGS[spoken]))
        )
        pairs.setdefault(key, number(rng, NEEDLE_DIGITS))
    return pairs
