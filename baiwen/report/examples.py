"""The section of documents as they are: some that were kept, and some that went, by reason.

    for block in examples([Run("data", Path("runs/web/data"))]): ...

As many of each reason, those whose ids have the least hash: a random sample, the same for the same
documents. Of a data run only ids and verdicts are read of all documents, and the texts of those
that are shown; a run of `generate`, which has no parts, is read whole.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from typing import Any, NamedTuple

import numpy as np
import xxhash

from baiwen.data.pipeline import explain
from baiwen.data.pipeline.ending import KEPT, Ending
from baiwen.data.pipeline.run import STEPS
from baiwen.data.pipeline.sidecar import PARTS
from baiwen.report.page import Block, Code, Table, Text
from baiwen.report.runs import Run
from baiwen.report.words import count, head

SHOWN = 10  # documents of each reason
TESTS = 20  # evaluations that are named, those for which most documents went
DECONTAMINATE = "decontaminate"
KEPT_FILES, DROPPED_FILES = "documents-*.jsonl.zst", "dropped-*.jsonl.zst"

Row = Mapping[str, Any]  # of a documents file


class Chosen(NamedTuple):
    """Some documents of a reason."""

    documents: int  # that there are of it
    rows: Sequence[Row]


def examples(runs: Sequence[Run]) -> Iterator[Block]:
    """Documents that were kept and dropped, folded by reason; what was dropped for which test."""
    for run in runs:
        if (run.folder / "data.json").is_file():
            yield from _contamination(run)
            for reason, chosen in sorted(_chosen(run).items(), key=_order):
                shown = f"{len(chosen.rows)} of {count(chosen.documents)} documents"
                source = run.source(KEPT_FILES if reason == KEPT else DROPPED_FILES)
                summary = f"{run.name}, {reason}: {shown} (from {source})"
                yield Code("\n\n".join(map(_told, chosen.rows)), summary)


def _order(item: tuple[str, Chosen]) -> tuple[bool, str]:
    return item[0] != KEPT, item[0]


def _chosen(run: Run) -> dict[str, Chosen]:
    """Documents of each reason, KEPT being the first."""
    return _of_parts(run) if (run.folder / PARTS / STEPS).is_file() else _of_files(run)


def _of_parts(run: Run) -> dict[str, Chosen]:
    """Those of a data run, found by their ids and verdicts in its parts."""
    ended, parts = explain.opened(run.folder)
    there: Counter[str] = Counter()
    least: dict[str, list[tuple[int, int, int]]] = defaultdict(list)  # hash, part, row
    for number in range(parts):
        ending = Ending(ended, number)
        for reason, rows in _reasons(ending).items():
            ids = ending.column("id").take(rows).to_pylist()
            ranked = zip(map(_rank, ids), [number] * len(rows), rows.tolist(), strict=True)
            there[reason] += len(rows)
            least[reason] = nsmallest(SHOWN, [*least[reason], *ranked])
    wanted = defaultdict(list)
    for reason, places in least.items():
        for _, number, row in places:
            wanted[number].append((row, reason))
    found: dict[str, list[Row]] = defaultdict(list)
    for number, chosen in sorted(wanted.items()):
        ending = Ending(ended, number)
        mask = np.zeros(len(ending.alive), bool)
        mask[[row for row, _ in chosen]] = True
        for document, (_, reason) in zip(ending.documents(mask), sorted(chosen), strict=True):
            found[reason].append(document)
    return {reason: Chosen(there[reason], rows) for reason, rows in found.items()}


def _reasons(ending: Ending) -> dict[str, np.ndarray]:
    """The rows of a part by what became of them: int64 [rows], without those held out."""
    rows = {KEPT: np.flatnonzero(ending.rows_of(KEPT))}
    dropped = ending.rows_of("dropped")
    by_reason: dict[str, list[int]] = defaultdict(list)
    for row, verdict in zip(np.flatnonzero(dropped), ending.verdicts(dropped), strict=True):
        assert verdict
        by_reason[_reason(verdict)].append(int(row))
    return rows | {reason: np.array(places) for reason, places in by_reason.items()}


def _of_files(run: Run) -> dict[str, Chosen]:
    """Those of a folder that has documents files alone."""
    there: Counter[str] = Counter()
    least: dict[str, list[tuple[int, int, Row]]] = defaultdict(list)
    recalled = run.table("recall.json").get("name")  # of a recall what it found, not the rest
    kept = f"documents-{recalled}-*.jsonl.zst" if recalled else KEPT_FILES
    for pattern in (kept, DROPPED_FILES):
        for place, row in enumerate(_rows(run, pattern)):
            reason = _reason(row["verdict"]) if row.get("verdict") else KEPT
            there[reason] += 1
            least[reason] = nsmallest(SHOWN, [*least[reason], (_rank(row["id"]), place, row)])
    return {
        reason: Chosen(there[reason], [row for *_, row in rows]) for reason, rows in least.items()
    }


def _rows(run: Run, pattern: str) -> Iterator[Row]:
    for path in sorted(run.folder.glob(pattern)):
        yield from run.rows(path.name)


def _contamination(run: Run) -> Iterator[Block]:
    """What went for holding a test, by the test's file, and the tests that were met most."""
    if DECONTAMINATE not in run.table("data.json").get("dropped", {}):
        return
    tests = Counter(
        row["found"]["test"]
        for row in _rows(run, DROPPED_FILES)
        if row["verdict"]["step"] == DECONTAMINATE and row.get("found")
    )
    if tests:
        rows = [[test, count(number)] for test, number in tests.most_common(TESTS)]
        yield Table(["dropped for holding", "documents"], rows, run.source(DROPPED_FILES))
    if len(tests) > TESTS:
        yield Text(f"{len(tests) - TESTS:,} more tests were met by fewer documents.")


def _told(row: Row) -> str:
    """A document: its id, where it is from, what was measured, and how it begins."""
    meta = row["meta"]
    place = meta.get("lineage", {}).get("place") or meta.get("source") or ""
    lines = [f"{row['id']}    {place}".rstrip()]
    if verdict := row.get("verdict"):
        lines += _measured(verdict)
    lines += (f"{name}: {head(str(value))}" for name, value in row.get("found", {}).items())
    return "\n".join([*lines, head(row["text"])])


def _measured(verdict: Row) -> Iterable[str]:
    told = [f"{name} {verdict[name]:.4g}" for name in ("value", "bound") if _known(verdict, name)]
    return [", ".join(told)] if told else []


def _known(verdict: Row, name: str) -> bool:
    return verdict.get(name) is not None


def _reason(verdict: Row) -> str:
    return f"{verdict['step']}: {verdict['rule']}"


def _rank(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode())
