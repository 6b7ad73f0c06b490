"""Writing: what became of drafts, as the files and the counts that a data stage leaves.

with Writing(folder) as written:
    for draft in drafts:
        written.put(draft)
files.write_json(folder / "data.json", written.card())
written.prompts["textbook"]         # {"replies": 900, "documents": 700, "refused": {...}}
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from baiwen import files
from baiwen.data.document import Document
from baiwen.data.generate.drafts import Draft
from baiwen.data.writers import FILE_BYTES, source_name

DROPPED = "dropped"


@dataclass
class Tally:
    """Documents and the bytes of their texts."""

    documents: int = 0
    bytes: int = 0

    def add(self, document: Document) -> None:
        """Count one."""
        self.documents += 1
        self.bytes += document.size


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


@dataclass
class Writing:
    """The files of a folder, and what is in them."""

    folder: Path
    steps: Iterable[str]  # in their order
    kept: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    licenses: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    languages: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    sources: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    refused: defaultdict[tuple[str, str], Tally] = field(
        default_factory=lambda: defaultdict(Tally)
    )  # by step and rule
    prompts: defaultdict[str, dict[str, Any]] = field(
        default_factory=lambda: defaultdict(
            lambda: {"replies": 0, "documents": 0, "refused": Counter()}
        )
    )
    _files: dict[str, Rows] = field(default_factory=dict)

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
        for rows in self._files.values():
            rows.__exit__(kind, error, trace)

    def put(self, draft: Draft) -> None:
        """Write a draft as a document, or with its verdict."""
        document, told = draft.document(), self.prompts[draft.prompt.name]
        told["replies"] += 1
        if draft.verdict:
            step, rule, *_ = draft.verdict
            self.refused[step, rule].add(document)
            told["refused"][f"{step}: {rule}"] += 1
            self._rows(DROPPED).put(draft.row(), document.size)
            return
        told["documents"] += 1
        self.kept[document.domain].add(document)
        self.sources[document.meta["source"]].add(document)
        self.licenses[str(document.meta.get("license", "unknown"))].add(document)
        self.languages[document.meta["language"]].add(document)
        self._rows(f"documents-{source_name(document.domain)}").put(document.row(), document.size)

    def card(self) -> dict[str, Any]:
        """What `data.json` tells, in the form of the data stage's."""
        dropped: dict[str, dict[str, Any]] = {}
        for (step, rule), tally in sorted(self.refused.items()):
            dropped.setdefault(step, {})[rule] = vars(tally)
        names = ("sources", "licenses", "languages")
        return {
            "kept": _told(self.kept),
            "dropped": {step: dropped[step] for step in self.steps if step in dropped},
            "funnel": list(self._funnel()),
            **{name: _told(getattr(self, name)) for name in names},
        }

    def _rows(self, name: str) -> Rows:
        if name not in self._files:
            self._files[name] = Rows(self.folder, name)
        return self._files[name]

    def _funnel(self) -> Iterable[dict[str, Any]]:
        gone = {
            step: _sum(t for (s, _), t in self.refused.items() if s == step) for step in self.steps
        }
        left = _sum([*self.kept.values(), *gone.values()])
        for step, lost in gone.items():
            after = Tally(left.documents - lost.documents, left.bytes - lost.bytes)
            sizes = {"bytes_in": left.bytes, "bytes_out": after.bytes}
            yield {"step": step, "in": left.documents, "out": after.documents, **sizes}
            left = after


def _told(tallies: dict[str, Tally]) -> dict[str, dict[str, int]]:
    return {name: vars(tally) for name, tally in sorted(tallies.items())}


def _sum(tallies: Iterable[Tally]) -> Tally:
    every = list(tallies)
    return Tally(sum(one.documents for one in every), sum(one.bytes for one in every))
