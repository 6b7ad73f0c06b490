"""Penalties and biases against transformers and the formulas."""

import random
from collections import Counter

import pytest
import torch
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from baiwen.engine import edits
from baiwen.engine.edits import Edit, Seen, penalises
from baiwen.engine.sampler import Sampling

PROMPT, ANSWER = [1, 4, 7, 7], [4, 4, 9, 2]


def logits(rows=1, size=30):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(0)) * 3


def seen(prompt, answer):
    found = Seen(prompt)
    for token in answer:
        found.push(token)
    return found


def test_the_repetition_penalty_is_that_of_transformers():
    given = logits()
    context = torch.tensor([PROMPT + ANSWER])
    expected = RepetitionPenaltyLogitsProcessor(1.3)(context, given.clone())
    sampling = Sampling(repetition_penalty=1.3)
    edits.apply(given, [Edit(0, sampling, seen(PROMPT, ANSWER).after([]))])
    torch.testing.assert_close(given, expected)


def test_presence_and_frequency_penalties_are_for_the_answer_alone():
    given, expected = logits(), logits()
    for token, count in Counter(ANSWER).items():
        expected[0, token] -= 0.5 + 0.25 * count
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25)
    edits.apply(given, [Edit(0, sampling, seen(PROMPT, ANSWER).after([]))])
    torch.testing.assert_close(given, expected)


def test_each_row_has_its_own_edits():
    given, expected = logits(4), logits(4)
    asked = [
        Edit(0, Sampling(logit_bias={3: 2.0, 5: -100.0})),
        Edit(1, Sampling(presence_penalty=1.0), seen([2], [6]).after([])),
        Edit(
            3, Sampling(repetition_penalty=2.0, logit_bias={8: 1.5}), seen([8], []).after([]), (0,)
        ),
    ]
    edits.apply(given, asked)
    expected[0, 3] += 2
    expected[0, 5] -= 100
    expected[1, 6] -= 1
    expected[3, 8] = expected[3, 8] * (0.5 if expected[3, 8] > 0 else 2) + 1.5
    expected[3, 0] = -torch.inf
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("trial", range(5))
def test_what_will_be_seen_after_guesses_is_what_is_seen_then(trial):
    rng = random.Random(trial)
    prompt, answer, guesses = ([rng.randrange(9) for _ in range(n)] for n in (4, 200, 5))
    before = seen(prompt, answer)
    guessed = before.after(guesses)
    real = seen(prompt, answer + guesses).after([])
    as_dicts = [
        dict(zip(ids.tolist(), counts.tolist(), strict=True)) for ids, counts in (guessed, real)
    ]
    assert as_dicts[0] == as_dicts[1]
    assert dict(zip(*map(list, before.after([])), strict=True)) == {
        token: answer.count(token) for token in {*prompt, *answer}
    }


def test_only_settings_that_differ_from_none_cost_anything():
    assert not penalises(Sampling(temperature=1.0, logit_bias={1: 1.0}))
    for name in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
        assert penalises(Sampling(**{name: 1.1}))
