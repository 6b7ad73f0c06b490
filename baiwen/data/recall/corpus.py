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
UNREADABLE, FIRST = "unreadable", "first"  # of a part: how many could not be read, one and why
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.uint64()),
        ("content", pa.uint64()),
        ("source", pa.string()),
        ("domain", pa.string()),
        ("bytes", pa.int64()),
        ("text", pa.large_string()),
        ("meta", pa.string()),
    ]
)
NAMES = pa.dictionary(pa.int32(), pa.string())
NARROW = pa.schema(  # what is read of all documents
    [
        ("key", pa.uint64()),
        ("content", pa.uint64()),
        ("source", NAMES),
        ("domain", NAMES),
        ("bytes", pa.int64()),
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
    contents: np.ndarray  # uint64 [documents]: hashes of their texts
    bytes: np.ndarray  # int64 [documents]: of their texts
    source: np.ndarray  # int32 [documents]: a place in `sources`, or NOWHERE
    sources: Sequence[str]
    domain: np.ndarray  # int32 [documents]: a place in `domains`
    domains: Sequence[str]
    unreadable: int  # documents that are none of these
    first: str  # where the first of them lies, and why

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """That of the parts in a folder."""
        parts = sorted(folder.glob("*.parquet"))
        names = {"columns": NARROW.names, "read_dictionary": ["source", "domain"]}
        tables = [pq.read_table(path, **names) for path in parts]
        flaws = [table.schema.metadata for table in tables]
        table = pa.concat_tables([NARROW.empty_table(), *tables])
        return cls(
            parts,
            np.cumsum([0, *map(len, tables)]),
            table["key"].to_numpy(),
            table["content"].to_numpy(),
            table["bytes"].to_numpy(),
            *_coded(table["source"]),
            *_coded(table["domain"]),
            sum(int(flaw[UNREADABLE.encode()]) for flaw in flaws),
            next((first.decode() for flaw in flaws if (first := flaw[FIRST.encode()])), ""),
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
    found = names.unify_dictionaries().combine_chunks()
    places = found.indices.fill_null(NOWHERE).to_numpy(zero_copy_only=False)
    return places, found.dictionary.to_pylist()


def store(task: Storing) -> None:
    """Write a part, unless it is there."""
    if task.path.is_file():
        return
    found = list(task.chunk.documents())
    rows = [_row(document, task.depth) for document in found if not document.flaw]
    flaws = [f"{document.meta['place']}: {document.flaw}" for document in found if document.flaw]
    told = {UNREADABLE: str(len(flaws)), FIRST: flaws[0] if flaws else ""}
    schema = SCHEMA.with_metadata(told)
    with files.writing(task.path) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)


def _row(document: Document, depth: int) -> dict[str, Any]:
    return {
        "id": document.id,
        "key": key(document.id),
        "content": key(document.text),
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
    """What orders documents at random, whatever else there is: a hash of the id or the text."""
    return xxhash.xxh3_64_intdigest(name.encode())
