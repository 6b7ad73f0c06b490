"""From wishes to rates: what adds up, what is capped, and what a mistake is told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from baiwen.data.rates import REPORT, Balance, fill, rates
from baiwen.errors import UserError

CORPUS = {("web", "en"): 600, ("web", "zh"): 200, ("science", "en"): 100, ("code", "und"): 100}
amounts = st.lists(st.integers(1, 10**12), min_size=1, max_size=8)


def shares(amounts, knobs):
    rate = rates(amounts, knobs)
    given = {group: rate[group] * amount for group, amount in amounts.items()}
    return {group: value / sum(given.values()) for group, value in given.items()}


@given(amounts, st.integers(1, 10**13), st.floats(0.1, 8), st.floats(0.5, 5))
def test_the_budget_is_met_where_the_cap_lets_it_and_no_group_passes_the_cap(
    sizes, budget, epochs, temperature
):
    groups = {(f"d{i}", "en"): size for i, size in enumerate(sizes)}
    knobs = Balance(budget=budget, epochs=epochs, temperature=temperature)
    rate = rates(groups, knobs)
    total = sum(rate[group] * amount for group, amount in groups.items())
    assert total == approx(min(budget, epochs * sum(sizes)), rel=1e-9)
    assert all(0 <= value <= epochs * (1 + 1e-12) for value in rate.values())


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(1, 100)), min_size=1, max_size=7),
    st.floats(0.01, 0.99),
)
def test_filling_finds_the_level_that_bisection_finds(groups, part):
    share, most = np.array(groups).T
    budget = part * most.sum()
    low, high = 0.0, float((most / share).max())
    for _ in range(200):
        middle = (low + high) / 2
        spent = np.minimum(most, middle * share).sum()
        low, high = (middle, high) if spent < budget else (low, middle)
    assert fill(share, most, budget) == approx(np.minimum(most, high * share), rel=1e-6)


@given(amounts, st.floats(0.1, 10), st.integers(0, 7))
def test_asking_more_for_a_group_never_gives_it_less_of_a_budget(sizes, times, which):
    groups = {(f"d{i}", "en"): size for i, size in enumerate(sizes)}
    chosen = f"d{which % len(sizes)}"
    given = [
        rates(groups, Balance(times={chosen: factor}, budget=sum(sizes)))[chosen, "en"]
        for factor in (times, 1.5 * times)
    ]
    assert given[1] >= given[0] * (1 - 1e-12)


def test_factors_are_rates_where_nothing_else_is_asked():
    knobs = Balance(times={"web": 0.5, "web/zh": 3, "science": 9, "*/und": 2})
    expected = {"web/en": 0.5, "web/zh": 3, "science/en": 4, "code/und": 2}  # 9 epochs are capped
    assert {"/".join(group): value for group, value in rates(CORPUS, knobs).items()} == approx(
        expected
    )


def test_weights_are_shares_and_the_others_divide_the_rest_by_size():
    found = shares(CORPUS, Balance(weights={"web": 0.5, "web/zh": 0.3}, epochs=10))
    expected = {"web/en": 0.2, "web/zh": 0.3, "science/en": 0.25, "code/und": 0.25}
    assert {"/".join(group): value for group, value in found.items()} == approx(expected)


def test_what_a_group_cannot_give_goes_to_the_others_by_their_shares():
    # 100 of science give at most 200, so 300 of the 500 asked for go to the others.
    rate = rates(CORPUS, Balance(weights={"science": 0.5}, epochs=2))
    assert rate["science", "en"] == 2
    assert [rate[group] for group in CORPUS if group[0] != "science"] == approx([800 / 900] * 3)


def test_a_temperature_makes_shares_of_roots():
    found = shares({("a", "en"): 16, ("b", "en"): 81}, Balance(temperature=4, epochs=100))
    assert list(found.values()) == approx([2 / 5, 3 / 5])


def test_a_temperature_near_0_gives_all_to_the_largest():
    found = shares({("a", "en"): 10**13, ("b", "en"): 10**12}, Balance(temperature=0.01))
    assert list(found.values()) == approx([1, 0])


def test_the_default_halves_what_the_report_calls_too_much_and_doubles_what_it_wants():
    groups = {("Social_media", "en"): 100, ("Science", "en"): 100, ("law", "en"): 100}
    assert list(rates(groups, Balance()).values()) == approx([0.5, 2, 1])
    assert set(REPORT.values()) == {0.5, 2.0}


def test_an_empty_group_is_no_trouble():
    assert rates({("a", "en"): 0, ("b", "en"): 5}, Balance(times={"b": 2})) == {
        ("a", "en"): 0,
        ("b", "en"): 2,
    }


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"times": {"sceince": 2}}, "Did you mean science?"),
        ({"weights": {"web": 1}}, "nothing is left for science/en, code/und"),
        ({"weights": {"web": 0.2, "web/zh": 0.3}}, "the languages of web have 0.3"),
        ({"weights": {"web": 0.8, "code": 0.3}}, "add up to 1.1"),
    ],
)
def test_a_mistake_is_told(knobs, told):
    with pytest.raises(UserError, match=told):
        rates(CORPUS, Balance(**knobs))
