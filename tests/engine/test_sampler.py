"""Choosing a token: filters against transformers, draws against the distribution."""

import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from baiwen.engine.sampler import NUCLEUS, Sampling, chance, choose, draw
from baiwen.errors import UserError

DRAWS = ((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000).tolist()  # [0, 1] evenly


def drawn(rows, spread=2.0, seed=0):
    return torch.randn(1, rows, generator=torch.Generator().manual_seed(seed)) * spread


def frequencies(logits, sampling):
    """How often each token is chosen over evenly spread draws, [V]."""
    chosen = choose(logits.expand(len(DRAWS), -1), [sampling] * len(DRAWS), DRAWS)
    return torch.bincount(chosen, minlength=logits.shape[1]) / len(DRAWS)


def expected(logits, sampling):
    """The distribution of transformers' own filters, [V]."""
    steps = [TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        steps.append(MinPLogitsWarper(sampling.min_p))
    return LogitsProcessorList(steps)(torch.zeros(1, 1), logits.clone()).softmax(-1)[0]


@pytest.mark.parametrize("rows", [30, 700])  # fewer and more than share a rung of the ladder
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.7, top_k=3),
        Sampling(temperature=1.3, top_p=0.6),
        Sampling(temperature=1.0, min_p=0.2),
        Sampling(temperature=0.7, top_p=0.8, top_k=20),
        Sampling(temperature=1.1, top_p=0.9, min_p=0.1),
        Sampling(temperature=1.5, top_p=0.9, top_k=9, min_p=0.05),
    ],
)
def test_tokens_are_drawn_from_the_distribution_of_transformers(sampling, rows):
    logits = drawn(rows)
    found, truth = frequencies(logits, sampling), expected(logits, sampling)
    torch.testing.assert_close(found, truth, atol=1e-3, rtol=0)
    assert ((truth == 0) <= (found == 0)).all()


def test_a_nucleus_of_most_of_a_large_vocabulary_is_drawn_from_whole():
    logits, sampling = drawn(1500, spread=0.3), Sampling(temperature=1.0, top_p=0.95)
    found, truth = frequencies(logits, sampling), expected(logits, sampling)
    assert (truth > 0).sum() > NUCLEUS
    torch.testing.assert_close(found.cumsum(0), truth.cumsum(0), atol=2e-2, rtol=0)
    assert ((truth == 0) <= (found == 0)).all()


def test_a_row_is_chosen_as_alone_whatever_the_others_ask():
    logits = torch.randn(6, 600, generator=torch.Generator().manual_seed(1)) * 3
    samplings = [
        Sampling(), Sampling(temperature=1.0), Sampling(temperature=0.5, top_k=2),
        Sampling(temperature=2.0, top_p=0.9), Sampling(temperature=1.0, top_k=50, min_p=0.01),
        Sampling(temperature=3.0, min_p=0.3),
    ]  # fmt: skip
    draws = DRAWS[100::350]
    together = choose(logits, samplings, draws)
    alone = [
        choose(logits[i : i + 1], samplings[i : i + 1], draws[i : i + 1]).item() for i in range(6)
    ]
    assert together.tolist() == alone


def test_equal_tokens_are_drawn_as_alone_beside_rows_of_another_top_k():
    logits = torch.randint(0, 30, (1, 3000), generator=torch.Generator().manual_seed(0)).float()
    few, more = (Sampling(temperature=5.0, top_k=k) for k in (20, 50))
    for drawn_at in DRAWS[::100]:
        alone = choose(logits, [few], [drawn_at]).item()
        assert choose(logits.expand(2, -1), [few, more], [drawn_at, 0.5])[0].item() == alone


def test_more_candidates_than_tokens_are_all_tokens():
    logits = drawn(30)
    every, more = (Sampling(temperature=1.0, top_k=k) for k in (30, 31))
    assert torch.equal(frequencies(logits, every), frequencies(logits, more))


@pytest.mark.parametrize("rows", [30, 1024, 1500])
def test_no_temperature_takes_the_first_of_the_likeliest(rows):
    logits = torch.randint(0, 400, (60, rows), generator=torch.Generator().manual_seed(0)).float()
    expected = [row.index(max(row)) for row in logits.tolist()]
    assert choose(logits, [Sampling()] * 60, DRAWS[:60]).tolist() == expected


@pytest.mark.parametrize("knobs", [{}, {"top_p": 0.9}, {"top_k": 3}, {"min_p": 0.1}])
@pytest.mark.parametrize("temperature", [1e-30, 1e-60, 1e-300])
def test_hardly_any_temperature_takes_the_likeliest(knobs, temperature):
    logits = drawn(1500)
    chosen = choose(logits, [Sampling(temperature=temperature, **knobs)], [0.99])
    assert torch.equal(chosen, logits.argmax(-1))


@pytest.mark.parametrize("knobs", [{}, {"top_p": 0.9}, {"top_k": 3}, {"min_p": 0.1}])
@pytest.mark.parametrize("rows", [4, 513, 1025])
def test_a_draw_at_the_very_end_takes_a_token_that_may_be_drawn(knobs, rows):
    logits = torch.full((1, rows), -torch.inf)
    logits[0, :4] = torch.tensor([0.0, 5.0, -torch.inf, 4.0])
    chosen = choose(logits, [Sampling(temperature=1.0, **knobs)], [1.0]).item()
    assert chosen in (0, 1, 3)


def test_draws_are_even_and_depend_on_seed_prompt_sample_and_place_alone():
    key = chance(7, [1, 2], 0)
    draws = [draw(key, place) for place in range(4000)]
    assert draws == [draw(chance(7, [1, 2], 0), place) for place in range(4000)]
    counts = torch.histc(torch.tensor(draws), 20, 0, 1)
    assert ((counts - 200) ** 2 / 200).sum() < 43.8  # chi-square, 19 degrees, p = 0.001
    others = [chance(8, [1, 2], 0), chance(7, [1, 3], 0), chance(7, [1, 2], 1)]
    assert len({draw(k, 0) for k in [key, *others]}) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.5},
        {"top_k": -1}, {"min_p": 2}, {"repetition_penalty": 0}, {"max_tokens": -1},
        {"min_tokens": -1}, {"min_tokens": 513}, {"stop": "end"}, {"stop": ("",)}, {"n": 0},
        {"logprobs": -1}, {"prompt_logprobs": -1}, {"presence_penalty": float("inf")},
        {"frequency_penalty": float("nan")}, {"logit_bias": {1: float("nan")}},
    ],
)  # fmt: skip
def test_settings_without_a_meaning_are_named(wrong):
    with pytest.raises(UserError, match=f"Sampling: {next(iter(wrong))}"):
        Sampling(**wrong)
