"""Haystacks: texts as long as an exercise is to be, out of documents of any length.

    for haystack in haystacks(lambda: documents(paths), wanted, estimate):
        [part.text for part in haystack.parts]      # stretches of documents, in order

A document that is long enough gives as many stretches as it holds, one after the other. Shorter
ones, and what is left of the long ones, are joined in the order they come; none holds a text twice.
Nothing but the haystack that is being filled is held in memory.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from baiwen.data.document import Document

BORDER = 0.9  # of a stretch: from here on it may end, behind a line or a word


@dataclass(frozen=True)
class Part:
    """A document, or a stretch of one."""

    text: str
    id: str
    license: str | None


@dataclass(frozen=True)
class Haystack:
    """What one exercise is made of."""

    target: int  # tokens that the exercise is to have
    parts: tuple[Part, ...]

    @property
    def meta(self) -> dict[str, Any]:
        """Where it comes from: the ids of its documents, and their licences."""
        licenses = sorted({part.license for part in self.parts if part.license})
        own = {"license": "; ".join(licenses)} if licenses else {}
        return {"lineage": list(dict.fromkeys(part.id for part in self.parts)), **own}


def haystacks(
    read: Callable[[], Iterable[Document]],
    wanted: Callable[[int], int],
    estimate: Callable[[str], float],
    *,
    spare: float = 1.15,
    join: bool = True,
) -> Iterator[Haystack]:
    """Haystacks without end, the documents read again and again; none once a reading gives none.

    wanted: the target of the nth haystack, tokens. estimate: tokens of a text, about. spare: how
    much more a haystack holds than its target. join: whether short documents are joined, or left.
    """
    numbers = count()
    target = wanted(next(numbers))
    held, size = deque[_Held](), 0.0  # what is being filled, and its tokens
    for reading in count():
        gave = False
        for place, document in enumerate(read()):
            text, at = document.text, 0
            rate = estimate(text) / max(len(text), 1)  # tokens a character
            while (len(text) - at) * rate >= spare * target:
                end = _border(text, at, at + int(spare * target / rate))
                yield Haystack(target, (_part(document, text[at:end]),))
                gave, target, at = True, wanted(next(numbers)), end
            while held and held[0].reading < reading and held[0].place <= place:
                size -= held.popleft().size  # this document again, or one before it
            if join and text[at:].strip():
                part = _part(document, text[at:])
                held.append(_Held(part, (len(text) - at) * rate, reading, place))
                size += held[-1].size
            if size >= spare * target:
                yield Haystack(target, tuple(one.part for one in held))
                gave, target, size = True, wanted(next(numbers)), 0.0
                held.clear()
        if not gave:
            return


@dataclass(frozen=True)
class _Held:
    """A part of the haystack that is being filled."""

    part: Part
    size: float  # tokens
    reading: int  # the how-manieth of all documents
    place: int  # among them


def _part(document: Document, text: str) -> Part:
    license = document.meta.get("license")
    return Part(text, document.id, license if isinstance(license, str) else None)


def _border(text: str, start: int, end: int) -> int:
    """Where a stretch from `start` ends: behind a line or a word, if one ends shortly before."""
    near = start + int(BORDER * (end - start))
    found = max(text.rfind("\n", near, end), text.rfind(" ", near, end))
    return found + 1 if found >= 0 else end
