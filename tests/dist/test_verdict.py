"""Who is at fault, judged from what is known of the hearts."""

from dataclasses import replace

import pytest

from baiwen.dist.meeting import Member
from baiwen.dist.verdict import BARRIER, HURRIED, SILENT, SLOWER, Heart, Verdict, judge, watched

# Two machines of two ranks each.
MEMBERS = [Member(rank, f"node-{rank // 2}", 100 + rank, str(rank // 2), "") for rank in range(4)]
WAITS = Heart(step=8, what="computing the gradient", count=41, still=700.0)


def judged(*hearts, timeout=600.0):
    return judge(MEMBERS, dict(enumerate(hearts)), timeout)


def test_all_is_well_where_all_beat_however_long_they_compute():
    same = Heart(step=1, what="compiling", count=7, still=5000.0)
    assert judged(same, same, same, same) is None


def test_the_rank_with_the_fewest_collectives_is_the_one_that_stands_still():
    found = judged(WAITS, WAITS, Heart(8, "fetching the batch", 40, still=650.0), WAITS)
    assert found.ranks == (2,) and not found.silent
    told = "rank 2 (node-1, pid 102) stands still at step 8, fetching the batch, for 650 s."
    assert found.text.splitlines()[:2] == [
        told, "The others wait at step 8, computing the gradient, for 700 s."
    ]  # fmt: skip


def test_a_rank_that_goes_on_is_waited_for():
    slow = Heart(8, "part 9 of 20", 40, still=30.0)
    assert judged(WAITS, slow, WAITS, WAITS) is None


def test_nobody_is_late_to_a_barrier():
    waits, writes = replace(WAITS, what=BARRIER), Heart(8, "writing the model", 40, still=5000.0)
    assert judged(writes, waits, waits, waits) is None


def test_who_makes_no_mark_while_slower_ranks_are_waited_for_stands_still():
    waits = replace(WAITS, what=SLOWER)
    rolls_out = Heart(8, "rolling out", 40, marks=900, still=2.0)
    assert judged(waits, rolls_out, waits, waits) is None
    assert judged(waits, replace(rolls_out, still=600.0), waits, waits).ranks == (1,)


def test_nobody_is_late_before_the_timeout():
    brief = Heart(8, "computing", 41, still=500.0)
    assert judged(brief, brief, Heart(8, "computing", 40, still=500.0), brief) is None


def test_a_machine_is_gone_where_all_its_ranks_are_silent():
    lost = Heart(8, "computing", 41, silent=SILENT)
    found = judged(Heart(), Heart(), lost, lost)
    assert found.ranks == (2, 3)
    assert found.text.startswith(
        "ranks 2-3 (node-1): no sign of life for 30 s; last seen at step 8"
    )


def test_one_silent_rank_beside_one_that_beats_may_hold_its_breath():
    """Native code that lets no other thread run; were it dead, its neighbour would have seen it."""
    held = Heart(8, "computing", 41, silent=10 * SILENT)
    assert judged(Heart(), Heart(), held, Heart()) is None
    assert judged(Heart(), Heart(), held, Heart(), timeout=10 * SILENT).silent


@pytest.mark.parametrize("lost", [False, True])
def test_a_broken_connection_shortens_the_wait_for_a_machine(lost):
    quiet = Heart(8, "computing", 41, silent=HURRIED)
    assert bool(judged(Heart(lost=lost), Heart(), quiet, quiet)) == lost


def test_a_verdict_survives_its_words():
    verdict = Verdict("text", (1, 2), 2, "house", silent=True)
    assert Verdict.read(verdict.words().encode()) == verdict


def test_rank_0_is_looked_at_from_every_machine_but_not_by_every_rank():
    members = [Member(rank, "node", 100 + rank, str(rank // 4), "") for rank in range(12)]
    looking = [rank for rank in range(12) if 0 in watched(members, rank)]
    assert looking == [1, 2, 3, 4, 8]
    assert watched(members, 0) == list(range(1, 12))
    assert watched(members, 4) == [0, 1, 2, 3] and watched(members, 5) == []
