"""The documents of earlier runs and of this one, numbered through; which of several is kept.

    rows = Rows(Earlier(folders, {"signatures": signatures}), parts)
    for table in rows.tables(("signatures.keys",)): ...      # of all parts, in order
    members = rows.members(numbers, choice.columns)
    rows.ranks(members, numbers, choice)                     # 0: kept before all others

A document of an earlier run is kept before all others: it cannot be dropped any more. Then the one
of the highest score is, then the longer, then the one of the source that was named first, then the
one whose id comes first: whatever the order in which they were read.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baiwen.data.pipeline.step import VERDICT, Parts

SIZE = "bytes"


class Choice(NamedTuple):
    """What says which of several documents is kept."""

    best: str | None = None  # a score, as "STEP.column"
    sources: tuple[str, ...] = ()  # the first of them before the others

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it looks at, beside the id."""
        return ("source", SIZE, *([self.best] if self.best else []))


class Rows:
    """All documents by number: those of earlier runs come first."""

    def __init__(self, earlier: Parts, parts: Parts) -> None:
        self.earlier, self.parts = earlier, parts
        self.starts = [0]  # the number of each part's first document, as far as they were read

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Columns of every part."""
        self.starts = [0]
        for part in range(len(self.earlier) + len(self.parts)):
            table = self._of(part)[0].table(self._of(part)[1], columns)
            self.starts.append(self.starts[-1] + len(table))
            yield table

    @property
    def settled(self) -> int:
        """How many are of earlier runs."""
        return self.starts[len(self.earlier)]

    def some(self, numbers: np.ndarray, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Columns of the documents of these numbers, rising, a table a part."""
        cuts = np.searchsorted(numbers, self.starts)
        for part, (first, last) in enumerate(pairwise(cuts.tolist())):
            if first < last:
                parts, own = self._of(part)
                places = numbers[first:last] - self.starts[part]
                yield parts.rows(own, places.tolist(), columns)

    def members(self, numbers: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """The same as one table."""
        none = self.parts.rows(0, [], columns)  # which has the types of all columns
        return pa.concat_tables(
            [none, *self.some(numbers, columns)], promote_options="permissive"
        ).combine_chunks()

    def ranks(self, members: pa.Table, numbers: np.ndarray, choice: Choice) -> np.ndarray:
        """Which of the members is kept before which: int64, 0 before all others."""
        order = {name: place for place, name in enumerate(choice.sources)}
        sources = [order.get(name, len(order)) for name in members["source"].to_pylist()]
        keys = {"new": pa.array(numbers >= self.settled)}
        if choice.best:  # one without a score comes last
            score = pc.fill_null(members[choice.best].cast(pa.float64()), -math.inf)
            keys["best"] = pc.negate(score)
        keys |= {"size": pc.negate(members[SIZE]), "source": pa.array(sources, pa.int64())}
        keys["id"] = members["id"]
        places = pc.sort_indices(pa.table(keys), [(name, "ascending") for name in keys])
        ranks = np.empty(len(members), np.int64)
        ranks[places.to_numpy()] = np.arange(len(members))
        return ranks

    def spread(self, found: pa.Table, numbers: np.ndarray) -> Iterator[pa.Table]:
        """What was found about the documents of these numbers, rising, by part of this run."""
        for first, last in pairwise(self.starts[len(self.earlier) :]):
            index, here = np.full(last - first, -1), slice(*np.searchsorted(numbers, (first, last)))
            index[numbers[here] - first] = np.arange(here.start, here.stop)
            yield found.take(pa.array(index, mask=index < 0))

    def _of(self, part: int) -> tuple[Parts, int]:
        """The run's own part, or that of the earlier ones, and its number there."""
        before = len(self.earlier)
        return (self.earlier, part) if part < before else (self.parts, part - before)


def verdicts(
    members: pa.Table, kept: np.ndarray, rules: np.ndarray, values: np.ndarray, bound: float
) -> pa.Table:
    """Verdicts of members, and `cluster`: the id of the one that is kept of each one's cluster.

    kept: int64 [members], the place among them of the one that each goes for; its own: it stays.
    rules, values: [members], why each goes and what was measured, where it goes.
    """
    own = np.arange(len(kept))
    stays, alone = kept == own, np.bincount(kept, minlength=len(kept))[kept] == 1
    rule = pa.array(rules, pa.string(), mask=stays)
    bounds = pa.array(np.full(len(kept), bound), mask=stays)
    cluster = members["id"].take(pa.array(kept, mask=alone))
    columns = [rule, pa.array(values, pa.float64(), mask=stays), bounds, cluster]
    return pa.table(columns, schema=VERDICT.append(pa.field("cluster", pa.string())))
