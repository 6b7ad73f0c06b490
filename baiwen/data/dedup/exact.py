"""Exact duplicates: of documents of one text the best is kept.

    steps = [..., "exact", ...]
    [exact]
    equal = "spaced"                     # or "raw": to the byte
    best = "classify.educational"

Texts are compared by 128-bit hashes: in 10^12 documents two that differ would share one with a
probability of 10^-15. With `spaced` every run of white space (that of ASCII) counts as one space,
and what stands at the ends does not count: equal is what looks equal.
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
from baiwen.data.words import slices, utf8

RULE, EARLIER = "exact: same text", "exact: same text in an earlier run"


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
    found: dict[str, list[bytes]] = {"raw": [], "spaced": []}
    for texts in slices(table["text"]):
        data, offsets = utf8(texts)
        found["raw"] += digests(data, offsets[:-1], offsets[1:])
        found["spaced"] += digests(*squeezed(data, offsets))
    return pa.table({name: pa.array(every, pa.binary(16)) for name, every in found.items()})


def digests(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[bytes]:
    """A digest of the bytes of each text."""
    view, digest = memoryview(data.data), xxhash.xxh3_128_digest
    return [
        digest(view[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def squeezed(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts with runs of white space of ASCII as one space, none at their ends: bytes and places.

    Returns the bytes of all, and where each text starts and ends in them: int64 [texts].
    """
    space = (data == ord(" ")) | (data - ord("\t") < 5)  # unsigned: \t \n \v \f \r
    stays = ~space
    stays[:-1] |= stays[1:]  # the last space of a run
    last = offsets[1:][np.diff(offsets) > 0] - 1
    stays[last] = ~space[last]
    places = offsets - np.searchsorted(np.flatnonzero(~stays), offsets)
    kept = data[stays]
    kept[kept - ord("\t") < 5] = ord(" ")
    leading = np.append(kept, np.uint8(0))[places[:-1]] == ord(" ")
    return kept, np.minimum(places[:-1] + leading, places[1:]), places[1:]


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
