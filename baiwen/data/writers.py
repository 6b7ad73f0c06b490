"""Documents files, parted by domain, each of a bounded size: `documents-code-00003.jsonl.zst`.

with Writers(folder) as keep:
    for document in documents:
        keep.put(document)
by_source(folder)                   # {"code": [.../documents-code-00000.jsonl.zst, ...], ...}
"""

import re
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from baiwen import files
from baiwen.data.document import Document
from baiwen.errors import UserError

FILE_BYTES = 1 << 26  # of text in a documents file: the work of one process in the shards stage
DOMAINS = 100  # domains that a corpus may have: each is a source of the mixture


class Writers:
    """The open documents files, one a domain, each replaced by the next when it is full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Writer] = {}

    def __enter__(self) -> "Writers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all files; after an exception nothing of the open ones appears."""
        for writer in self._open.values():
            writer.stack.__exit__(kind, error, trace)

    def put(self, document: Document) -> None:
        """Write a document into its domain's file."""
        name = source_name(document.domain)
        writer = self._open.get(name)
        if writer is None or writer.size + document.size > FILE_BYTES:
            writer = self._open[name] = self._next(name, writer)
        writer.put(document.row())
        writer.size += document.size

    def _next(self, name: str, full: "Writer | None") -> "Writer":
        if full is None and len(self._open) == DOMAINS:
            raise UserError(
                f"the corpus has more than {DOMAINS} domains ({', '.join(list(self._open)[:5])}, "
                "...). Each becomes a source of the mixture: give the documents' `meta.domain` "
                "fewer values."
            )
        if full is not None:
            full.stack.close()
        number = full.number + 1 if full else 0
        stack = ExitStack()
        path = self.folder / f"documents-{name}-{number:05}.jsonl.zst"
        return Writer(number, stack, stack.enter_context(files.jsonl_writer(path)))


@dataclass
class Writer:
    """An open documents file."""

    number: int  # of the file within its domain
    stack: ExitStack  # closes it
    put: Callable[[dict[str, Any]], None]
    size: int = 0  # bytes of text so far


def source_name(domain: str) -> str:
    """A domain as a part of a file name: the name of its source in the mixture."""
    return re.sub(r"[^\w.]+", "_", domain).strip("_.") or "unnamed"


def by_source(*folders: Path | str) -> dict[str, list[Path]]:
    """The documents files of data folders, by source; those of the first folder come first."""
    found: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        named = [
            (match[1], path)
            for path in sorted(Path(folder).glob("documents-*.jsonl.zst"))
            if (match := re.fullmatch(r"documents-(.+)-\d{5}\.jsonl\.zst", path.name))
        ]
        for name, path in named:
            found[name].append(path)
        if not named:
            raise UserError(
                f"{folder}: holds no documents-NAME-00000.jsonl.zst. Give the folder of a data "
                "stage."
            )
    return dict(found)
