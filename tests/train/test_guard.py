"""Which steps are applied, and how a run is stopped."""

import math
import os
import signal
import threading
import time

import pytest

from baiwen.train.guard import LEAST, SETTLE, WINDOW, Guard, stopping


def steady(guard, steps):
    for i in range(steps):
        assert guard.passes(2.0 + 0.01 * (i % 5), 1.0 + 0.01 * (i % 3))


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (1.0, math.inf), (-math.inf, 1.0)])
def test_what_is_not_finite_does_not_pass(loss, norm):
    guard = Guard(max_skipped=3, skip_spikes=False)
    assert not guard.passes(loss, norm)
    assert guard.skipped == 1 and not guard.losses


@pytest.mark.parametrize(("loss", "norm"), [(9.0, 1.0), (2.0, 9.0)])
def test_spikes_are_skipped_only_when_asked(loss, norm):
    for asked in (True, False):
        guard = Guard(max_skipped=3, skip_spikes=asked)
        steady(guard, LEAST)
        assert guard.passes(loss, norm) != asked


def test_too_few_steps_make_no_judge():
    guard = Guard(max_skipped=3, skip_spikes=True)
    steady(guard, LEAST - 1)
    assert guard.passes(9.0, 1.0)


def test_falling_losses_are_no_spikes():
    guard = Guard(max_skipped=3, skip_spikes=True)
    assert all(guard.passes(10 / step, 1.0) for step in range(1, 400))
    assert len(guard.losses) == WINDOW


def test_only_skips_in_a_row_exhaust():
    guard = Guard(max_skipped=2, skip_spikes=False)
    guard.passes(math.nan, 1.0)
    guard.passes(1.0, 1.0)
    guard.passes(math.nan, 1.0)
    assert guard.skipped == 2 and not guard.exhausted
    guard.passes(math.nan, 1.0)
    assert guard.exhausted


def test_a_restored_guard_decides_alike():
    one, other = (Guard(max_skipped=3, skip_spikes=True) for _ in range(2))
    steady(one, LEAST)
    one.passes(math.nan, 1.0)
    other.restore(one.state())
    assert other.state() == one.state()
    assert not other.passes(9.0, 1.0)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_the_first_signal_is_noted_and_the_second_acts(number, raised):
    before = signal.signal(signal.SIGTERM, lambda *_: exec("raise SystemExit"))
    try:
        with pytest.raises(raised), stopping() as stop:
            os.kill(os.getpid(), number)
            assert stop.signal == number
            assert isinstance(stop.error(), raised)
            os.kill(os.getpid(), number)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_one_sigterm_that_comes_by_two_ways_is_one(monkeypatch):
    """A scheduler signals each process, and torchrun passes on what it got; later ones act."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a job")
    before = signal.signal(signal.SIGTERM, lambda *_: exec("raise SystemExit"))
    try:
        with pytest.raises(SystemExit), stopping() as stop:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            assert stop.signal == signal.SIGTERM
            monkeypatch.setattr(time, "monotonic", lambda: stop.at + SETTLE)
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("went on")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stopping():
        pass
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_another_thread_trains_without_handlers():
    seen = []

    def work():
        with stopping() as stop:
            seen.append(stop.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]
