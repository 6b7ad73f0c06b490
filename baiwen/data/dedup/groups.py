"""Union-find: connected components of documents, from pairs that are joined batch by batch.

groups = Groups(1_000_000)
groups.join(left, right)                # whole arrays of pairs
groups.labels()                         # for each document the lowest number of its component
"""

import numpy as np


class Groups:
    """A forest in which the root of each tree is the lowest of its members."""

    def __init__(self, count: int) -> None:
        self._parents = np.arange(count)

    def join(self, left: np.ndarray, right: np.ndarray) -> None:
        """Put the two of every pair into one component."""
        while True:
            left, right = self._parents[left], self._parents[right]
            apart = left != right
            if not apart.any():
                return
            left, right = left[apart], right[apart]
            np.minimum.at(self._parents, np.maximum(left, right), np.minimum(left, right))
            self._flatten()

    def labels(self) -> np.ndarray:
        """The root of each: int64 [count]."""
        return self._parents

    def _flatten(self) -> None:
        while True:
            grand = self._parents[self._parents]
            if np.array_equal(grand, self._parents):
                return
            self._parents = grand
