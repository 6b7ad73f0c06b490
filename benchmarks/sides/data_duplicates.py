"""A side: Baiwen's exact and near duplicates, over a corpus of `benchmarks.planted`.

    settings: {"documents": FOLDER, "threads": 1}

A turn reads the documents from disk, finds their digests and signatures, decides, verifies pairs
and tells the ids that go; `planted.judge` says which of them were right.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baiwen.data.dedup import exact, near
from baiwen.data.pipeline.step import Map
from benchmarks.turns import Turn


class Corpus:
    """A Parquet file whose row groups are the parts (`step.Parts`); findings stay in memory."""

    def __init__(self, path: Path) -> None:
        self.file = pq.ParquetFile(path)
        self.known = []  # by part: `id`, place and findings of the documents that are still there
        for part in range(self.file.num_row_groups):
            read = self.file.read_row_group(part, ["id", "bytes"], use_threads=False)
            self.known.append(read.append_column("place", [range(len(read))]))

    def __len__(self) -> int:
        return len(self.known)

    def table(self, part: int, columns: Sequence[str]) -> pa.Table:
        """Columns of a part, the text from disk."""
        return self.rows(part, range(len(self.known[part])), columns)

    def rows(self, part: int, places: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """The same of some documents."""
        known = self.known[part].take(pa.array(places, pa.int64()))
        if "text" in columns:
            read = self.file.read_row_group(part, ["text"], use_threads=False)["text"]
            known = known.append_column("text", read.take(known["place"]))
        return known.append_column("source", pa.nulls(len(known), pa.string())).select(
            list(dict.fromkeys(("id", *columns)))
        )

    def add(self, part: int, step: str, found: pa.Table) -> list[str]:
        """Keep what was found, and drop what goes; its ids."""
        known = self.known[part]
        for name in found.column_names:
            known = known.append_column(f"{step}.{name}", found[name])
        gone = (
            pc.is_valid(found["rule"])
            if "rule" in found.column_names
            else pa.array([False] * len(found))
        )
        self.known[part] = known.filter(pc.invert(gone))
        return known["id"].filter(gone).to_pylist()


def removed(path: Path) -> list[str]:
    """The ids of the documents that go."""
    corpus, gone = Corpus(path), []
    for step in (*exact.steps(exact.Exact()), *near.steps(near.Near())):
        if isinstance(step, Map):
            found = (step.function(corpus.table(part, step.reads)) for part in range(len(corpus)))
        else:
            found = step.function(corpus)
        for part, table in enumerate(found):
            gone += corpus.add(part, step.name, table)
    return gone


def main(settings: dict[str, Any]) -> None:
    """All documents whenever it is told."""
    path = Path(settings["documents"]) / "documents.parquet"
    documents = pq.ParquetFile(path).metadata.num_rows
    turn = Turn()
    while True:
        turn.wait()
        turn.figures = {"documents": documents, "removed": removed(path)}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
