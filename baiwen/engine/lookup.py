"""Guessing what comes next from what was there before: the same few ids, and what followed them.

    lookup = Lookup()
    lookup.guess([1, 2, 3, 9, 8, 1, 2, 3], most=2)         # [9, 8]
    lookup.guess([1, 2, 3, 9, 8, 1, 2, 3, 9, 8], most=7)   # [1, 2, 3, 9, 8, 1, 2]

Prompt look-up decoding (Saxena, 2023). It costs a little memory and no model: texts that quote,
edit or repeat their prompt go several tokens a step.
"""

from collections.abc import Sequence

LENGTHS = (4, 3, 2)  # ids that must be the same, tried in this order


class Lookup:
    """Where the ids of one growing text were last seen."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}  # ids -> the place after their last occurrence
        self._read = 0

    def guess(self, ids: Sequence[int], most: int) -> list[int]:
        """`most` ids that may follow, or none; `ids` begins with those of the last call."""
        for end in range(self._read, len(ids)):  # what ends at `end` is followed by ids[end]
            for length in LENGTHS:
                if end >= length:
                    self._after[tuple(ids[end - length : end])] = end
        self._read = len(ids)
        for length in LENGTHS:
            place = self._after.get(tuple(ids[-length:]))
            if place is not None and len(ids) > length:
                period = len(ids) - place
                return [ids[place + i % period] for i in range(most)]
        return []
