"""Writing: what became of drafts, as the files and the counts that a data stage leaves.

with Writing(folder, steps) as written:
    for draft in drafts:
        written.put(draft)
files.write_json(folder / "data.json", written.card())
written.prompts["textbook"]     # {"replies": 900, "documents": 700, "refused": {...}}
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from baiwen import files
from baiwen.data.document import Document
from baiwen.data.generate.drafts import Draft
from baiwen.data.pipeline.census import edges
from baiwen.data.writers import FILE_BYTES, source_name

DROPPED = "dropped"
KINDS = {"sources": "source", "licenses": "license", "languages": "language"}  # fields of `meta`


@dataclass
class Tally:
    """Documents and the bytes of their texts."""

    documents: int = 0
    bytes: int = 0

    def add(self, document: Document) -> None:
        """Count one."""
        self.documents += 1
        self.bytes += document.size


Tallies = defaultdict[str, Tally]


class Rows:
    """A JSONL file after another, each of at most `FILE_BYTES` of text."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._number, self._size = -1, FILE_BYTES
        self._stack = ExitStack()
        self._put: Callable[[dict[str, Any]], None]

    def put(self, row: dict[str, Any], size: int) -> None:
        """Write a row whose text has so many bytes."""
        if self._size + size > FILE_BYTES:
            self._stack.close()
            self._number, self._size = self._number + 1, 0
            path = self._folder / f"{self._name}-{self._number:05}.jsonl.zst"
            self._put = self._stack.enter_context(files.jsonl_writer(path))
        self._put(row)
        self._size += size

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; after an exception it does not appear."""
        self._stack.__exit__(kind, error, trace)


class Writing:
    """The files of a folder, and what is in them."""

    def __init__(self, folder: Path, steps: Sequence[str]) -> None:
        """steps: those that refuse, in their order."""
        self.folder, self.steps = folder, steps
        self.kept: Tallies = defaultdict(Tally)  # by domain
        self.refused: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)  # by step and rule
        self.prompts: dict[str, dict[str, Any]] = {}
        self._kinds: defaultdict[str, Tallies] = defaultdict(lambda: defaultdict(Tally))
        self._scores: defaultdict[str, list[float]] = defaultdict(list)
        self._files: dict[str, Rows] = {}

    def __enter__(self) -> Self:
        for stale in (*self.folder.glob("documents-*"), *self.folder.glob(f"{DROPPED}-*")):
            stale.unlink()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files; after an exception those that are open do not appear."""
        for rows in self._files.values():
            rows.__exit__(kind, error, trace)

    def put(self, draft: Draft) -> None:
        """Write a draft as a document, or with its verdict."""
        document = draft.document()
        told = self.prompts.setdefault(
            draft.prompt.name, {"replies": 0, "documents": 0, "refused": Counter()}
        )
        told["replies"] += 1
        for name, score in draft.scores.items():
            self._scores[name].append(score)
        if draft.verdict:
            step, rule, *_ = draft.verdict
            self.refused[step, rule].add(document)
            told["refused"][f"{step}: {rule}"] += 1
            self._rows(DROPPED).put(draft.row(), document.size)
            return
        told["documents"] += 1
        self.kept[document.domain].add(document)
        for kind, field in KINDS.items():
            self._kinds[kind][str(document.meta.get(field, "unknown"))].add(document)
        self._rows(f"documents-{source_name(document.domain)}").put(document.row(), document.size)

    def card(self) -> dict[str, Any]:
        """What `data.json` tells, in the form of the data stage's."""
        dropped: dict[str, dict[str, Any]] = {step: {} for step in self.steps}
        for (step, rule), tally in sorted(self.refused.items()):
            dropped[step][rule] = vars(tally)
        return {
            "kept": _told(self.kept),
            "dropped": {step: rules for step, rules in dropped.items() if rules},
            "funnel": list(self._funnel()),
            **{kind: _told(self._kinds[kind]) for kind in KINDS},
            "histograms": {
                name: _histogram(values) for name, values in sorted(self._scores.items())
            },
        }

    def _rows(self, name: str) -> Rows:
        return self._files.setdefault(name, Rows(self.folder, name))

    def _funnel(self) -> Iterator[dict[str, Any]]:
        left = _sum([*self.kept.values(), *self.refused.values()])
        for step in self.steps:
            lost = _sum(tally for (at, _), tally in self.refused.items() if at == step)
            after = Tally(left.documents - lost.documents, left.bytes - lost.bytes)
            sizes = {"bytes_in": left.bytes, "bytes_out": after.bytes}
            yield {"step": step, "in": left.documents, "out": after.documents, **sizes}
            left = after


def _histogram(values: Sequence[float]) -> dict[str, list[float]]:
    bins = edges((min(values), max(values)))
    return {"edges": bins, "counts": np.histogram(values, bins)[0].tolist()}


def _told(tallies: Tallies) -> dict[str, dict[str, int]]:
    return {name: vars(tally) for name, tally in sorted(tallies.items())}


def _sum(tallies: Iterable[Tally]) -> Tally:
    every = list(tallies)
    return Tally(sum(one.documents for one in every), sum(one.bytes for one in every))
