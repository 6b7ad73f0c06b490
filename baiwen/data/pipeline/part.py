"""A part: a bounded piece of the documents, as the steps so far left them.

    part = Part(folder, 3, ["read", "heuristics"])
    part.alive                                       # bool [rows]: who is still there
    part.table(("text", "heuristics.words"), part.alive)
    finish(part, "quality", found, part.alive, key)  # on the disk, counted, and gone on from

The first step is always `read`: it says what could not be read, and the size of every text.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from baiwen.data.pipeline import sidecar
from baiwen.data.pipeline.sidecar import DOCUMENTS, READ, Manifest, Tally
from baiwen.data.pipeline.step import COLUMNS, VERDICT

CHANGED = ("text", "domain", "language")  # what a step may change of a document
SIZE = "bytes"  # of the texts: a column that follows their changes
_TYPES = {field.name: field.type for field in (*COLUMNS, *VERDICT)}  # whatever a step gives


class Part:
    """The documents of a part after some steps; columns are read when they are asked for."""

    def __init__(self, folder: Path, number: int, steps: Sequence[str]) -> None:
        self.folder, self.number = folder, number
        self.steps: list[str] = []
        self.manifests: dict[str, Manifest] = {}
        self.columns: dict[str, tuple[str, ...]] = {}
        self._read: dict[tuple[str, str], pa.Array] = {}
        for step in (DOCUMENTS, *steps):
            found = sidecar.manifest(folder, step, number)
            assert found, f"{step} of part {number} is not done"
            self.skip(step, found)

    @cached_property
    def alive(self) -> np.ndarray:
        """Which rows no step has dropped: bool [rows]."""
        alive = np.ones(self.manifests[DOCUMENTS].rows, bool)
        for step in self._with("rule"):
            alive &= _is_null(self._found(step, "rule"))
        return alive

    def column(self, name: str) -> pa.Array:
        """A column of all rows: of `COLUMNS`, the "bytes" of texts, or "STEP.column"."""
        step, dot, inner = name.partition(".")
        if dot:
            return self._found(step, inner)
        if name == SIZE:
            return self._sizes()
        made = self._found(DOCUMENTS, name)
        for step in self._with(name) if name in CHANGED else ():
            made = pc.coalesce(self._found(step, name), made)
        return made

    def table(self, columns: Sequence[str], rows: np.ndarray) -> pa.Table:
        """`id` and these columns of the rows of a mask."""
        names = list(dict.fromkeys(("id", *columns)))
        found = [self.column(name) for name in names]
        if not rows.all():
            mask = pa.array(rows)
            found = [column.filter(mask) for column in found]
        return pa.table(found, names)

    def tally(self, rows: np.ndarray) -> Tally:
        """How many documents the rows of a mask are, and how many bytes of text."""
        sizes = self._sizes().to_numpy(zero_copy_only=False)
        return {"documents": int(rows.sum()), "bytes": int(sizes[rows].sum())}

    def seen(self, hidden: Sequence[str]) -> np.ndarray:
        """The rows that are still there, without those of some sources."""
        if not set(hidden) & set(self.manifests[DOCUMENTS].sources):
            return self.alive
        apart = pc.is_in(self.column("source"), pa.array(hidden, pa.string()))
        return self.alive & ~apart.to_numpy(zero_copy_only=False)

    def origins(self, name: str) -> list[str]:
        """The steps from whose findings a column is made."""
        step, dot, _ = name.partition(".")
        if dot:
            return [step]
        return [READ, *self._with("text")] if name == SIZE else [DOCUMENTS, *self._with(name)]

    def add(self, step: str, found: pa.Table) -> None:
        """Go on from findings about all rows that are not on the disk yet."""
        alive = self.alive
        self.steps.append(step)
        self.columns[step] = tuple(found.column_names)
        for name in found.column_names:
            self._read[step, name] = found[name].combine_chunks()
        if "rule" in found.column_names:
            self.alive = alive & _is_null(self._read[step, "rule"])

    def skip(self, step: str, made: Manifest) -> None:
        """Go on from findings that lie on the disk."""
        self.steps.append(step)
        self.manifests[step], self.columns[step] = made, made.columns
        self.__dict__.pop("alive", None)

    def _with(self, column: str) -> list[str]:
        """The steps that have a finding of this name."""
        return [step for step in self.steps[1:] if column in self.columns[step]]

    def _sizes(self) -> pa.Array:
        made = self._found(READ, SIZE)
        for step in self._with("text"):
            sizes = pc.binary_length(self._found(step, "text")).cast(pa.int64())
            made = pc.coalesce(sizes, made)
        return made

    def _found(self, step: str, column: str) -> pa.Array:
        if (step, column) not in self._read:
            self._read[step, column] = sidecar.column(self.folder, step, self.number, column)
        return self._read[step, column]


def finish(part: Part, step: str, found: pa.Table, rows: np.ndarray, key: str) -> Manifest:
    """Store what a step found about the rows of a mask, count it, and go on from there."""
    whole = _spread(found, rows)
    alive = part.alive
    before = {} if step == READ else part.tally(alive)  # `read` is what tells the sizes
    part.add(step, whole)
    made = sidecar.store(
        part.folder,
        step,
        part.number,
        whole,
        key=key,
        alive=fingerprint(part.alive),
        before=before or part.tally(alive),
        after=part.tally(part.alive),
        dropped=_dropped(part, step, alive & ~part.alive),
        ranges=_ranges(whole),
    )
    part.manifests[step] = made
    return made


def fingerprint(rows: np.ndarray) -> str:
    """A digest of which rows a mask holds."""
    return xxhash.xxh3_64_hexdigest(np.packbits(rows).tobytes() + len(rows).to_bytes(8, "little"))


def _spread(found: pa.Table, rows: np.ndarray) -> pa.Table:
    """Findings about the rows of a mask as those of all rows, null elsewhere; in known types."""
    assert found.num_rows == rows.sum(), f"{found.num_rows} findings for {rows.sum()} documents"
    names = [name for name in found.column_names if name != "id"] or ["rule"]
    index = pa.array(np.where(rows, np.cumsum(rows) - 1, 0), mask=~rows)
    made = {}
    for name in names:
        given = found[name] if name in found.column_names else pa.nulls(found.num_rows)
        typed = given.cast(_TYPES.get(name, given.type))
        made[name] = typed if rows.all() else _taken(typed, index)
    return pa.table(made)


def _taken(column: pa.ChunkedArray, index: pa.Array) -> pa.ChunkedArray | pa.Array:
    """The column's rows at `index`, null where that is.

    Parquet cannot read back lists of a fixed size of which some are null (pyarrow 25): they are
    zeros instead, which nothing reads.
    """
    if not pa.types.is_fixed_size_list(column.type):
        return column.take(index)
    size, given = column.type.list_size, column.combine_chunks().flatten()
    whole = np.zeros((len(index), size), given.type.to_pandas_dtype())
    whole[index.is_valid().to_numpy(zero_copy_only=False)] = given.to_numpy().reshape(-1, size)
    return pa.FixedSizeListArray.from_arrays(pa.array(whole.ravel(), given.type), size)


def _dropped(part: Part, step: str, rows: np.ndarray) -> dict[str, dict[str, Tally]]:
    """The rows of a mask that a step dropped: by rule, then by domain, both sorted."""
    if not rows.any():
        return {}
    gone = part.table((f"{step}.rule", "domain", SIZE), rows)
    names = [f"{step}.rule", "domain"]
    groups = gone.group_by(names).aggregate([(SIZE, "count"), (SIZE, "sum")])
    found = groups.select([*names, f"{SIZE}_count", f"{SIZE}_sum"]).to_pydict().values()
    told: dict[str, dict[str, Tally]] = {}
    for rule, domain, count, size in sorted(zip(*found, strict=True)):
        told.setdefault(rule, {})[domain] = {"documents": count, "bytes": size}
    return told


def _ranges(found: pa.Table) -> dict[str, tuple[float, float]]:
    """The least and greatest of each column of scores, where it has any."""
    made = {}
    for field in found.schema:
        if field.name not in _TYPES and pa.types.is_floating(field.type):
            ends = pc.min_max(found[field.name]).as_py()
            if ends["min"] is not None:
                made[field.name] = (float(ends["min"]), float(ends["max"]))
    return made


def _is_null(values: pa.Array) -> np.ndarray:
    return pc.is_null(values).to_numpy(zero_copy_only=False)
