"""Bytes and seconds of what stands beside the model that trains: other models, rollouts (no torch).

    held(work, Spread(shard=8), ranks=8)       # {"reference": 3807808256, "keys and values": ...}
    seconds(work, clock, micro_batches=4, ranks=8)       # {"reference": 0.4, "rollout": 31.0, ...}

A reference is divided and computed as the model that trains. A reward model is whole on each rank,
which scores the answers that it has sampled. So is the sampler's copy of the weights, in fp32 as
its keys and values are; with a single rank the model that trains is the sampler's. Rules and
assumptions are told in docs/cluster.md.
"""

from dataclasses import replace

from baiwen.model import count
from baiwen.model.config import ModelConfig
from baiwen.train.clock import Clock
from baiwen.train.spread import Spread, units
from baiwen.train.work import KEPT, Rollout, Work

# Bytes that a forward pass of the sampler moves for a weight: autocast reads it in fp32 and writes
# it in bf16, which the matmul reads.
CAST = 8
# Seconds that a layer of a step of the engine takes however little it computes, of kernels that are
# launched one by one (assumed: 20 of 5 us).
LAUNCHES = 1e-4


def held(work: Work, spread: Spread, ranks: int, itemsize: int = 2) -> dict[str, int]:
    """Bytes that a rank holds of it, by what holds them; itemsize: of a number in the matmuls."""
    told = {}
    for other in work.others:
        if other.held == "divided":
            told[other.name] = 4 * own(other.shape, spread)
        elif other.held == "whole":
            told[other.name] = itemsize * total(other.shape)
    if work.rollout is not None:
        told["sampler's weights"] = KEPT * total(work.shape) if ranks > 1 else 0
        told["keys and values"] = work.rollout.tokens(ranks) * cached(work.shape)
    if work.merging:
        told["merging"] = work.merging * own(work.shape, spread)
    return told


def seconds(work: Work, clock: Clock, micro_batches: int, ranks: int) -> dict[str, float]:
    """Of a step, by what they go to; `clock`: that of the model that trains."""
    told = {}
    for other in work.others:
        if other.held == "whole":
            tokens = work.tokens_per_step / ranks
            one = tokens * count.flops_per_token(other.shape, clock.length) / 3 / clock.rate
        else:
            one = micro_batches * replace(clock, shape=other.shape).read()
        told[other.name] = other.passes * one
    if work.rollout is not None:
        told["rollout"] = _rollout(work.rollout, clock, ranks) / work.rollout.updates
    return told


def _rollout(asked: Rollout, clock: Clock, ranks: int) -> float:
    """Seconds of one: new weights, prompts, and then a token of each answer a pass.

    A pass takes as long as the slowest of what it does: reading weights, keys and values; matmuls;
    launching kernels.
    """
    shape, device = clock.shape, clock.device
    answers, context = asked.at_once(ranks), asked.prompt + asked.answer / 2
    multiplied = 2 * count.parameters(shape).matmul
    attended = 4 * shape.num_hidden_layers * shape.hidden_size * context
    moved = CAST * total(shape) + answers * context * cached(shape)
    one = max(
        moved / (1e9 * device.hbm),
        answers * (multiplied + attended) / clock.rate,
        shape.num_hidden_layers * LAUNCHES,
    )
    prompts = asked.asked(ranks) * asked.prompt * multiplied / clock.rate
    return clock.gathered(KEPT * total(shape)) + prompts + asked.steps(ranks) * one


def own(shape: ModelConfig, spread: Spread) -> int:
    """Numbers of a model's weights that a rank holds."""
    return sum(unit.copies * unit.numbers(spread) for unit in units(shape))


def cached(shape: ModelConfig) -> int:
    """Bytes of the keys and values of a token of the sampler's."""
    return count.cache_bytes_per_token(shape, KEPT)


def total(shape: ModelConfig) -> int:
    """Numbers of a model's weights."""
    return count.parameters(shape).total
