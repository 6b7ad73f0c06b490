"""What answers are worth, part by part."""

import math
from statistics import fmean

import pytest
from pydantic import ValidationError

from baiwen.errors import UserError
from baiwen.rl.prompts import Prompt
from baiwen.rl.rewards import Reward, advantages, judge, mix, overlong
from baiwen.rl.rollout import Answer

PROMPT = Prompt(0, [1], [{"role": "user", "content": "1 + 1?"}], "2", "number", "arithmetic")
BROKEN = Prompt(1, [1], [{"role": "user", "content": "1 + 1?"}], "two", "number", "arithmetic")


def answer(text, tokens=3, finish="stop"):
    return Answer([7] * tokens, [1.0] * tokens, [-1.0] * tokens, text, finish)


def worth(reward, *pairs, max_tokens=10, score=None):
    return [one.reward for one in judge(pairs, reward, max_tokens, score)]


def test_a_verifier_gives_one_and_zero():
    pairs = [(PROMPT, answer("2")), (PROMPT, answer("3"))]
    assert worth(Reward(), *pairs) == [1.0, 0.0]


def test_what_nobody_can_tell_has_no_reward_unless_it_counts_as_wrong():
    pairs = [(BROKEN, answer("2")), (PROMPT, answer("2"))]
    assert worth(Reward(), *pairs) == [None, 1.0]
    assert worth(Reward(undecided="wrong"), *pairs) == [0.0, 1.0]


def test_the_mix_puts_every_right_answer_above_every_wrong_one(tmp_path):
    pairs = [(PROMPT, answer(text)) for text in ("2", "2", "3", "3")]
    scores = [-20.0, 3.0, 20.0, -1.0]
    found = worth(Reward(by="mix", model=tmp_path), *pairs, score=lambda _: scores)
    right = (1, 1, 0, 0)
    assert found == pytest.approx(
        [1 / (1 + math.exp(-s / 2)) + (r - 1) for s, r in zip(scores, right, strict=True)]
    )
    assert min(found[:2]) > max(found[2:])
    assert mix(0.0, 1.0) == 0.5
    assert mix(3.0, 0.0) == pytest.approx(1 / (1 + math.exp(-1.5)) - 1)
    assert (mix(-1e9, 1.0), mix(1e9, 1.0)) == (0.0, 1.0)


def test_a_reward_model_alone_needs_no_verifier(tmp_path):
    prompt = Prompt(0, [1], PROMPT.messages, None, None, "")
    found = worth(Reward(by="model", model=tmp_path), (prompt, answer("2")), score=lambda _: [1.7])
    assert found == [1.7]


@pytest.mark.parametrize("by", ["model", "mix"])
@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_an_error_that_shows_the_answer(tmp_path, score, by):
    reward = Reward(by=by, model=tmp_path)
    for prompt in (PROMPT, BROKEN):
        with pytest.raises(UserError, match=r"(?s)no weight was changed.*1 \+ 1\?.*fifteen"):
            worth(reward, (prompt, answer("fifteen")), score=lambda _: [score])


def test_truncated_answers_are_kept_count_as_wrong_or_lose_by_their_length():
    pairs = [
        (PROMPT, answer("2", 10, "length")),
        (PROMPT, answer("2", 8)),
        (PROMPT, answer("2", 6)),
    ]
    assert worth(Reward(), *pairs) == [1, 1, 1]
    assert worth(Reward(truncated="mask"), *pairs) == [1, 1, 1]
    assert worth(Reward(truncated="wrong"), *pairs) == [0, 1, 1]
    assert worth(Reward(truncated="penalty", overlong=4), *pairs) == [0, 0.5, 1]


def test_the_penalty_falls_from_none_to_one_over_the_last_tokens():
    assert [overlong(tokens, 100, 20) for tokens in (0, 80, 90, 100)] == [0, 0, -0.5, -1]
    assert overlong(350, 100, 20) == -1  # of several turns


def test_advantages_are_the_distance_to_the_groups_mean_over_its_deviation():
    assert advantages([1.0, 0.0, 0.0, 0.0], normalised=False) == [0.75, -0.25, -0.25, -0.25]
    found = advantages([3.0, 1.0, 2.0], normalised=True)
    assert found == pytest.approx([1, -1, 0], abs=1e-5)
    assert fmean(found) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rewards", [[], [1.0], [0.3, 0.3, 0.3]])
def test_a_group_of_equal_rewards_has_no_advantages(rewards):
    assert advantages(rewards, normalised=True) == [0.0] * len(rewards)


@pytest.mark.parametrize(
    "knobs",
    [{"by": "mix"}, {"model": "reward"}, {"by": "model", "model": "r", "truncated": "wrong"}],
)
def test_knobs_that_contradict_each_other_are_refused(knobs):
    with pytest.raises(ValidationError):
        Reward(**knobs)
