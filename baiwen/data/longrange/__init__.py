"""Synthetic long-range documents (Qwen2.5-1M report, section 3.2): tasks made of a long text, whose
answers stand far from their questions.

    fim        a part of the text is missing and asked for at the end
    keyword    a passage is asked for by words that only it holds
    position   a passage is asked for by its neighbour, or by its number
    reorder    passages out of order, and their right order
    passkey    a number hidden in the text (Mohtashami and Jaggi, 2023)
    needle     several numbers under keys, some of which are asked for (RULER's form)
    echo       words in random order, to be written again: for a model's first steps

    exercise = make("keyword", [text, another], "seed 0", measure=tokens_of, target=32_767)
    exercise.text                                # at most 32,767 tokens

The same texts, seed and target give the same exercise.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random

from baiwen.data.longrange.echo import echo
from baiwen.data.longrange.exercise import Exercise, Turn, Unfit
from baiwen.data.longrange.needles import needle, passkey
from baiwen.data.longrange.passages import passages
from baiwen.data.longrange.repair import fim, reorder
from baiwen.data.longrange.retrieval import keyword, position

__all__ = ["KINDS", "Exercise", "Turn", "Unfit", "make"]

# (the passages of each document, rng, questions) -> Exercise, or Unfit
KINDS: dict[str, Callable[[Sequence[Sequence[str]], Random, int], Exercise]] = {
    "fim": fim,
    "keyword": keyword,
    "position": position,
    "reorder": reorder,
    "passkey": passkey,
    "needle": needle,
    "echo": echo,
}
MOST, SHORT = 1_000, 200  # characters of the longest passages, of long texts and of short ones
PASSAGES = 10  # that a text has at least, as far as `SHORT` allows
NEAR = 0.9  # of the target that an exercise has at least
AIM = 0.98  # of the target that the next try is to have
TRIES = 8  # at a length: each has as much less or more as the one before was too long or short


def make(
    kind: str,
    texts: Sequence[str],
    seed: str,
    measure: Callable[[Exercise], int],
    target: int,
    questions: int = 1,
) -> Exercise:
    """An exercise of a kind over documents, at most `target` long and not much shorter.

    texts: of the documents, in order; what is too much is cut off at their end. measure: the length
    of an exercise, in tokens. `Unfit` where they are too short or do not give such an exercise.
    """
    whole = characters = sum(map(len, texts))
    short, long = 0, whole + 1  # characters that were too few, and too many
    for _ in range(TRIES):
        parts = _parts(texts, characters)
        if not parts:
            break
        exercise = KINDS[kind](parts, Random(seed), questions)
        length = measure(exercise)
        if NEAR * target <= length <= target:
            return exercise
        short, long = (characters, long) if length < target else (short, characters)
        if short == whole:
            raise Unfit("too short")
        guess = int(AIM * characters * target / length)
        characters = guess if short < guess < long else (short + long) // 2
    raise Unfit("its questions are too long")


def _parts(texts: Sequence[str], characters: int) -> list[list[str]]:
    """The first so many characters of all texts in passages; of a short text in short ones."""
    most = min(MOST, max(SHORT, characters // PASSAGES))
    trimmed = _trimmed(texts, characters)
    return [passages(f"{text.rstrip()}\n\n", most // 10, most) for text in trimmed]


def _trimmed(texts: Sequence[str], characters: int) -> Iterator[str]:
    """The first so many characters of all texts, the last one cut behind a line or a word."""
    for text in texts:
        if len(text) > characters:
            cut = text[:characters]
            at = max(cut.rfind("\n"), cut.rfind(" ")) + 1
            if cut := cut[:at] if at > 0.9 * characters else cut:
                yield cut
            return
        yield text
        characters -= len(text)
