"""A side: Baiwen's GRPO: rollouts by the engine on the weights that train, one step a turn."""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from baiwen.dist import World, session
from baiwen.engine.engine import Engine
from baiwen.engine.request import Completion
from baiwen.engine.sampler import Sampling
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.rl import prompts
from baiwen.rl.episodes import Episodes
from baiwen.rl.order import Order
from baiwen.rl.prompts import Prompt
from baiwen.rl.record import Alarms
from baiwen.rl.rewards import Reward
from baiwen.rl.rollout import Answer, Local
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.train.guard import Guard
from baiwen.train.loop import advance
from baiwen.train.meter import steady
from baiwen.train.optim import Optim, build
from baiwen.train.policy import policy
from benchmarks.sides.model import SHAPE, THETA, fill
from benchmarks.turns import Turn


class Timed(Local):
    """The engine, whose answers never end before their last token, and the time they take."""

    seconds = 0.0  # of all threads

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> Sequence[Completion]:
        """As ever."""
        began = time.process_time()
        done = super().generate(prompts, replace(sampling, stop_ids=()))
        self.seconds = time.process_time() - began
        return done


def main(settings: dict[str, Any]) -> None:
    """A step whenever it is told."""
    with (
        session("cpu", settings["dtype"], threads=settings["threads"]) as world,
        tempfile.TemporaryDirectory() as folder,
        steady(),
    ):
        model = Transformer(ModelConfig(**SHAPE, rope_theta=THETA))
        fill(model)
        sampler = Timed(Engine(model, Tokenizer.load(settings["tokenizer"])), world.autocast)
        source = episodes(settings, model, sampler, world, Path(folder))
        optim = Optim(lr=settings["lr"], weight_decay=0.0)
        optimizers = build(model, optim, dtype=world.dtype)
        guard = Guard(max_skipped=10, skip_spikes=False)
        objective = partial(policy, max_tokens=settings["tokens"])
        turn = Turn()
        number = 0
        while True:
            turn.wait()
            batches = source.batches(number)
            metrics = advance(model, batches, objective, optimizers, guard, world, optim)
            number += 1
            answers = settings["prompts"] * settings["samples"]
            turn.figures = {
                "sampled": answers * settings["tokens"],
                "sampling": sampler.seconds,
                "loss": metrics["loss"],
            }


def episodes(
    settings: dict[str, Any], model: Transformer, sampler: Timed, world: World, folder: Path
) -> Episodes:
    """Rollouts rewarded by how many characters an answer has that differ."""
    room = SHAPE["max_position_embeddings"]
    read = prompts.read(Path(settings["data"]), sampler.engine.tokenizer, room, verified=False)
    plan: Any = SimpleNamespace(
        prompts_per_step=settings["prompts"],
        samples_per_prompt=settings["samples"],
        steps_per_rollout=1,
        zero_variance="keep",
        refills=0,
        max_tokens=settings["tokens"],
        temperature=1.0,
        micro_tokens=2**20,
        algorithm="grpo",
        seed=0,
        reward=Reward(by="model", model=folder),
        order=Order(by_variance=False),
        alarms=Alarms(),
    )
    return Episodes(plan, read, model, sampler, letters, world=world, folder=folder, room=room)


def letters(pairs: Sequence[tuple[Prompt, Answer]]) -> list[float]:
    """The reward of each answer."""
    return [float(len(set(answer.text))) for _, answer in pairs]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
