"""A side: TRL's `GRPOTrainer` on the same prompts, one step a turn.

It runs in an environment that has TRL, which need not have Baiwen: the tokenizer's folder brings
the chat template.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.sides.transformers_step import build
from benchmarks.turns import Turn

ENDLESS = 10**6  # steps; the conductor hangs up before


class Timed(GRPOTrainer):
    """The trainer, which also tells how long its answers took to sample."""

    seconds = 0.0  # of all threads

    def _generate(self, *given: Any, **named: Any) -> Any:
        began = time.process_time()
        done = super()._generate(*given, **named)
        self.seconds = time.process_time() - began
        return done


class Waiting(TrainerCallback):
    """Before each step, wait for its turn."""

    def __init__(self, sampled: int) -> None:
        self.turn, self.sampled = Turn(), sampled
        self.trainer: Timed | None = None

    def on_step_begin(self, *given: Any, **named: Any) -> None:
        """Tell of the step before, if there was one."""
        assert self.trainer
        self.turn.figures = {"sampled": self.sampled, "sampling": self.trainer.seconds}
        self.turn.wait()


def main(settings: dict[str, Any]) -> None:
    """Train, a step whenever it is told."""
    torch.set_num_threads(settings["threads"])
    lines = Path(settings["data"]).read_text(encoding="utf-8").splitlines()
    waiting = Waiting(settings["prompts"] * settings["samples"] * settings["tokens"])
    with tempfile.TemporaryDirectory() as out:
        waiting.trainer = Timed(
            model=build(),
            reward_funcs=letters,
            args=arguments(settings, out),
            train_dataset=Dataset.from_list([json.loads(line) for line in lines]),
            processing_class=AutoTokenizer.from_pretrained(settings["tokenizer"]),
            callbacks=[waiting],
        )
        waiting.trainer.train()


def letters(completions: list[Any], **_: Any) -> list[float]:
    """The reward of each answer: how many characters it has that differ."""
    return [float(len(set(completion[0]["content"]))) for completion in completions]


def arguments(settings: dict[str, Any], out: str, **more: Any) -> GRPOConfig:
    """Its defaults, but for what both sides share."""
    return GRPOConfig(
        output_dir=out,
        per_device_train_batch_size=settings["prompts"] * settings["samples"],
        num_generations=settings["samples"],
        max_completion_length=settings["tokens"],
        generation_kwargs={"min_new_tokens": settings["tokens"]},
        max_steps=ENDLESS,
        learning_rate=settings["lr"],
        lr_scheduler_type="constant",
        bf16=settings["dtype"] == "bfloat16",
        use_cpu=True,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **{"loss_type": "grpo"} | more,
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
