"""A side: Baiwen's DPO: both answers of a pair behind one prompt, one step a turn."""

import json
import sys
from functools import partial
from typing import Any

import torch

from baiwen.data import pairs
from baiwen.data.trees import Loader, TreeBatch
from baiwen.model import weights
from baiwen.train.guard import Guard
from baiwen.train.loop import advance
from baiwen.train.meter import steady
from baiwen.train.optim import Optim, build
from baiwen.train.preference import dpo
from baiwen.train.references import Part, compute
from benchmarks.sides.baiwen_step import place
from benchmarks.turns import Turn

MICRO_TOKENS = 16_384  # more than a step has


def main(settings: dict[str, Any]) -> None:
    """A step whenever it is told."""
    limits = pairs.Limits(context=2048, micro_tokens=MICRO_TOKENS)
    found = pairs.read(settings["data"], settings["model"], limits)
    loader = Loader(found, settings["rows"], MICRO_TOKENS)
    with place(settings) as world, steady():
        model = weights.load(settings["model"], dtype=torch.float32)
        optim = Optim(lr=1e-6)
        optimizers = build(model, optim, dtype=world.dtype)
        objective = partial(dpo, beta=settings["beta"])
        guard = Guard(max_skipped=10, skip_spikes=False)
        answers = 2 * settings["rows"]
        turn, number = Turn(), 0
        while True:
            turn.wait()
            batches = loader.step(number)
            number += 1
            known = torch.zeros(answers)
            if not settings["cached"]:
                known = compute(model, Part("", answers, lambda: placed(batches)), world)  # noqa: B023
            for batch in batches:
                batch.values["ref_logprobs"] = known
            metrics = advance(model, batches, objective, optimizers, guard, world, optim)
            tokens = sum(batch.real for batch in batches)
            turn.figures = {"pairs": settings["rows"], "tokens": tokens, "loss": metrics["loss"]}


def placed(batches: list[TreeBatch]) -> list[TreeBatch]:
    """The batch of a step, whose answers know their places."""
    [batch] = batches
    batch.values["place"] = torch.arange(len(batch.tree))
    return batches


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
