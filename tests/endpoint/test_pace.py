"""No minute holds more than is allowed, wherever it begins."""

from hypothesis import given
from hypothesis import strategies as some

from baiwen.endpoint import pace
from baiwen.endpoint.pace import Pace

ERROR = 1e-6


def sent(monkeypatch_time, requests, tokens, asked):
    """When requests go that come at `asked`: pairs of a moment and tokens."""
    found, clock = [], Pace(requests, tokens)
    for moment, size in asked:
        monkeypatch_time(moment)
        found.append((clock.book(size), size))
    return found


moments = some.lists(
    some.tuples(some.floats(0, 300), some.integers(0, 900)), min_size=1, max_size=60
).map(sorted)


@given(moments, some.integers(1, 40), some.integers(100, 2000))
def test_no_minute_holds_more_than_the_limits(asked, requests, tokens):
    now = [0.0]
    real, pace.time.monotonic = pace.time.monotonic, lambda: now[0]
    try:
        found = sent(lambda moment: now.__setitem__(0, moment), requests, tokens, asked)
    finally:
        pace.time.monotonic = real
    for begin, _ in found:
        within = [size for due, size in found if begin + ERROR < due < begin + 60 - ERROR]
        assert len(within) <= requests
        assert sum(within[:-1]) <= tokens  # the last one may still be on its way
    assert all(due >= moment for (due, _), (moment, _) in zip(found, asked, strict=True))


def test_tokens_that_wait_for_their_turn_as_requests_are_as_far_apart():
    clock = Pace(requests=60, tokens=60_000)
    for _ in range(60):
        clock.book(0)
    first, *others = (clock.book(30_000) for _ in range(4))
    assert [round(due - first) for due in others] == [30, 60, 90]


def test_without_limits_nobody_waits():
    free = Pace()
    assert all(free.left(free.book(10_000)) <= 0 for _ in range(100))


def test_what_took_less_than_was_booked_lets_the_next_go_sooner():
    clock = Pace(tokens=60)
    first = clock.book(30)
    assert clock.left(clock.book(0)) > 29
    clock.correct(-25)
    assert clock.book(0) - first < 6


def test_a_hold_is_for_all_who_wait():
    clock = Pace()
    due = clock.book()
    clock.hold(5)
    assert clock.left(due) > 4 and clock.left(clock.book()) > 4
    clock.hold(1)
    assert clock.left(due) > 4
