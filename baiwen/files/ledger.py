"""A ledger: rows under a key, each durable as soon as it is added; for work not to be done twice.

    with Ledger("runs/judge/state/said.jsonl") as said:
        if key not in said.rows:
            said.add(key, {"text": "A"})

A row is a line of JSONL with its `key`; the first row of a key stays. Several processes may share a
ledger: each adds under the file's lock, and takes in what the others have added. A line that a kill
has torn is cut off before the next one is added. In memory is only where each row lies.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from baiwen.errors import UserError
from baiwen.files.durable import explained, make_folder, sync_folder
from baiwen.files.formats import parse_row

Row = dict[str, Any]
BLOCK = 1 << 24  # bytes that are read at a time


class Rows(Mapping[str, Row]):
    """The rows of an open ledger, read from the disk when they are asked for."""

    def __init__(self, path: Path, file: int) -> None:
        self._path, self._file = path, file
        self._places: dict[str, tuple[int, int]] = {}  # where a row begins, and its bytes
        self._lines = 0
        self.end = 0  # up to where the file has been read

    def __getitem__(self, key: str) -> Row:
        start, size = self._places[key]
        row = parse_row(os.pread(self._file, size, start), str(self._path))
        del row["key"]
        return row

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def read_on(self) -> None:
        """Take in the whole lines that have come; the file must be locked."""
        while data := os.pread(self._file, BLOCK, self.end):
            if b"\n" not in data and len(data) == BLOCK:  # a line of more than a block
                data = os.pread(self._file, os.fstat(self._file).st_size - self.end, self.end)
            whole = data[: data.rfind(b"\n") + 1]
            for line in whole.splitlines(keepends=True):
                self._lines += 1
                place = f"{self._path}:{self._lines}"
                key = parse_row(line, place).get("key")
                if not isinstance(key, str):
                    raise UserError(f"{place}: this is no ledger: a row has no string `key`")
                self._places.setdefault(key, (self.end, len(line)))
                self.end += len(line)
            if not whole:
                return


class Ledger:
    """The rows of a file, and the one way to add to them; from any thread and process."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        make_folder(self.path.parent)
        with explained(self.path):
            self._file = self.path.open("ab+", buffering=0)
            sync_folder(self.path.parent)
        self.rows = Rows(self.path, self._file.fileno())
        with self._locked(fcntl.LOCK_SH):
            self.rows.read_on()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._file.close()

    def get(self, key: str) -> Row | None:
        """The row of a key, also one that another process has added; None where there is none."""
        if key not in self.rows and os.fstat(self._file.fileno()).st_size > self.rows.end:
            with self._locked(fcntl.LOCK_SH):
                self.rows.read_on()
        return self.rows.get(key)

    def add(self, key: str, row: Row) -> Row:
        """Write a row; when this returns, it is on the disk.

        Gives the row that counts: where there is one of this key already, that one.
        """
        line = json.dumps({"key": key, **row}, ensure_ascii=False, allow_nan=False) + "\n"
        with self._locked(fcntl.LOCK_EX):
            self.rows.read_on()
            if key not in self.rows:
                self._append(line.encode())
                self.rows.read_on()
        return self.rows[key]

    def _append(self, line: bytes) -> None:
        file = self._file.fileno()
        if os.fstat(file).st_size > self.rows.end:  # a kill has torn a line
            os.ftruncate(file, self.rows.end)
        left = memoryview(line)
        while left:
            left = left[self._file.write(left) :]
        os.fsync(file)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Hold the file against other threads, and against other processes as `kind` says."""
        with self._lock, explained(self.path):
            fcntl.flock(self._file, kind)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
