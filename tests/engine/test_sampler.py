"""Choosing a token: filters against transformers, draws against the distribution."""

import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from baiwen.engine.sampler import Sampling, choose
from baiwen.errors import UserError

DRAWS = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000  # every part of [0, 1] alike


def frequencies(logits, sampling, seen=None):
    """How often each token is chosen over evenly spread draws, [V]."""
    many = logits.expand(len(DRAWS), -1)
    chosen = choose(many, sampling, DRAWS, None if seen is None else seen.expand_as(many))
    return torch.bincount(chosen, minlength=logits.shape[1]) / len(DRAWS)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.7, top_k=3),
        Sampling(temperature=1.3, top_p=0.6),
        Sampling(temperature=1.0, min_p=0.2),
        Sampling(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05),
        Sampling(temperature=1.5, top_p=0.9, top_k=9, min_p=0.05, repetition_penalty=1.4),
    ],
)
def test_tokens_are_drawn_from_the_distribution_of_transformers(sampling):
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(0)) * 2
    context = torch.tensor([[1, 4, 7, 7]])
    steps = [RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)]
    steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        steps.append(MinPLogitsWarper(sampling.min_p))
    expected = LogitsProcessorList(steps)(context, logits.clone()).softmax(-1)[0]
    seen = torch.zeros(1, 30, dtype=torch.bool).scatter(1, context, True)
    found = frequencies(logits, sampling, seen)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert ((expected == 0) <= (found == 0)).all()


def test_more_candidates_than_tokens_are_all_tokens():
    logits = torch.randn(5, 30)
    every, more = (Sampling(temperature=1.0, top_k=k) for k in (0, 31))
    assert torch.equal(*(choose(logits, s, DRAWS[:5], None) for s in (every, more)))


def test_no_temperature_is_greedy():
    logits = torch.randn(5, 30)
    assert torch.equal(choose(logits, Sampling(), DRAWS[:5], None), logits.argmax(-1))


def test_a_draw_at_the_very_end_takes_a_kept_token():
    logits = torch.tensor([[0.0, 5.0, -30.0, 4.0]])
    edge = torch.tensor([1.0], dtype=torch.float64)
    assert choose(logits, Sampling(temperature=1.0, top_p=0.9), edge, None).item() == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -1}, {"min_p": 2},
        {"repetition_penalty": 0}, {"max_tokens": 0}, {"stop": "end"}, {"stop": ("",)}, {"n": 0},
    ],
)  # fmt: skip
def test_settings_without_a_meaning_are_named(wrong):
    with pytest.raises(UserError, match=f"Sampling: {next(iter(wrong))}"):
        Sampling(**wrong)
