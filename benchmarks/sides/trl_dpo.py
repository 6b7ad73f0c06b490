"""A side: TRL's `DPOTrainer` on the same pairs, one step a turn; or its losses of one batch.

It runs in an environment that has TRL, which need not have Baiwen: weights come as HF folders, and
the tokenizer's folder brings the chat template.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

from benchmarks.turns import Turn

ENDLESS = 10**6  # steps; the conductor hangs up before


class Counting(DPOTrainer):
    """The trainer, which also counts the tokens of the batches that it computes."""

    tokens = 0

    def compute_loss(self, model: Any, inputs: dict[str, Any], *given: Any, **named: Any) -> Any:
        """The loss as ever."""
        self.tokens = inputs["input_ids"].numel()
        return super().compute_loss(model, inputs, *given, **named)


class Waiting(TrainerCallback):
    """Before each step, wait for its turn."""

    def __init__(self, turn: Turn, pairs: int) -> None:
        self.turn, self.pairs = turn, pairs
        self.trainer: Counting | None = None

    def on_step_begin(self, *given: Any, **named: Any) -> None:
        """Tell of the step before, if there was one."""
        assert self.trainer
        self.turn.figures = {"pairs": self.pairs, "tokens": self.trainer.tokens}
        self.turn.wait()


def main(settings: dict[str, Any]) -> None:
    """Train, a step whenever it is told; with `ids`, compute the losses of these pairs."""
    torch.set_num_threads(settings["threads"])
    turn = Turn()
    waiting = Waiting(turn, settings["rows"])
    with tempfile.TemporaryDirectory() as out:
        waiting.trainer = trainer(settings, out, waiting)
        if "ids" not in settings:
            waiting.trainer.train()
            return
        turn.wait()
        turn.figures = {"losses": losses(waiting.trainer, settings)}
        turn.wait()


def trainer(settings: dict[str, Any], out: str, waiting: Waiting) -> Counting:
    """The trainer; its reference is that of the losses, or the model itself."""
    lines = Path(settings["data"]).read_text(encoding="utf-8").splitlines()
    reference = settings["reference" if "ids" in settings else "model"]
    return Counting(
        model=load(settings["model"]),
        ref_model=load(reference),
        args=arguments(settings, out),
        train_dataset=Dataset.from_list([json.loads(line) for line in lines]),
        processing_class=AutoTokenizer.from_pretrained(settings["model"]),
        callbacks=[waiting],
    )


def load(folder: str) -> Any:
    """A model in fp32 with PyTorch's fused attention."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )


@torch.no_grad()
def losses(made: Counting, settings: dict[str, Any]) -> dict[str, float]:
    """The mean loss of the pairs in `ids`, for each of TRL's names of a loss."""
    batch = made.data_collator(settings["ids"])
    found = {}
    for name in settings["variants"]:
        made.loss_types = [name]
        found[name] = made.compute_loss(made.model, batch).item()
    return found


def arguments(settings: dict[str, Any], out: str) -> DPOConfig:
    """Its defaults, but for what both sides share."""
    return DPOConfig(
        output_dir=out,
        per_device_train_batch_size=settings["rows"],
        max_length=2048,
        beta=settings["beta"],
        precompute_ref_log_probs=bool(settings.get("cached")),
        max_steps=ENDLESS,
        learning_rate=1e-6,
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
