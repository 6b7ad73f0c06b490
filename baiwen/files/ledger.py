"""A ledger: rows under a key, each durable as soon as it is added; for work not to be done twice.

    with Ledger("runs/judge/state/said.jsonl") as said:
        if key not in said.rows:
            said.add(key, {"text": "A"})

A row is a line of JSONL with its `key`. A line that a kill has torn is cut off when the file is
opened again; a key that is added twice keeps its last row.
"""

import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from baiwen.files.durable import explained, make_folder, sync_folder
from baiwen.files.formats import parse_row


class Ledger:
    """The rows of a file, and the one way to add to them; from any thread."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.rows: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        make_folder(self.path.parent)
        with explained(self.path):
            self._file = self.path.open("ab+")
            sync_folder(self.path.parent)
            self._file.seek(0)
            data = self._file.read()
            whole = data.rfind(b"\n") + 1
            self._file.truncate(whole)
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            row = parse_row(line, f"{self.path}:{number}")
            self.rows[row.pop("key")] = row
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with explained(self.path):  # what a full disk has not taken is tried once more
            self._file.close()

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Write a row; when this returns, it is on the disk."""
        line = json.dumps({"key": key, **row}, ensure_ascii=False, allow_nan=False) + "\n"
        with self._lock, explained(self.path):
            self._file.write(line.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
            self.rows[key] = row
