"""Rewards: what an answer is worth, part by part, and what that makes of it within its group.

    [reward]
    by = "mix"                       # sigma(0.5 r_m) + (r_v - 1)
    model = "runs/tiny/reward"
    truncated = "penalty"

r_v is 1 where the verifier says right and 0 where it says wrong; r_m is the score of a reward
model. The mix (Qwen2.5-Math; spec 9.3) puts every right answer above every wrong one and lets the
model rank within. What a verifier cannot tell is no 0: such an answer leaves its group, unless
`undecided` says otherwise, and is counted.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from baiwen import progress, verify
from baiwen.config import Input, Knobs
from baiwen.errors import UserError
from baiwen.rl.prompts import Prompt, asked
from baiwen.rl.rollout import Answer
from baiwen.verify import Verdict

LEAST = 1e-6  # keeps a deviation from being a divisor of 0

# Scores of a reward model, one for each prompt with an answer.
Score = Callable[[Sequence[tuple[Prompt, Answer]]], Sequence[float]]


class Reward(Knobs):
    """What answers are rewarded for."""

    by: Literal["verifier", "model", "mix"] = "verifier"  # report: model; Qwen2.5-Math: mix
    model: Input | None = None  # HF folder of a reward model; for model and mix
    undecided: Literal["drop", "wrong"] = "drop"  # what a verifier cannot tell; not reported
    # Answers cut off at max_tokens: keep as any other, count as wrong, mask out of the loss, or
    # penalty: up to 1 less over the last `overlong` tokens (DAPO); not reported
    truncated: Literal["keep", "wrong", "mask", "penalty"] = "keep"
    overlong: Annotated[int, Field(gt=0)] = 256  # tokens before max_tokens where it begins

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.by == "verifier") != (self.model is None):
            raise ValueError('reward.model is needed for by = "model" and "mix", and only for them')
        if self.by == "model" and self.truncated == "wrong":
            raise ValueError('truncated = "wrong" needs a verifier: by = "verifier" or "mix"')
        return self

    @property
    def verified(self) -> bool:
        """Whether a verifier judges."""
        return self.by != "model"


@dataclass(frozen=True)
class Judged:
    """The parts of a reward, None where there is no such part, and the whole."""

    verdict: str | None
    score: float | None  # of the reward model
    penalty: float  # for length, 0 or less
    reward: float | None  # None: nobody could tell


def judge(
    answers: Sequence[tuple[Prompt, Answer]], reward: Reward, max_tokens: int, score: Score | None
) -> list[Judged]:
    """What each answer is worth; `score` asks the reward model, where `reward` names one.

    Raises UserError for a score that is no finite number.
    """
    verdicts: Sequence[Verdict | None] = [None] * len(answers)
    if reward.verified:
        with ThreadPoolExecutor() as pool:  # some verifiers wait for a process
            verdicts = list(progress.marked(pool.map(_verdict, answers)))
    scores: Sequence[float | None] = [None] * len(answers)
    if score is not None and answers:
        scores = score(answers)
    return [
        _judged(*pair, verdict, scored, reward, max_tokens)
        for pair, verdict, scored in zip(answers, verdicts, scores, strict=True)
    ]


def overlong(tokens: int, max_tokens: int, span: int) -> float:
    """0, and -1 from `max_tokens` on, falling over the last `span` before (2503.14476, eq. 13).

    An answer of several turns may have more than `max_tokens`.
    """
    return -min(max(0.0, tokens - (max_tokens - span)) / span, 1.0)


def mix(score: float, right: float) -> float:
    """sigma(0.5 r_m) + (r_v - 1) (Qwen2.5-Math; spec 9.3)."""
    return (1 + math.tanh(0.25 * score)) / 2 + (right - 1)  # no exp that could overflow


def spread(rewards: Sequence[float]) -> bool:
    """Whether a group has something to tell apart."""
    return bool(rewards) and max(rewards) > min(rewards)


def advantages(rewards: Sequence[float], normalised: bool) -> list[float]:
    """Each reward less the group's mean, over its (unbiased) deviation if `normalised`; spec 9.3.

    A group of one, or of equal rewards, has none.
    """
    if not spread(rewards):
        return [0.0] * len(rewards)
    mean, unit = fmean(rewards), stdev(rewards) + LEAST if normalised else 1.0
    return [(reward - mean) / unit for reward in rewards]


def _verdict(pair: tuple[Prompt, Answer]) -> Verdict:
    prompt, answer = pair
    assert prompt.verifier is not None  # checked with the rows
    return verify.check(prompt.verifier, answer.text, prompt.answer)


def _judged(
    prompt: Prompt,
    answer: Answer,
    verdict: Verdict | None,
    score: float | None,
    reward: Reward,
    max_tokens: int,
) -> Judged:
    penalty = 0.0
    if reward.truncated == "penalty":
        penalty = overlong(int(sum(answer.mask)), max_tokens, reward.overlong)
    if score is not None and not math.isfinite(score):
        raise UserError(
            f"the reward model's score of an answer is {score}, so no weight was changed.\n"
            f"Prompt {prompt.number + 1}: {asked(prompt.messages):.200}\n"
            f"Answer: {answer.text:.200}\nCheck reward.model on this answer."
        )
    right = _right(verdict, answer, reward)
    if reward.verified and right is None:
        return Judged(verdict, score, penalty, None)
    worth = score if right is None else right if score is None else mix(score, right)
    assert worth is not None
    return Judged(verdict, score, penalty, worth + penalty)


def _right(verdict: Verdict | None, answer: Answer, reward: Reward) -> float | None:
    """r_v: 1, 0, or None where there is no verdict that counts."""
    if verdict is None:
        return None
    if reward.truncated == "wrong" and answer.truncated:
        return 0.0
    if verdict in (Verdict.right, Verdict.wrong):
        return float(verdict is Verdict.right)
    return 0.0 if reward.undecided == "wrong" else None
