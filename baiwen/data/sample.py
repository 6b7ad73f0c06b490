"""A sample of documents: the same ones from any order of files, each kind with its share.

    chosen = sample(lambda: read.documents(paths), count=10_000, by=("domain",), seed=0)

A document is drawn by the hash of its id, those with the lowest hashes of each stratum. Strata get
the same number each, and what small ones do not have goes to the others. The documents are read
twice, and only those chosen are held.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import xxhash

from baiwen.data.document import Document

Stratum = tuple[str, ...]


def sample(
    documents: Callable[[], Iterable[Document]], count: int, by: Sequence[str], seed: int
) -> list[Document]:
    """At most `count` documents that are not blank, by hash; `by` names fields of `meta`."""
    drawn: dict[Stratum, set[int]] = defaultdict(set)
    for document in documents():
        if document.text.strip():
            numbers = drawn[stratum(document, by)]
            numbers.add(draw(document.id, seed))
            if len(numbers) == 2 * count:  # only the lowest matter; no more than these are held
                numbers.intersection_update(heapq.nsmallest(count, numbers))
    lowest = {name: sorted(numbers)[:count] for name, numbers in drawn.items()}
    bars = {
        name: lowest[name][share - 1] for name, share in _shares(lowest, count).items() if share
    }
    chosen: dict[int, Document] = {}
    for document in documents():
        number = draw(document.id, seed)
        if number <= bars.get(stratum(document, by), -1) and document.text.strip():
            chosen.setdefault(number, document)
    return [chosen[number] for number in sorted(chosen)]


def draw(name: str, seed: int) -> int:
    """A number below 2^64 that hangs on nothing but a name and the seed."""
    return xxhash.xxh3_64_intdigest(name.encode(), seed)


def stratum(document: Document, by: Sequence[str]) -> Stratum:
    """The kind of a document: its domain, and other fields of its `meta`, as far as asked for."""
    own = {**document.meta, "domain": document.domain}
    return tuple(str(own.get(name, "")) for name in by)


def _shares(strata: Mapping[Stratum, Sequence[int]], count: int) -> dict[Stratum, int]:
    """How many of each stratum: as even as can be."""
    shares, left = {}, count
    for done, name in enumerate(sorted(strata, key=lambda name: (len(strata[name]), name))):
        shares[name] = min(len(strata[name]), left // (len(strata) - done))
        left -= shares[name]
    return shares
