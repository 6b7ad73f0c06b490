"""Numbers that are too many for memory, in a file that goes with its object.

shingles = Spill(np.uint64)
shingles.add(np.array([3, 5]))          # number 0
shingles[0]                             # read from the disk, or from what the system caches of it
"""

import tempfile
from itertools import accumulate

import numpy as np
from numpy.typing import DTypeLike


class Spill:
    """Arrays of one type, added one after the other and read in any order."""

    def __init__(self, kind: DTypeLike) -> None:
        self.kind = np.dtype(kind)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as it is needed
        self._sizes: list[int] = []
        self._places: list[int] | None = None  # where each begins, once all are there
        self._read = np.zeros(0, self.kind)

    def add(self, values: np.ndarray) -> None:
        """Put an array behind the others."""
        assert self._places is None, "all has to be added before any is read"
        self._file.write(np.ascontiguousarray(values, self.kind).data)
        self._sizes.append(len(values))

    def all(self) -> np.ndarray:
        """All that was added, end to end; the system reads from the disk what is looked at."""
        if self._places is None:
            self._places = list(accumulate(self._sizes, initial=0))
            self._file.flush()
            if self._places[-1]:
                self._read = np.asarray(np.memmap(self._file, self.kind, mode="r"))
        return self._read

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, number: int) -> np.ndarray:
        values = self.all()
        assert self._places is not None
        return values[self._places[number] : self._places[number + 1]]
