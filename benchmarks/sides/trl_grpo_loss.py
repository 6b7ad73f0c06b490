"""A side that answers once: the loss of TRL's `GRPOTrainer` on given answers, by algorithm.

The settings name a file of `{"prompts", "answers", "advantages", "old", "ref"}`, lists by answer;
what it prints is `{"grpo": 0.0123, ...}`.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer
from trl import GRPOTrainer

from benchmarks.sides.transformers_step import build
from benchmarks.sides.trl_grpo import arguments, letters

# What TRL calls them; sequence ratios are an option of its grpo loss.
CALLED = {
    "grpo": ("grpo", "token"),
    "dr_grpo": ("dr_grpo", "token"),
    "dapo": ("dapo", "token"),
    "gspo": ("grpo", "sequence"),
    "cispo": ("cispo", "token"),
}


def main(settings: dict[str, Any]) -> None:
    """Print the losses."""
    torch.set_num_threads(settings["threads"])
    given = json.loads(Path(settings["answers"]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as out:
        trainer = GRPOTrainer(
            model=build(),
            reward_funcs=letters,
            args=arguments(settings, out, use_bias_correction_kl=False),
            train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "Hello"}]}]),
            processing_class=AutoTokenizer.from_pretrained(settings["tokenizer"]),
        )
        trainer.model.eval()
        trainer.beta = settings["beta"]  # as an argument it asks for a reference model by name
        batch = inputs(given)
        print(json.dumps({name: loss(trainer, batch, settings, name) for name in CALLED}))


@torch.no_grad()
def loss(
    trainer: GRPOTrainer, batch: dict[str, Any], settings: dict[str, Any], algorithm: str
) -> float:
    """The value of one loss, as an evaluation computes it: on one batch, whole."""
    trainer.loss_type, trainer.importance_sampling_level = CALLED[algorithm]
    trainer.epsilon_low, high = settings["clips"][algorithm]
    # TRL clips cispo at epsilon_high itself, the others at 1 + epsilon_high.
    trainer.epsilon_high = 1 + high if algorithm == "cispo" else high
    return trainer._compute_loss(trainer.model, batch).item()


def inputs(given: dict[str, Any]) -> dict[str, Any]:
    """The batch that the trainer takes: prompts padded on the left, answers on the right."""
    answers, mask = padded(given["answers"], "right")
    prompts, prompt_mask = padded(given["prompts"], "left")
    return {
        "prompt_ids": prompts,
        "prompt_mask": prompt_mask,
        "completion_ids": answers,
        "completion_mask": mask,
        "advantages": torch.tensor(given["advantages"]),
        "old_per_token_logps": padded(given["old"], "right")[0],
        "ref_per_token_logps": padded(given["ref"], "right")[0],
        "num_items_in_batch": mask.sum(),
    }


def padded(rows: list[list[Any]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of one length, and where they are not padding."""
    tensors = [torch.tensor(row) for row in rows]
    marks = [torch.ones(len(row), dtype=torch.long) for row in rows]
    return (
        pad_sequence(tensors, batch_first=True, padding_side=side),
        pad_sequence(marks, batch_first=True, padding_side=side),
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
