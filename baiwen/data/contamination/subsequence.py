"""The longest common subsequence of two sequences, a machine word of cells at a time.

The bit-parallel algorithm of Crochemore et al. (2001) in Hyyro's form (2004): one row of the table
of lengths is one Python integer, whose bit j is 0 where the length grows at element j of `first`.
A row costs an addition, a subtraction and two bitwise operations, whatever the alphabet.

    first, second = [1, 2, 3, 2], [2, 9, 3, 3, 2]
    longest(places(first), second, 4)       # 3: 2 3 2
    matched(first, second)                  # [0, 3, 4]: where they stand in the second
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence


def places(first: Iterable[Hashable]) -> dict[Hashable, int]:
    """For each element of a sequence, the bits of where it stands."""
    found: dict[Hashable, int] = {}
    for bit, element in enumerate(first):
        found[element] = found.get(element, 0) | 1 << bit
    return found


def longest(where: Mapping[Hashable, int], second: Iterable[Hashable], size: int) -> int:
    """The length of the longest common subsequence; `size`: elements of the first."""
    row = (1 << size) - 1
    for row in _rows(where, second, size):  # noqa: B007 - the last one is wanted
        pass
    return size - row.bit_count()


def matched(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[int]:
    """Where in the second the elements of one longest common subsequence stand, rising.

    Memory: a bit for each pair of elements.
    """
    table = [(1 << len(first)) - 1, *_rows(places(first), second, len(first))]
    found = []
    column, place = len(first), len(second)
    while column and place:
        bit = 1 << column - 1
        if table[place] & bit:  # no longer with this element of the first
            column -= 1
            continue
        place -= 1
        if table[place] & bit:  # not yet so long without this element of the second
            column -= 1
            found.append(place)
    return found[::-1]


def _rows(where: Mapping[Hashable, int], second: Iterable[Hashable], size: int) -> Iterator[int]:
    """The row of the table after each element of the second."""
    full = row = (1 << size) - 1
    for element in second:
        if bits := where.get(element):
            up = row & bits
            row = (row + up | row - up) & full
        yield row
