"""A side: TRL's `SFTTrainer` on the same conversations, padded or packed, one step a turn.

It runs in an environment that has TRL, which need not have Baiwen: the tokenizer's folder brings
the chat template, with the marks that `assistant_only_loss` reads.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from benchmarks.sides.transformers_step import build
from benchmarks.turns import Turn

ENDLESS = 10**6  # steps; the conductor hangs up before


class Counting(SFTTrainer):
    """The trainer, which also counts the tokens of the batches that it computes."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *given: Any, **named: Any) -> Any:
        """The loss as ever."""
        mask = inputs.get("attention_mask")
        tokens = inputs["input_ids"].numel()
        self.counts = {
            "real": tokens if mask is None else int(mask.sum()),
            "all": tokens,
            "learned": int((inputs["labels"] != -100).sum()),
        }
        return super().compute_loss(model, inputs, *given, **named)


class Waiting(TrainerCallback):
    """Before each step, wait for its turn."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.trainer: Counting | None = None

    def on_step_begin(self, *given: Any, **named: Any) -> None:
        """Tell of the step before, if there was one."""
        assert self.trainer
        self.turn.figures = getattr(self.trainer, "counts", {})
        self.turn.wait()


def main(settings: dict[str, Any]) -> None:
    """Train, a step whenever it is told."""
    torch.set_num_threads(settings["threads"])
    lines = Path(settings["data"]).read_text(encoding="utf-8").splitlines()
    waiting = Waiting()
    with tempfile.TemporaryDirectory() as out:
        waiting.trainer = Counting(
            model=build(),
            args=arguments(settings, out),
            train_dataset=Dataset.from_list([json.loads(line) for line in lines]),
            processing_class=AutoTokenizer.from_pretrained(settings["tokenizer"]),
            callbacks=[waiting],
        )
        waiting.trainer.train()


def arguments(settings: dict[str, Any], out: str) -> SFTConfig:
    """Its defaults, but for what both sides share."""
    return SFTConfig(
        output_dir=out,
        per_device_train_batch_size=settings["rows"],
        max_length=settings["length"],
        packing=settings["packing"],
        assistant_only_loss=True,
        max_steps=ENDLESS,
        learning_rate=3e-4,
        lr_scheduler_type="constant",
        bf16=settings["dtype"] == "bfloat16",
        use_cpu=True,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
