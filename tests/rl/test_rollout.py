"""Answers as they are drawn, over one turn or several."""

import pytest
import torch

from baiwen import progress
from baiwen.engine.sampler import Sampling
from baiwen.rl.rollout import roll_out, whole

SAMPLING = Sampling(temperature=0.8, max_tokens=10, n=4, seed=7)
PROMPTS = [[5, 9, 11], [40, 41, 42, 43]]


def logprobs(model, prompt, answer, temperature):
    """Of the answer's ids by one plain forward pass of the whole conversation."""
    with torch.no_grad():
        logits = model.logits(torch.tensor([[*prompt, *answer]]))[0, len(prompt) - 1 : -1]
    found = (logits / temperature).log_softmax(-1)
    return found.gather(1, torch.tensor(answer)[:, None])[:, 0]


def test_the_samplers_log_probabilities_are_those_of_what_it_draws_from(model, sampler):
    for prompt, group in zip(PROMPTS, roll_out(sampler, PROMPTS, SAMPLING, room=64), strict=True):
        assert len(group) == 4
        assert len({tuple(answer.ids) for answer in group}) > 1
        for answer in group:
            wanted = logprobs(model, prompt, answer.ids, 0.8)
            assert torch.allclose(torch.tensor(answer.logprobs), wanted, atol=1e-4)


def test_after_an_update_answers_come_from_the_weights_as_they_are(model, sampler):
    before = roll_out(sampler, PROMPTS, SAMPLING, room=64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    sampler.update_weights(whole(model))
    after = roll_out(sampler, PROMPTS, SAMPLING, room=64)
    assert after != before
    answer = after[0][0]
    wanted = logprobs(model, PROMPTS[0], answer.ids, 0.8)
    assert torch.allclose(torch.tensor(answer.logprobs), wanted, atol=1e-4)


def test_a_copy_takes_over_the_weights(model, sampler, tokenizer):
    other = type(model)(model.config)
    other.init_weights(seed=5)
    sampler.update_weights(whole(other))
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_rollouts_of_one_seed_are_the_same_and_of_another_are_others(sampler):
    first = roll_out(sampler, PROMPTS, SAMPLING, room=64)
    assert roll_out(sampler, PROMPTS, SAMPLING, room=64) == first
    other = Sampling(temperature=0.8, max_tokens=10, n=4, seed=8)
    assert roll_out(sampler, PROMPTS, other, room=64) != first


def test_a_rollout_makes_a_mark_for_each_token_of_its_longest_answer(sampler):
    """So a rank that rolls out for long is not taken for one that stands still."""
    before = progress.marks()
    answers = roll_out(sampler, PROMPTS, SAMPLING, room=64)
    longest = max(len(answer.ids) for group in answers for answer in group)
    assert progress.marks() - before >= longest


def test_a_prompt_is_read_once_for_its_group(sampler):
    roll_out(sampler, PROMPTS, SAMPLING, room=64)
    assert sampler.stats()["prompt_tokens"] == sum(map(len, PROMPTS))


def test_turns_follow_one_another_and_what_tools_say_is_masked(model, sampler):
    heard = []

    def respond(place, turn):
        heard.append((place, turn.text))
        return [50 + place, 60]

    early = Sampling(temperature=1.0, max_tokens=6, n=3, seed=1, stop_ids=tuple(range(150)))
    groups = roll_out(sampler, PROMPTS, early, room=64, respond=respond, turns=3)
    turns = {answer.turns for group in groups for answer in group}
    assert max(turns) == 3
    for place, (prompt, group) in enumerate(zip(PROMPTS, groups, strict=True)):
        for answer in group:
            assert len(answer.ids) == len(answer.mask) == len(answer.logprobs)
            said = [i for i, weight in zip(answer.ids, answer.mask, strict=True) if not weight]
            assert said == [50 + place, 60] * (answer.turns - 1)
            wanted = logprobs(model, prompt, answer.ids, 1.0)
            mask = torch.tensor(answer.mask) > 0
            assert torch.allclose(torch.tensor(answer.logprobs)[mask], wanted[mask], atol=1e-4)
    assert len(heard) >= 6


def test_an_answer_without_room_for_another_turn_is_cut_off(sampler):
    early = Sampling(temperature=1.0, max_tokens=4, n=2, seed=1, stop_ids=tuple(range(300)))
    [group] = roll_out(sampler, PROMPTS[:1], early, room=12, respond=lambda *_: [7] * 6, turns=9)
    assert all(answer.truncated for answer in group)
    assert all(len(PROMPTS[0]) + len(answer.ids) <= 12 for answer in group)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_untempered_log_probabilities_are_the_models_own(model, sampler, temperature):
    sampling = Sampling(temperature=temperature, max_tokens=8, seed=3)
    [done] = sampler.generate(PROMPTS[:1], sampling)
    wanted = logprobs(model, PROMPTS[0], done.ids, 1.0)
    assert torch.allclose(torch.tensor(done.logprobs), wanted, atol=1e-4)
