"""Reading: chunks of files become parts of documents on disk.

    read_all(folder, {"corpus": chunks, "tasks": more}, work)       # -> 12, the number of parts

    parts/documents/00000.parquet    the documents
    parts/read/00000.parquet         the size of every text, and which could not be read

What cannot be read is a row like any other, with the verdict "unreadable" of the step `read` and
the reason beside it as `read.flaw`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from baiwen import log
from baiwen.data.document import Document
from baiwen.data.pipeline import keys, sidecar
from baiwen.data.pipeline.engines import Work
from baiwen.data.pipeline.part import SIZE, Part, finish
from baiwen.data.pipeline.sidecar import DOCUMENTS, READ, Manifest
from baiwen.data.pipeline.step import COLUMNS, Verdict, verdicts
from baiwen.data.read import Chunk, stamp

CORPUS = "corpus"  # the source of documents that are not extra ones
UNREADABLE, FLAW = "unreadable", "flaw"  # the rule, and the column that says more


@dataclass(frozen=True)
class Piece:
    """The reading of one part."""

    number: int
    source: str  # CORPUS, or the name of extra documents
    chunk: Chunk

    def __str__(self) -> str:
        return f"the reading of part {self.number} ({self.source})"


def read_all(
    folder: Path,
    sources: Mapping[str, Iterable[Chunk]],
    work: Work,
    most: int | None = None,
    reuse: Sequence[Path] = (),
) -> int:
    """Read all sources, in order, into a part a chunk; how many they are.

    most: bytes of the corpus's texts that are read, to the end of a document; none: all.
    """
    count = 0
    for source, chunks in sources.items():
        left = most if source == CORPUS else None
        pieces = (Piece(number, source, chunk) for number, chunk in enumerate(chunks, count))
        reader = partial(read, folder=folder, reuse=reuse)
        for made in log.track(work(reader, pieces), f"read {source}", unit="parts"):
            size = made.before["bytes"]
            if left is not None and size > left:
                _cut(folder, count, left)
            count += 1
            left = None if left is None else left - size
            if left is not None and left <= 0:
                break
    return count


def read(piece: Piece, folder: Path, reuse: Sequence[Path] = ()) -> Manifest:
    """Read a part and write it with its sidecar, unless both are there; the sidecar's manifest."""
    there = [stamp(url) for url in piece.chunk.urls()]
    chunk = keys.told(piece.chunk, of_path=keys.stamp)
    key = keys.key(keys.told(read), piece.source, chunk, there)
    documents, done = (
        sidecar.earlier(folder, reuse, step, piece.number, key) for step in (DOCUMENTS, READ)
    )
    if documents and done:
        return done
    found = list(piece.chunk.documents())
    rows = [_row(piece.source, document) for document in found]
    table = pa.Table.from_pylist(rows, schema=COLUMNS)
    return _store(folder, piece.number, table, _judged(found), key)


def _row(source: str, document: Document) -> dict[str, Any]:
    family = document.meta.get("family") or xxhash.xxh3_128_hexdigest(document.squeezed.encode())
    return {
        "id": document.id,
        "text": document.text,
        "domain": document.domain,
        "language": document.meta.get("language"),
        "source": source,
        "family": str(family),
        "meta": json.dumps(document.meta, ensure_ascii=False, allow_nan=False),
    }


def _judged(documents: Sequence[Document]) -> pa.Table:
    """What the step `read` finds: the size of every text, and which are none."""
    found = verdicts([Verdict(UNREADABLE) if one.flaw else None for one in documents])
    sizes = pa.array([one.size for one in documents], pa.int64())
    flaws = pa.array([one.flaw for one in documents], pa.string())
    return found.append_column(SIZE, sizes).append_column(FLAW, flaws)


def _store(folder: Path, number: int, documents: pa.Table, found: pa.Table, key: str) -> Manifest:
    sources = tuple(sorted(set(documents["source"].to_pylist())))
    sidecar.store(folder, DOCUMENTS, number, documents, key=key, sources=sources)
    part = Part(folder, number, [])
    return finish(part, READ, found, part.alive, key)


def _cut(folder: Path, number: int, most: int) -> None:
    """Leave of a part the first documents, up to the one that brings `most` bytes of text."""
    part = Part(folder, number, [READ])
    sizes = part.column(SIZE).to_numpy()
    rows = np.cumsum(sizes) - sizes < most
    found = pa.table({name: part.column(f"{READ}.{name}") for name in part.columns[READ]})
    documents = part.table(COLUMNS.names, rows)
    key = keys.key(part.manifests[READ].key, most)
    _store(folder, number, documents, found.filter(pa.array(rows)), key)
