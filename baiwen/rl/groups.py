"""Groups: a prompt's answers, what they are worth, and the trees that training reads them as.

groups = judged(prompts, answers, reward, ...)
trees = [tree for group in groups for tree in trees_of(group, prompts[group.prompt], 8192, shape)]
"""

from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from baiwen.data.tree import Tree
from baiwen.model import routing
from baiwen.model.config import ModelConfig
from baiwen.rl import record
from baiwen.rl.prompts import Prompt
from baiwen.rl.rewards import Judged, Reward, Score, advantages, judge, spread
from baiwen.rl.rollout import Answer
from baiwen.verify import Verdict


@dataclass(frozen=True)
class Group:
    """A prompt's answers and what each is worth; an advantage is None where it is not trained on.

    old: log-probabilities by the trainer at the time of the rollout, where other updates come
    before this group's.
    """

    prompt: int  # its number
    answers: list[Answer]
    judged: list[Judged]
    advantages: list[float | None]
    old: list[list[float]] | None = None

    @property
    def rewards(self) -> list[float]:
        """Those that are known."""
        return [one.reward for one in self.judged if one.reward is not None]

    @property
    def useful(self) -> bool:
        """Whether there is something to learn from it."""
        return any(self.advantages)

    @property
    def kept(self) -> list[int]:
        """Numbers of the answers that can be trained on."""
        return [number for number, value in enumerate(self.advantages) if value is not None]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Group":
        """What `asdict` gave, perhaps by way of JSON."""
        answers = [Answer(**answer) for answer in row["answers"]]
        judged = [Judged(**one) for one in row["judged"]]
        return cls(row["prompt"], answers, judged, row["advantages"], row["old"])

    def remembering(self, answers: Iterator[list[float]]) -> "Group":
        """With `old` for the answers that are kept: a log-probability for each trained token."""
        old: list[list[float]] = [[] for _ in self.answers]
        for number in self.kept:
            found = iter(next(answers))
            old[number] = [next(found) if weight else 0.0 for weight in self.answers[number].mask]
        return replace(self, old=old)

    def rows(
        self, prompt: Prompt, trained: bool, decode: Callable[[Sequence[int]], str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Its answers for the record; `trained`: whether those that are kept are trained on.

        decode: shows all turns of an answer that has several, and what tools said to it.
        """
        for answer, one, advantage in zip(self.answers, self.judged, self.advantages, strict=True):
            reason = None if trained else "zero variance"
            if advantage is None:
                reason = "undecided" if one.reward is None else "truncated"
            said = {"said": decode(answer.ids)} if decode and answer.turns > 1 else {}
            yield record.row(prompt, answer, one, advantage, reason) | said


def judged(
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Answer]],
    reward: Reward,
    max_tokens: int,
    score: Score | None,
    normalised: bool,
) -> list[Group]:
    """The groups of these prompts: all answers judged together, advantages within each group."""
    pairs = [(prompt, one) for prompt, group in zip(prompts, answers, strict=True) for one in group]
    worth = iter(judge(pairs, reward, max_tokens, score))
    return [
        _group(prompt, list(group), [next(worth) for _ in group], reward, normalised)
        for prompt, group in zip(prompts, answers, strict=True)
    ]


def trees_of(group: Group, prompt: Prompt, micro_tokens: int, shape: ModelConfig) -> Iterator[Tree]:
    """The answers that are kept as trees of at most `micro_tokens` tokens: one, if they fit.

    shape: of the model that rolled out.
    """
    part: list[int] = []
    tokens = len(prompt.ids) - 1
    for number in group.kept:
        more = len(group.answers[number].ids) + 1
        if part and tokens + more > micro_tokens:
            yield _tree(group, prompt, part, shape)
            part, tokens = [], len(prompt.ids) - 1
        part.append(number)
        tokens += more
    if part:
        yield _tree(group, prompt, part, shape)


def figures(groups: Sequence[Group], means: Mapping[int, float]) -> dict[str, float]:
    """What the metrics say of a rollout: means over its answers, shares of them or of groups.

    means: the mean reward of each prompt when the order was measured. What is above it is the gain,
    which prompts that come in the order of their variance do not bend as they do the reward.
    """
    answers = [answer for group in groups for answer in group.answers]
    worth = [one for group in groups for one in group.judged]
    verdicts = [one.verdict for one in worth if one.verdict is not None]
    told = {
        "reward": _mean([one.reward for one in worth if one.reward is not None]),
        "answer_tokens": _mean([sum(map(bool, answer.mask)) for answer in answers]),
        "repetition": _mean([record.repetition(answer.ids) for answer in answers]),
        "truncated": _mean([answer.truncated for answer in answers]),
        "zero_variance": _mean([not spread(group.rewards) for group in groups]),
        "groups": len(groups),
        "turns": _mean([answer.turns for answer in answers]),
    }
    if verdicts:
        decided = (Verdict.right, Verdict.wrong)
        told["right"] = _mean([verdict == Verdict.right for verdict in verdicts])
        told["undecided"] = _mean([verdict not in decided for verdict in verdicts])
    gains = [
        fmean(group.rewards) - means[group.prompt]
        for group in groups
        if group.rewards and group.prompt in means
    ]
    if gains:
        told["gain"] = fmean(gains)
    scores = [one.score for one in worth if one.score is not None]
    return told | ({"score": _mean(scores)} if scores else {})


def _group(
    prompt: Prompt, answers: list[Answer], worth: list[Judged], reward: Reward, normalised: bool
) -> Group:
    """An advantage for every answer that has a reward; a masked one counts in the group's mean."""
    known = [number for number, one in enumerate(worth) if one.reward is not None]
    values = advantages([one.reward for one in worth if one.reward is not None], normalised)
    found: list[float | None] = [None] * len(answers)
    for number, value in zip(known, values, strict=True):
        masked = reward.truncated == "mask" and answers[number].truncated
        found[number] = None if masked else value
    return Group(prompt.number, answers, worth, found)


def _tree(group: Group, prompt: Prompt, numbers: Sequence[int], shape: ModelConfig) -> Tree:
    answers = [group.answers[number] for number in numbers]
    values: dict[str, Sequence[Any]] = {
        "advantages": [group.advantages[number] for number in numbers],
        "sampler_logprobs": [answer.logprobs for answer in answers],
    }
    if group.old is not None:
        values["old_logprobs"] = [group.old[number] for number in numbers]
    routes = None
    if any(answer.routes for answer in answers):
        routes = [routing.read(b64decode(answer.routes), shape) for answer in answers]
    ids, masks = [answer.ids for answer in answers], [answer.mask for answer in answers]
    return Tree(prompt.ids, ids, masks, values, routes)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
