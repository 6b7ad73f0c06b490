"""Exact duplicates: of documents of one text the best is kept.

    steps = [..., "exact", ...]
    [exact]
    equal = "spaced"                     # or "raw": to the byte
    best = "classify.educational"

Texts are compared by 128-bit hashes: in 10^12 documents two that differ would share one with a
probability of 10^-15. With `spaced` every run of white space counts as one space, and what stands
at the ends does not count: equal is what looks equal.
"""

from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import xxhash

from baiwen.config import Input, Knobs
from baiwen.data.dedup.earlier import Earlier
from baiwen.data.dedup.rows import Choice, Rows, verdicts
from baiwen.data.pipeline.step import Global, Map, Parts

RULE, EARLIER = "exact: same text", "exact: same text in an earlier run"
DIGEST = 16  # bytes


class Exact(Knobs):
    """Of documents of one text one is kept."""

    equal: Literal["spaced", "raw"] = "spaced"  # but for white space, or to the byte; not reported
    best: str | None = None  # a score, "STEP.column": the highest is kept; then the longest text
    sources: tuple[str, ...] = ()  # of documents, which win over others: "corpus" or an extra
    against: tuple[Input, ...] = ()  # folders of earlier data runs: what they kept goes as well


def steps(knobs: Exact) -> tuple[Map, Global]:
    """The step in two: each document's digests, then which are equal."""
    choice = Choice(knobs.best, knobs.sources)
    reads = (f"fingerprints.{knobs.equal}", *choice.columns)
    return Map("fingerprints", fingerprints), Global("exact", partial(exact, knobs=knobs), reads)


def fingerprints(table: pa.Table) -> pa.Table:
    """Digests of each text, 16 bytes: `raw` of its bytes, `spaced` with its white space as one."""
    texts = table["text"].to_pylist()
    digest, kind = xxhash.xxh3_128_digest, pa.binary(DIGEST)
    raw = [digest(text.encode()) for text in texts]
    spaced = [digest(" ".join(text.split()).encode()) for text in texts]
    return pa.table({"raw": pa.array(raw, kind), "spaced": pa.array(spaced, kind)})


def exact(parts: Parts, knobs: Exact) -> Iterator[pa.Table]:
    """Verdicts and `cluster`: the id of the kept one of the documents that have the same text."""
    if not len(parts):
        return
    rows = Rows(Earlier(knobs.against, {"fingerprints": fingerprints}), parts)
    column, choice = f"fingerprints.{knobs.equal}", Choice(knobs.best, knobs.sources)
    halves = [_halves(table[column]) for table in rows.tables((column,))]
    numbers, labels = repeated(np.concatenate(halves))
    members = rows.members(numbers, choice.columns)
    kept = first_of(labels, rows.ranks(members, numbers, choice))
    rules = np.where(numbers[kept] < rows.settled, EARLIER, RULE)
    yield from rows.spread(verdicts(members, kept, rules, np.bincount(kept)[kept], 1), numbers)


def repeated(digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers, rising, of digests uint64 [documents, 2] that others equal; a label of each."""
    order = np.lexsort(digests.T)
    new = np.ones(len(order), bool)
    new[1:] = (digests[order[1:]] != digests[order[:-1]]).any(axis=1)
    labels = np.empty(len(order), np.int64)
    labels[order] = np.cumsum(new) - 1
    numbers = np.flatnonzero(np.bincount(labels)[labels] > 1)
    return numbers, labels[numbers]


def first_of(labels: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """For each member the place of the one of its label that ranks first."""
    order = np.argsort(ranks)
    _, first, own = np.unique(labels[order], return_index=True, return_inverse=True)
    found = np.empty_like(order)
    found[order] = order[first[own]]
    return found


def _halves(digests: pa.ChunkedArray) -> np.ndarray:
    """Digests of 16 bytes as pairs of numbers: uint64 [documents, 2]."""
    data = b"".join(digests.to_pylist())
    return np.frombuffer(data, np.uint64).reshape(-1, 2)
