from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.contamination.subsequence import longest, matched, places

sequences = st.lists(st.integers(0, 4), max_size=90)


def brute(first, second):
    """The textbook's table, cell by cell."""
    row = [0] * (len(second) + 1)
    for element in first:
        above = row
        row = [0]
        for place, other in enumerate(second):
            same = above[place] + 1 if element == other else 0
            row.append(max(same, above[place + 1], row[place]))
    return row[-1]


@given(sequences, sequences)
def test_the_length_is_that_of_the_table(first, second):
    assert longest(places(first), second, len(first)) == brute(first, second)


@given(sequences, sequences)
def test_the_matched_places_are_a_common_subsequence_of_that_length(first, second):
    found = matched(first, second)
    assert len(found) == brute(first, second)
    assert found == sorted(set(found))
    rest = iter(first)
    assert all(second[place] in rest for place in found)
