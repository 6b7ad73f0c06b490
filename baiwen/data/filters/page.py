"""What a rule looks at: a document with the counts that were taken of all at once.

    page = pages(table)[0]
    page.counts.words, page.lines, page.meta["url"]

A rule compares a number with its bound, by `above` or `below`, which give the verdict.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from baiwen.data.document import PROSE
from baiwen.data.filters import words
from baiwen.data.filters.words import Words
from baiwen.data.pipeline.step import Verdict


class Counts(NamedTuple):
    """How many words of which kind a text has."""

    words: int  # signs are words as well
    signs: int
    letters: int  # words with a letter
    lone: int  # characters of scripts that write no spaces
    length: int  # characters of the words that are no signs


@dataclass(frozen=True)
class Page:
    """A document."""

    text: str
    domain: str
    language: str | None  # ISO 639-1, or of a program; None: unknown
    record: str | None  # `meta`, as JSON
    counts: Counts

    @cached_property
    def lines(self) -> list[str]:
        """Its lines that are not blank."""
        return [line for line in self.rows if line.strip()]

    @cached_property
    def rows(self) -> list[str]:
        """Its lines but for empty ones."""
        return [line for line in self.text.split("\n") if line]

    @cached_property
    def repeated(self) -> list[str]:
        """Those of its rows that came before."""
        return came_before(self.rows)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """All that is known about its origin."""
        return json.loads(self.record) if self.record else {}

    @property
    def spaced(self) -> bool:
        """Whether it is mostly in a script that writes spaces, so that words have a length."""
        return 2 * self.counts.lone <= self.counts.words - self.counts.signs

    @property
    def english(self) -> bool:
        """Whether rules about English apply: where it is not known to be anything else."""
        return self.spaced and self.language in (None, "en")


def counted(found: Words) -> list[Counts]:
    """The counts of each text."""
    signs = found.flags == words.SIGN
    plain = np.where(signs, 0, found.lengths)
    letters, lone = (found.flags & kind != 0 for kind in (words.LETTER, words.LONE))
    summed = [sums(values, found.bounds).tolist() for values in (signs, letters, lone, plain)]
    return list(map(Counts, np.diff(found.bounds).tolist(), *summed))


def pages(table: pa.Table, counts: Sequence[Counts]) -> list[Page]:
    """The documents of a table; of the columns but `text` those that it has."""
    columns = [
        table[name].to_pylist() if name in table.column_names else [absent] * table.num_rows
        for name, absent in (("text", ""), ("domain", PROSE), ("language", None), ("meta", None))
    ]
    return [Page(*row) for row in zip(*columns, counts, strict=True)]


def came_before(parts: Sequence[str]) -> list[str]:
    """The parts that came before."""
    if len(set(parts)) == len(parts):
        return []
    counts = Counter(parts)
    return [part for part, count in counts.items() for _ in range(count - 1)]


def above(rule: str, value: float, bound: float) -> Verdict | None:
    """The verdict on a value that must not exceed the bound."""
    return Verdict(rule, value, bound) if value > bound else None


def below(rule: str, value: float, bound: float) -> Verdict | None:
    """The verdict on a value that must not fall short of the bound."""
    return Verdict(rule, value, bound) if value < bound else None


def share(part: float, whole: float) -> float:
    """`part / whole`; 0 of nothing."""
    return part / whole if whole else 0.0


def sums(values: NDArray[Any], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """[texts] the sums of what each text has of the values."""
    before = np.concatenate(([0], np.cumsum(values, dtype=np.int64)))
    return before[bounds[1:]] - before[bounds[:-1]]
