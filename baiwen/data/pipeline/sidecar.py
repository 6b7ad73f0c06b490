"""Sidecars: what a step found out about a part, on disk beside the documents.

parts/documents/00003.parquet    the documents (`step.COLUMNS`), never changed
parts/near/00003.parquet         what the step `near` found: a row for each of them, in their
                                 order, null where a document was gone or is not its business
parts/near/00003.json            its manifest, written last: without it the file does not count

store(folder, "near", 3, table, key="9f3a...")
manifest(folder, "near", 3).rows
earlier(folder, [Path("runs/web/data-loose")], "near", 3, key="9f3a...")
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from baiwen import files
from baiwen.files.durable import take

PARTS, DOCUMENTS, READ = "parts", "documents", "read"

Tally = dict[str, int]  # {"documents", "bytes"}, the bytes being those of their texts


@dataclass(frozen=True)
class Manifest:
    """What a step found out about a part, in short; equal wherever and however it was made."""

    key: str  # of all that the findings depend on: equal keys, equal findings
    digest: str  # xxh3 of the Parquet file
    size: int  # its bytes
    rows: int
    columns: tuple[str, ...]
    alive: str = ""  # digest of which rows are still there after the step
    before: Tally = field(default_factory=dict)  # what was still there, before the step and after
    after: Tally = field(default_factory=dict)
    dropped: dict[str, dict[str, Tally]] = field(default_factory=dict)  # by rule, then by domain
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)  # of columns of numbers
    sources: tuple[str, ...] = ()  # of documents: where they are from


def place(folder: Path, step: str, number: int) -> Path:
    """Where a step's findings about a part lie."""
    return folder / PARTS / step / f"{number:05}.parquet"


def manifest(folder: Path, step: str, number: int) -> Manifest | None:
    """The manifest of a part's findings; None where they are not there as it says."""
    data = place(folder, step, number)
    path = data.with_suffix(".json")
    if not (path.is_file() and data.is_file()):
        return None
    row = files.read_json(path)
    found = Manifest(**row | {name: tuple(row[name]) for name in ("columns", "sources")})
    return found if data.stat().st_size == found.size else None


def store(folder: Path, step: str, number: int, table: pa.Table, **told: Any) -> Manifest:  # noqa: ANN401 - fields of a manifest
    """Write a step's findings, then their manifest, each durably and whole."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=1)
    data = sink.getvalue()
    made = Manifest(
        digest=xxhash.xxh3_128_hexdigest(data),
        size=data.size,
        rows=table.num_rows,
        columns=tuple(table.column_names),
        **told,
    )
    path = place(folder, step, number)
    forget(path)
    with files.writing(path) as file:
        file.write(data)
    files.write(path.with_suffix(".json"), json.dumps(asdict(made), ensure_ascii=False) + "\n")
    return made


def forget(path: Path) -> None:
    """Take away a manifest before what it tells of is replaced: it must never tell of another."""
    path.with_suffix(".json").unlink(missing_ok=True)


def column(folder: Path, step: str, number: int, name: str) -> pa.Array:
    """A column of a step's findings about a part, or of its documents."""
    with pq.ParquetFile(place(folder, step, number)) as file:
        return file.read([name], use_threads=False)[name].combine_chunks()


def earlier(
    folder: Path, reuse: Sequence[Path], step: str, number: int, key: str
) -> Manifest | None:
    """The manifest of findings with this key: those that are there, or taken over from a run."""
    here = manifest(folder, step, number)
    if here and here.key == key:
        return here
    copy = place(folder, step, number)
    for other in reuse:
        there = _numbers(other, step).get(key)
        if there is None:
            continue
        found, path = manifest(other, step, there), place(other, step, there)
        if found and found.key == key:  # and not made again since
            forget(copy)
            for ending in (".parquet", ".json"):  # the manifest last
                take(path.with_suffix(ending), copy.with_suffix(ending))
            return found
    return None


@cache
def _numbers(folder: Path, step: str) -> dict[str, int]:
    """Which part of a run has the findings of a key."""
    found = sorted((folder / PARTS / step).glob("*.json"))
    return {files.read_json(path)["key"]: int(path.stem) for path in found}
