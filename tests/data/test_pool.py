import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.pool import cut


def naive_cut(lengths, size):
    """(start, length, last) of every piece, a document and a piece at a time."""
    pieces, start = [], 0
    for length in lengths:
        at = 0
        while at < length:
            piece = min(size, length - at)
            last = at + piece == length
            if not (last and piece == 1):
                pieces.append((start + at, piece, last))
            at += piece
        start += length
    return pieces


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(1, 12))
def test_pieces_are_those_of_a_document_by_document_cut(lengths, size):
    pieces = cut(np.cumsum(lengths, dtype=np.int64), size)
    found = list(zip(pieces.start, pieces.length, pieces.last, strict=True))
    assert found == naive_cut(lengths, size)


def test_only_the_chosen_documents_are_cut():
    ends = np.array([3, 10, 14])
    pieces = cut(ends, 5, np.array([True, False, True]))
    assert pieces.start.tolist() == [0, 10]
    assert pieces.length.tolist() == [3, 4]
