"""What a stage trains, as the arithmetic of `baiwen plan` takes it (no torch).

    Work(SIZES["72b"], sequence_length=4096, tokens_per_step=2**22, tokens=18 * 10**12)

Every training stage has `work(config, shape=None)`, which says it of a recipe; `estimate.py` makes
figures of one process of it, `cluster.py` layouts of many. Of preferences and rollouts there is
more to say:

    trees = Trees(total=9000, number=256, longest=2500)    # prompts with their answers
    reference = Other("reference", shape)                  # another model that reads them
    rollout = Rollout(prompts=256, samples=8, prompt=200, answer=2048, longest=2500, sequences=256)
    Work(shape, 2248, 256 * 16592, trees=trees, others=(reference,), rollout=rollout)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

from baiwen.errors import UserError
from baiwen.model import count
from baiwen.model.config import ModelConfig

KEPT = 4  # bytes of a number of the sampler's weights, keys and values: it has fp32 weights


class UnplannedError(UserError):
    """What a run would take is not known: an input is not there yet."""


@dataclass(frozen=True)
class Trees:
    """Prompts with their answers, which micro-batches hold whole, as many as there is room for."""

    total: int  # of the data
    number: int  # of a step
    longest: int  # tokens of the longest: the least micro_tokens
    what: str = "prompts"  # as a plan calls them


@dataclass(frozen=True)
class Other:
    """A model that only reads what is trained on: a reference, a reward model."""

    name: str
    shape: ModelConfig
    passes: float = 1.0  # forward passes over each token that is trained on
    # Where its weights are beside those that train: divided as these, in fp32; whole on each rank,
    # as matmuls take them; or nowhere, where they are these, before the first step.
    held: Literal["divided", "whole", "no"] = "divided"


@dataclass(frozen=True)
class Rollout:
    """Answers that ranks sample, each by an engine of its own with whole weights."""

    prompts: int  # of an update, over all ranks
    samples: int  # answers of each
    prompt: int  # its tokens, the mean
    answer: int  # tokens of an answer, each of which is taken to be that long
    longest: int  # tokens of the longest prompt with its answer
    sequences: int  # answers that a rank samples at once, at most
    updates: int = 1  # that are made of a rollout
    block: int = 16  # tokens of a block of the cache

    def at_once(self, ranks: int) -> int:
        """Answers that a rank samples at once."""
        return min(self.sequences, self.asked(ranks) * self.samples)

    def asked(self, ranks: int) -> int:
        """Prompts that a rank is asked in a rollout."""
        return math.ceil(self.prompts * self.updates / ranks)

    def steps(self, ranks: int) -> int:
        """Forward passes of a rank's rollout, in each of which an answer gets a token."""
        return math.ceil(self.asked(ranks) * self.samples / self.at_once(ranks)) * self.answer

    def tokens(self, ranks: int) -> int:
        """Whose keys and values a rank has room for."""
        blocks = math.ceil(self.longest / self.block) + 1  # a group's last block is copied
        return self.at_once(ranks) * blocks * self.block


@dataclass(frozen=True)
class Work:
    """What is to be trained."""

    shape: ModelConfig
    sequence_length: int  # tokens that see each other
    tokens_per_step: int
    tokens: int | None = None  # of the whole run; None: unknown
    unit: int | None = None  # of which each rank has a multiple, where a law has told the step
    trees: Trees | None = None  # None: rows of `sequence_length` tokens
    others: tuple[Other, ...] = ()
    rollout: Rollout | None = None
    merging: int = 0  # bytes a number that the optimizer holds beside its moments
    context: bool = True  # whether the stage lets ranks share a row
    alone: str = ""  # why it takes a single process, where it does
    elsewhere: str = ""  # what it needs beside these GPUs

    @property
    def steps(self) -> int | None:
        """Of the optimizer; None where the tokens are not known."""
        return None if self.tokens is None else math.ceil(self.tokens / self.tokens_per_step)

    @property
    def flops_per_token(self) -> float:
        """Of a token that is trained on, by all models: generated, read, forward and backward."""
        every = [(self.shape, 4.0 if self.rollout else 3.0)]
        every += [(other.shape, other.passes) for other in self.others]
        length = self.sequence_length
        return sum(passes * count.flops_per_token(shape, length) / 3 for shape, passes in every)

    def on(self, ranks: int) -> "Work":
        """The same with a law's step to the nearest that so many ranks divide."""
        if self.unit is None:
            return self
        unit = ranks * self.unit
        return replace(self, tokens_per_step=max(1, round(self.tokens_per_step / unit)) * unit)


def needed(**paths: Path) -> None:
    """UnplannedError where one of these inputs, by the names of their knobs, is not there yet."""
    missing = [f"{name} = {path}" for name, path in paths.items() if not path.exists()]
    if missing:
        raise UnplannedError(f"{', '.join(missing)}: not there yet")


def on_trees(
    shape: ModelConfig,
    length: int,
    trees: Sequence[int],
    per_step: int,
    epochs: float,
    what: str = "prompts",
) -> Work:
    """Work on trees of so many tokens each, gone through `epochs` times.

    length: tokens that see each other, the mean. what: they are called.
    """
    step = math.ceil(per_step * fmean(trees))
    steps = math.ceil(epochs * len(trees) / per_step)
    packed = Trees(len(trees), per_step, max(trees), what)
    return Work(shape, length, step, steps * step, trees=packed, context=False)
