"""The text that needles are hidden in: its passages in ids, and words that keys are made of.

    stack = of("stdlib", tokenizer, characters=2_000_000)     # or a file, folder, glob; or "noise"
    stack.hide([(0.5, "The pass key is 71432.")], place=17, room=4000)     # 4,000 ids
    stack.words[:2]                                                        # ["ability", "able"]

Every passage is encoded once and a text is made by joining ids, so that its length is exact and a
long one costs the tokenizer nothing. It ends with a whole passage and a blank line, as texts that
are trained on do before a question; what is too much is taken from the beginning. The bundled text
is the documentation of Python's standard library; noise is five short sentences over and over
(Mohtashami and Jaggi, 2023).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from random import Random

import numpy as np

from baiwen.data import corpus, read
from baiwen.data.document import PROSE
from baiwen.data.longrange.passages import language, passages
from baiwen.errors import UserError
from baiwen.tokenizer.tokenizer import Tokenizer

BUNDLED, NOISE = corpus.NAME, "noise"
NOISE_LINE = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
)
LEAST, MOST = 100, 600  # characters of a passage
SAMPLE = 400  # characters of each of the first texts, which tell the language together
LAST = "\n\n"  # what the last passage of a text ends with
WORD = re.compile(r"\b[a-z]{4,10}\b")

Needle = tuple[float, str]  # how much of the text stands before it, 0 to 1; the sentence


@dataclass(frozen=True)
class Passage:
    """The ids [T] of a part of the text, and the white space that it ends with."""

    ids: np.ndarray
    end: str


@dataclass(frozen=True)
class Haystack:
    """Passages in order, and the different words of the text, sorted."""

    name: str
    tokenizer: Tokenizer
    passages: Sequence[Passage]
    words: Sequence[str]
    language: str = "en"  # or zh
    endless: bool = False  # begins again where it ends

    @cached_property
    def tokens(self) -> int:
        """Of the text, once."""
        return sum(len(passage.ids) for passage in self.passages)

    @cached_property
    def lasts(self) -> list[int]:
        """The passages that a text may end with."""
        found = [at for at, passage in enumerate(self.passages) if passage.end == LAST]
        return found or list(range(len(self.passages)))

    def place(self, rng: Random) -> int:
        """The passage with which a text ends."""
        return rng.choice(self.lasts)

    def hide(self, needles: Sequence[Needle], place: int, room: int) -> list[int]:
        """A text of exactly `room` tokens that ends with passage `place` and holds the needles."""
        return hide(self._before(place, room), needles, self.tokenizer, room)

    def _before(self, place: int, room: int) -> list[Passage]:
        """The passages that end with this one, of `room` tokens or a few more."""
        if room > self.tokens and not self.endless:
            raise UserError(
                f"haystack = {self.name} has {self.tokens:,} tokens, and a text of {room:,} is "
                f'wanted; give a longer one, or "{NOISE}"'
            )
        found: list[Passage] = []
        while room > 0:
            found.append(self.passages[(place - len(found)) % len(self.passages)])
            room -= len(found[-1].ids)
        return found[::-1]


def of(source: str, tokenizer: Tokenizer, characters: int) -> Haystack:
    """The first `characters` of a source: documents (file, folder, glob), "stdlib" or "noise".

    The words are the text's own; noise takes those of the bundled text.
    """
    texts = _texts(source, characters)
    words = sorted({word for text in texts for word in WORD.findall(text)})
    if source == NOISE:
        return noise(tokenizer, words)
    parts = [part for text in texts for part in passages(text.strip() + LAST, LEAST, MOST)]
    spoken = language("".join(text[:SAMPLE] for text in texts))
    return Haystack(source, tokenizer, _encoded(parts, tokenizer), words, spoken)


def noise(tokenizer: Tokenizer, words: Sequence[str]) -> Haystack:
    """Five short sentences, a line each time, as often as there is room."""
    return Haystack(NOISE, tokenizer, _encoded([NOISE_LINE], tokenizer), words, endless=True)


def hide(
    parts: Sequence[Passage], needles: Sequence[Needle], tokenizer: Tokenizer, room: int
) -> list[int]:
    """Exactly `room` ids: the end of these passages, which have more, and the needles in them.

    A needle stands between two passages, where it is nearest to its depth, and ends with the white
    space that stands before it.
    """
    rough = room - sum(len(tokenizer.encode(f"{sentence} ")) for _, sentence in needles)
    whole = sum(len(part.ids) for part in parts)
    ends = accumulate((len(part.ids) for part in parts), initial=0)
    before = [max(0, end - whole + rough) for end in ends]  # tokens of text before each place
    at: dict[int, list[int]] = {}
    for depth, sentence in needles:
        place = min(range(len(before)), key=lambda place: abs(before[place] - depth * rough))
        space = parts[place - 1].end if place else LAST
        at.setdefault(place, []).extend(tokenizer.encode(sentence + (space or " ")))
    spare = whole + sum(map(len, at.values())) - room
    if spare > whole:
        raise UserError(f"a text of {room} tokens has no room for what is to be hidden in it")
    ids: list[int] = []
    for number, part in enumerate(parts):
        ids += at.get(number, ())
        skipped = min(spare, len(part.ids))
        ids += part.ids[skipped:].tolist()
        spare -= skipped
    return ids + at.get(len(parts), [])


def _encoded(parts: Sequence[str], tokenizer: Tokenizer) -> list[Passage]:
    ids = tokenizer.encode_many(parts)
    ends = (part[len(part.rstrip()) :] for part in parts)
    return [Passage(*pair) for pair in zip(ids, ends, strict=True)]


@cache
def _texts(source: str, characters: int) -> tuple[str, ...]:
    """Whole documents, to the first that makes it so many characters; read once for all models."""
    texts, left = list[str](), characters
    for text in _documents(source):
        if text.strip():
            texts.append(text)
            left -= len(text)
        if left <= 0:
            break
    if not texts:
        raise UserError(f"haystack = {source}: there is no text in it")
    return tuple(texts)


def _documents(source: str) -> Iterator[str]:
    if source not in (BUNDLED, NOISE):
        return read.texts_of(read.find([source]))
    found = (document for chunk in corpus.chunks() for document in chunk.documents())
    return (document.text for document in found if document.domain == PROSE)
