"""Earlier runs: the documents that they kept, as the parts of a step.

    kept = Earlier([Path("runs/web/2024")], {"signatures": signatures})
    kept.table(0, ("signatures.keys",))      # of a documents file

A part is a documents file of a data run. What an earlier step found is found again from the texts,
by the functions given: these files are what a data run promises to keep.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baiwen import files
from baiwen.data.pipeline.step import COLUMNS
from baiwen.data.writers import by_source

Finding = Callable[[pa.Table], pa.Table]  # a Map's function


class Earlier:
    """Kept documents of earlier runs, a part a file (`step.Parts`)."""

    def __init__(self, folders: Sequence[Path], findings: Mapping[str, Finding]) -> None:
        found = [by_source(folder) for folder in folders]
        self.paths = [path for source in found for name in sorted(source) for path in source[name]]
        self.findings = findings

    def __len__(self) -> int:
        return len(self.paths)

    def table(self, part: int, columns: Sequence[str]) -> pa.Table:
        """`id` and these columns; null for what only a document of this run has."""
        rows = files.read_jsonl(self.paths[part])
        names = ("id", "text")
        held = pa.Table.from_pylist(
            [{name: row[name] for name in names} for row in rows],
            pa.schema([COLUMNS.field(name) for name in names]),
        )
        return pa.table({name: self._column(held, name) for name in ("id", *columns)})

    def rows(self, part: int, places: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """The same of those at `places`."""
        held = self.table(part, ("text",)).take(np.asarray(places, np.int64))
        return pa.table({name: self._column(held, name) for name in ("id", *columns)})

    def _column(self, held: pa.Table, name: str) -> pa.ChunkedArray:
        step, _, column = name.rpartition(".")
        if name in held.column_names:
            return held[name]
        if name == "bytes":
            return pc.binary_length(held["text"])
        return self.findings[step](held)[column] if step in self.findings else pa.nulls(len(held))
