"""What is held out."""

import random

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from baiwen.data.split import family_hashes, held_out

ROWS = [(f"family {i // 2}", 7 * (i % 7 + 1)) for i in range(4000)]  # family, bytes


class InMemory:
    """`Parts` of rows, 500 a part."""

    def __init__(self, rows):
        self.parts = [rows[i : i + 500] for i in range(0, len(rows), 500)]

    def __len__(self):
        return len(self.parts)

    def table(self, part, columns):
        rows = self.parts[part]
        return pa.table({"family": [r[0] for r in rows], "bytes": [r[1] for r in rows]})


def split(rows, share, most):
    """The rows that are held out, and those that are not."""
    found = [rule for table in held_out(InMemory(rows), share, most) for rule in table["rule"]]
    held = [row for row, rule in zip(rows, found, strict=True) if rule.is_valid]
    trained = [row for row, rule in zip(rows, found, strict=True) if not rule.is_valid]
    return sorted(held), sorted(trained)


@pytest.mark.parametrize("most", [10**9, 3000, 100, 0])
def test_the_split_does_not_depend_on_the_order(most):
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    assert split(shuffled, 0.1, most) == split(ROWS, 0.1, most)


def test_more_documents_leave_the_fate_of_the_others_as_it_was():
    held, _ = split(ROWS, 0.1, 10**9)
    half, _ = split(ROWS[:2000], 0.1, 10**9)
    assert half == sorted(set(held) & set(ROWS[:2000]))


def test_families_are_never_parted():
    for most in (10**9, 3000):
        held, trained = split(ROWS, 0.1, most)
        assert not {family for family, _ in held} & {family for family, _ in trained}


@pytest.mark.parametrize(("share", "least", "most"), [(0, 0, 0), (0.1, 300, 500), (1, 4000, 4000)])
def test_the_share_is_met(share, least, most):
    assert least <= len(split(ROWS, share, 10**9)[0]) <= most


def test_a_limit_keeps_the_families_of_the_lowest_hashes_that_fit():
    held, _ = split(ROWS, 0.1, 3000)
    hashes = {name: xxhash.xxh3_64_intdigest(name.encode()) for name, _ in ROWS}
    size, expected = 0, []
    for family in sorted({name for name, _ in ROWS if hashes[name] < 0.1 * 2**64}, key=hashes.get):
        members = [row for row in ROWS if row[0] == family]
        size += sum(bytes for _, bytes in members)
        if size > 3000:
            break
        expected += members
    assert held == sorted(expected)


def test_the_verdict_says_where_the_hash_lies_and_the_bar():
    (table,) = held_out(InMemory(ROWS[:500]), 0.1, 10**9)
    held = table.filter(pa.array(family_hashes([row[0] for row in ROWS[:500]]) < 0.1 * 2**64))
    assert np.all(held["value"].to_numpy() < 0.1)
    assert held["bound"].to_pylist() == pytest.approx([0.1] * len(held))
