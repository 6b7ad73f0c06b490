"""What reinforcement learning takes: rollouts, and the models beside the one that trains.

    asked = rollout(config, [len(prompt.ids) for prompt in prompts], room)
    engine = Engine(model, tokenizer, cache_tokens=asked.tokens(ranks=8), ...)
    work(config, shape, lengths, steps=100, room=room)           # for `baiwen plan`

Answers are taken at their full length, which is the most that a run may need.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Protocol

from baiwen.engine.engine import BLOCK
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.rl.rewards import Reward
from baiwen.rl.tools import Tools
from baiwen.rl.vllm import Vllm
from baiwen.rl.workers import Workers
from baiwen.train.optim import Optim
from baiwen.train.work import Other, Rollout, Trees, Work, needed


class Plan(Protocol):
    """The knobs that it depends on."""

    prompts_per_step: int
    samples_per_prompt: int
    steps_per_rollout: int
    max_tokens: int
    sequences: int
    beta: float
    reference: Path | None
    reward: Reward
    tools: Tools
    workers: Workers
    vllm: Vllm | None
    optim: Optim


def rollout(plan: Plan, prompts: Sequence[int], room: int) -> Rollout:
    """Of prompts of so many tokens; room: the most tokens of a prompt and its answer."""
    return Rollout(
        prompts=plan.prompts_per_step,
        samples=plan.samples_per_prompt,
        prompt=round(fmean(prompts)),
        answer=plan.max_tokens,
        longest=room if plan.tools.turns > 1 else max(prompts) + plan.max_tokens,
        sequences=plan.sequences,
        updates=plan.steps_per_rollout,
        block=BLOCK,
    )


def work(plan: Plan, shape: ModelConfig, prompts: Sequence[int], *, steps: int, room: int) -> Work:
    """What is to be trained, on prompts of so many tokens."""
    asked = rollout(plan, prompts, room)
    step = asked.prompts * (asked.prompt + asked.samples * (asked.answer + 1))
    here = not (plan.workers.count or plan.vllm)
    return Work(
        shape,
        asked.prompt + asked.answer,
        step,
        steps * step,
        trees=Trees(len(prompts), asked.prompts, asked.longest + 1),
        others=tuple(_others(plan, shape)),
        rollout=asked if here else None,
        merging=plan.optim.merging.itemsize,
        context=False,
        alone=plan.optim.alone or _alone(plan),
        elsewhere="" if here else f"rollouts, by {'a vLLM server' if plan.vllm else 'workers'}",
    )


def _others(plan: Plan, shape: ModelConfig) -> Iterator[Other]:
    """The models that read what is trained on."""
    if plan.beta and plan.reference is not None:
        needed(reference=plan.reference)
        yield Other("reference", weights.read_config(plan.reference))
    elif plan.beta:
        yield Other("reference", shape)
    if plan.reward.model is not None:
        needed(reward=plan.reward.model)
        yield Other("reward model", weights.read_config(plan.reward.model), held="whole")
    if plan.steps_per_rollout > 1:  # the policy itself, for the updates after the first
        yield Other("log-probabilities", shape, 1 - 1 / plan.steps_per_rollout, held="no")


def _alone(plan: Plan) -> str:
    """Why a single process must train, where it must."""
    if plan.vllm:
        return "vllm needs a single training process"
    return "workers.staleness needs a single training process" if plan.workers.staleness else ""
