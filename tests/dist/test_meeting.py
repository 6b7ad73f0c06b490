"""Ranks find each other, though the store holds the words of those before them."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore

from baiwen.dist.meeting import Member, gathered, ranks
from baiwen.errors import UserError


def member(rank, name):
    return Member(rank, f"node-{rank}", 100 + rank, "house", f"{name}-{rank}")


def met(store, members, size, patience=20.0):
    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(lambda mine: gathered(store, mine, size, patience), members))


def test_all_have_the_same_list_in_the_order_of_ranks():
    members = [member(rank, "a") for rank in (2, 0, 1)]
    found = met(HashStore(), members, 3)
    assert all(one == found[0] for one in found)
    assert [one.rank for one in found[0][1]] == [0, 1, 2]


def test_those_that_are_started_again_do_not_meet_the_dead():
    """One of the dead is of another size of job, and one meeting never became complete."""
    store, turns = HashStore(), set()
    with pytest.raises(UserError):
        met(store, [member(0, "early"), member(2, "early")], 3, patience=0.3)
    for name in "abc":
        found = met(store, [member(rank, name) for rank in range(3)], 3)
        assert [one.name for one in found[0][1]] == [f"{name}-{rank}" for rank in range(3)]
        turns.add(found[0][0])
    assert len(turns) == 3


def test_who_does_not_come_is_named_beside_those_who_are_here():
    store = HashStore()
    with pytest.raises(UserError) as error:
        met(store, [member(0, "a"), member(2, "a")], 5, patience=0.3)
    assert "ranks 1, 3-4 of 5 did not come within 0 s" in str(error.value)
    assert "Here: rank 0 (node-0, pid 100), rank 2 (node-2, pid 102)." in str(error.value)


def test_who_does_not_come_again_after_a_restart_is_named():
    store = HashStore()
    met(store, [member(rank, "a") for rank in range(3)], 3)
    with pytest.raises(UserError, match="rank 1 of 3 did not come"):
        met(store, [member(0, "b"), member(2, "b")], 3, patience=1.0)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [([3], "rank 3"), ([0, 1, 2], "ranks 0-2"), ([0, 2, 3, 9], "ranks 0, 2-3, 9")],
)
def test_runs_of_ranks_are_told_as_runs(numbers, told):
    assert ranks(numbers) == told


def test_a_member_says_where_it_is():
    assert str(dataclasses.replace(member(3, "a"), host="node-1")) == "rank 3 (node-1, pid 103)"
