"""The corpus of a recall: its documents as parts on disk, and what every round needs in memory.

store(Storing(chunk, folder / "00000.parquet", depth=1))    # in a process
corpus = Corpus.open(folder)
corpus.rows(np.array([3, 70]), ["id", "text"])
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from baiwen import files
from baiwen.data.document import Document
from baiwen.data.read import Chunk

NOWHERE = -1  # the source of a document that does not tell it
UNREADABLE = "unreadable"  # of a part: documents of its piece that could not be read
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("domain", pa.string()),
        ("bytes", pa.int64()),
        ("text", pa.large_string()),
        ("meta", pa.string()),
    ]
)


@dataclass(frozen=True)
class Storing:
    """A piece of the corpus and the part that it becomes."""

    chunk: Chunk
    path: Path
    depth: int  # pieces of a URL that name its source


@dataclass(frozen=True)
class Corpus:
    """All documents: their texts in parts on disk, what every round needs in memory."""

    parts: Sequence[Path]
    bounds: np.ndarray  # int64 [parts + 1]: the documents of part p are bounds[p] ... bounds[p+1]-1
    keys: np.ndarray  # uint64 [documents]: hashes of their ids
    bytes: np.ndarray  # int64 [documents]: of their texts
    source: np.ndarray  # int32 [documents]: a place in `sources`, or NOWHERE
    sources: Sequence[str]
    domain: np.ndarray  # int32 [documents]: a place in `domains`
    domains: Sequence[str]
    unreadable: int  # documents that are none of these

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """That of the parts in a folder."""
        parts, narrow = sorted(folder.glob("*.parquet")), ["id", "source", "domain", "bytes"]
        tables = [pq.read_table(path, columns=narrow) for path in parts]
        unreadable = sum(int(table.schema.metadata[UNREADABLE.encode()]) for table in tables)
        table = pa.concat_tables([SCHEMA.empty_table().select(narrow), *tables])
        keys = np.array([key(name) for name in table["id"].to_pylist()], np.uint64)
        return cls(
            parts,
            np.cumsum([0, *map(len, tables)]),
            keys,
            table["bytes"].to_numpy(),
            *_coded(table["source"]),
            *_coded(table["domain"]),
            unreadable,
        )

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, places: np.ndarray, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
        """The documents at `places`, rising."""
        cuts = np.searchsorted(places, self.bounds)
        found = [SCHEMA.empty_table().select(columns)]
        for part, (start, stop) in enumerate(pairwise(cuts)):
            if start < stop:
                table = pq.read_table(self.parts[part], columns=list(columns))
                found.append(table.take(places[start:stop] - self.bounds[part]))
        return pa.concat_tables(found)


def _coded(names: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Each name's place among the different ones, NOWHERE for null, and these."""
    found = names.combine_chunks().dictionary_encode()
    places = found.indices.fill_null(NOWHERE).to_numpy(zero_copy_only=False)
    return places, found.dictionary.to_pylist()


def store(task: Storing) -> None:
    """Write a part, unless it is there."""
    if task.path.is_file():
        return
    found = list(task.chunk.documents())
    rows = [_row(document, task.depth) for document in found if not document.flaw]
    schema = SCHEMA.with_metadata({UNREADABLE: str(len(found) - len(rows))})
    with files.writing(task.path) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)


def _row(document: Document, depth: int) -> dict[str, Any]:
    return {
        "id": document.id,
        "source": source(document.meta, depth),
        "domain": document.domain,
        "bytes": document.size,
        "text": document.text,
        "meta": json.dumps(document.meta, ensure_ascii=False),
    }


def source(meta: Mapping[str, Any], depth: int) -> str | None:
    """Where a document comes from: `meta.url`, or `meta.source`, down to `depth` pieces.

    source({"url": "https://www.example.org/maths/7?page=2"}, 2)      # "www.example.org/maths"
    source({"source": "github.com/owner/name@1f0a:a/b.md"}, 3)        # "github.com/owner/name"
    """
    place = str(meta.get("url") or meta.get("source") or "")
    place = place.partition("://")[2] or place
    for mark in "?#@":
        place = place.partition(mark)[0]
    return "/".join(place.split("/")[:depth]).lower() or None


def key(name: str) -> int:
    """What orders documents at random, whatever else there is: a hash of the id."""
    return xxhash.xxh3_64_intdigest(name.encode())
