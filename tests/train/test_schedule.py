"""The learning rate over a run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.train.schedule import Schedule, rate

SHAPES = ["constant", "cosine", "linear", "wsd"]


def rates(schedule, steps=100, peak=1.0):
    return [rate(schedule, step, steps, peak) for step in range(1, steps + 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_warm_up_rises_in_a_straight_line_to_the_peak(shape):
    first = rates(Schedule(shape=shape, warmup=0.1))[:10]
    assert first == pytest.approx([0.1 * i for i in range(1, 11)])


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_the_last_step_has_the_final_rate(shape):
    assert rates(Schedule(shape=shape, final_lr=0.25))[-1] == pytest.approx(0.25)


def test_cosine_and_linear_are_half_way_down_at_half_time():
    for shape in ("cosine", "linear"):
        assert rates(Schedule(shape=shape, warmup=0, final_lr=0.5))[49] == pytest.approx(0.75)


def test_wsd_holds_the_peak_until_it_decays():
    values = rates(Schedule(shape="wsd", warmup=0.1, decay=0.2))
    assert values[10:80] == [1.0] * 70
    assert values[80] < 1.0


def test_wsd_falls_from_the_peak_however_long_it_decays():
    values = rates(Schedule(shape="wsd", warmup=0.5, decay=1.0))
    assert values[49] == 1.0 and values[50] == pytest.approx(1 - 0.02**0.5)


def test_a_run_that_is_hardly_more_than_warm_up_still_ends_with_the_final_rate():
    for steps in (1, 2):
        assert rates(Schedule(warmup=0.9, final_lr=0.25), steps)[-1] == pytest.approx(0.25)


def test_constant_stays_at_the_peak():
    assert set(rates(Schedule(shape="constant", warmup=0))) == {1.0}


@given(
    st.sampled_from(SHAPES),
    st.integers(1, 50),
    st.floats(0, 0.99),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_rates_fall_after_the_warm_up_and_stay_within_bounds(shape, steps, warmup, final, decay):
    schedule = Schedule(shape=shape, warmup=warmup, final_lr=final, decay=max(decay, 0.01))
    values = rates(schedule, steps)
    fall = values[round(warmup * steps) :]
    assert fall == sorted(fall, reverse=True)
    assert all(0 < value <= 1 or value == pytest.approx(final) for value in values)
