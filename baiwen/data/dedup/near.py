"""Near duplicates: of documents that share most of their words in a row the best is kept.

    steps = [..., "near", ...]
    [near]
    similarity = 0.8
    best = "classify.educational"
    against = ["runs/web/2024"]

Documents with an equal band of their signatures (`minhash`) are candidates; connected by them, they
fall into small groups, and only their texts are read. In a group documents are met from the best
one down: one whose true Jaccard similarity to a better one that is kept reaches the bound goes;
else it is kept itself. So each document that goes is as similar to the one that is kept for it as
the bound says. A whole chain of neighbours never goes for a document that is unlike its end, as it
does where connected components are decided at once, and of a kept document and those `most` kept
candidates that share most bands with it no two are similar. The order in which documents were read
decides nothing.

In memory are two numbers a document, and the ids and keys of candidates; signatures band by band
and the shingles of candidates are on the disk, in the folder for temporary files.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from baiwen.config import Input, Knobs
from baiwen.data.dedup.earlier import Earlier
from baiwen.data.dedup.groups import Groups
from baiwen.data.dedup.minhash import NONE, Shape, jaccard, shingle_sets, signatures
from baiwen.data.dedup.rows import Choice, Rows, verdicts
from baiwen.data.dedup.spill import Spill
from baiwen.data.pipeline.step import Global, Map, Parts

RULE, EARLIER = "near: similar text", "near: similar text in an earlier run"
KEYS = "signatures.keys"


class Near(Knobs):
    """Of documents that are similar one is kept."""

    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8  # least Jaccard of two that are the same
    words: Annotated[int, Field(gt=0)] = 5  # in a shingle; FineWeb: 5; report: not reported
    bands: Annotated[int, Field(gt=0)] = 14  # of a signature; FineWeb: 14
    rows: Annotated[int, Field(gt=0)] = 8  # permutations in a band; FineWeb: 8
    seed: Annotated[int, Field(ge=0)] = 1  # of the permutations
    best: str | None = None  # a score, "STEP.column": the highest is kept; then the longest text
    sources: tuple[str, ...] = ()  # of documents, which win over others: "corpus" or an extra
    against: tuple[Input, ...] = ()  # folders of earlier data runs: what is similar goes as well
    most: Annotated[int, Field(gt=0)] = 100  # candidates that a document is compared with

    @property
    def shape(self) -> Shape:
        """What its signatures depend on."""
        return Shape(self.words, self.bands, self.rows, self.seed)


def steps(knobs: Near) -> tuple[Map, Global]:
    """The step in two: each document's signature, then which are similar."""
    reads = ("text", KEYS, *Choice(knobs.best, knobs.sources).columns)
    return (
        Map("signatures", partial(signatures, shape=knobs.shape)),
        Global("near", partial(near, knobs=knobs), reads),
    )


def near(parts: Parts, knobs: Near) -> Iterator[pa.Table]:
    """Verdicts, `cluster`: the id of the document that is kept, and `similarity` to it."""
    if not len(parts):
        return
    findings = {"signatures": partial(signatures, shape=knobs.shape)}
    rows, choice = Rows(Earlier(knobs.against, findings), parts), Choice(knobs.best, knobs.sources)
    numbers, labels = candidates(rows, knobs.bands)
    members = rows.members(numbers, (KEYS, *choice.columns))
    shingles = Spill(np.uint64)
    for table in rows.some(numbers, ("text",)):
        for shingled in shingle_sets(table["text"], knobs.shape):
            shingles.add(shingled)
    of = Candidates(keys_of(members, knobs.bands), shingles, numbers < rows.settled)
    kept, similarity = np.arange(len(numbers)), np.zeros(len(numbers))
    for group in grouped(labels, rows.ranks(members, numbers, choice)):
        for member, better, value in matches(group.tolist(), of, knobs):
            kept[member], similarity[member] = better, value
    rules = np.where(numbers[kept] < rows.settled, EARLIER, RULE)
    found = verdicts(members, kept, rules, similarity, knobs.similarity)
    yield from rows.spread(found.append_column("similarity", found["value"]), numbers)


class Candidates(NamedTuple):
    """What documents that may be similar are compared by."""

    keys: np.ndarray  # uint64 [candidates, bands]
    shingles: Spill  # of each
    settled: np.ndarray  # bool [candidates]: whether an earlier run has kept it


def candidates(rows: Rows, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers, rising, of documents that share bands with others; a label of their group."""
    spills = [Spill(np.uint64) for _ in range(bands)]
    for table in rows.tables((KEYS,)):
        for spill, column in zip(spills, keys_of(table, bands).T, strict=True):
            spill.add(column)
    groups = Groups(rows.starts[-1])
    for spill in spills:
        groups.join(*neighbours(spill.all()))
    labels = groups.labels()
    size = np.bincount(labels)
    new = np.bincount(labels[rows.settled :], minlength=len(size))
    numbers = np.flatnonzero((size[labels] > 1) & (new[labels] > 0))
    return numbers, labels[numbers]


def neighbours(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of places that connect all documents of a key: each with the next one."""
    order = np.argsort(keys)
    later = keys[order[1:]]
    equal = (later == keys[order[:-1]]) & (later != NONE)
    return order[:-1][equal], order[1:][equal]


def matches(group: Sequence[int], of: Candidates, knobs: Near) -> Iterator[tuple[int, int, float]]:
    """Each of a group, from the best one down, that goes: with the kept one, and how similar."""
    homes: dict[int, list[int]] = {}  # kept ones by key
    for member in group:
        keys = of.keys[member].tolist()
        found = None if of.settled[member] else match(member, keys, homes, of.shingles, knobs)
        if found:
            yield member, *found
            continue
        for key in keys:
            home = homes.setdefault(key, [])
            if len(home) < knobs.most:
                home.append(member)


def match(
    member: int, keys: Sequence[int], homes: dict[int, list[int]], shingles: Spill, knobs: Near
) -> tuple[int, float] | None:
    """A kept one that is similar enough, those that share most bands first, and how similar."""
    own = shingles[member]
    shared = Counter(chain.from_iterable(homes.get(key, ()) for key in keys))
    for other, _ in shared.most_common(knobs.most):
        similarity = jaccard(own, shingles[other], knobs.similarity)
        if similarity >= knobs.similarity:
            return other, similarity
    return None


def grouped(labels: np.ndarray, ranks: np.ndarray) -> list[np.ndarray]:
    """The places of each label, by rank."""
    order = np.lexsort((ranks, labels))
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def keys_of(table: pa.Table, bands: int) -> np.ndarray:
    """The keys of documents: uint64 [documents, bands]."""
    return table[KEYS].combine_chunks().flatten().to_numpy().reshape(-1, bands)
