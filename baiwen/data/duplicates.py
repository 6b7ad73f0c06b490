"""Exact duplicates: of documents that are equal but for white space, the first stays.

    steps()      # Map("fingerprints"), Global("exact")
"""

from collections.abc import Iterator

import pyarrow as pa
import xxhash

from baiwen.data.pipeline.step import Global, Map, Parts, Verdict, verdicts


def steps() -> tuple[Map, Global]:
    """The step in two: a digest of each document, then which came before."""
    return Map("fingerprints", fingerprints), Global("exact", exact, ("fingerprints.digest",))


def fingerprints(table: pa.Table) -> pa.Table:
    """A digest that is equal for texts that differ in white space alone."""
    texts = table["text"].to_pylist()
    found = [xxhash.xxh3_128_digest(" ".join(text.split()).encode()) for text in texts]
    return pa.table({"digest": pa.array(found, pa.binary(16))})


def exact(parts: Parts) -> Iterator[pa.Table]:
    """Drop every document whose digest came before."""
    seen: set[bytes] = set()
    for part in range(len(parts)):
        found: list[Verdict | None] = []
        for digest in parts.table(part, ("fingerprints.digest",))[1].to_pylist():
            found.append(Verdict("duplicate") if digest in seen else None)
            seen.add(digest)
        yield verdicts(found)
