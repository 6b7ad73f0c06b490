"""A side that answers once: loss and gradient of TRL's `RewardTrainer` on given pairs.

The settings name a folder that Baiwen wrote and a file of `[[chosen ids, rejected ids], ...]`. The
model is the published class of Qwen2.5-Math-RM in transformers' words, read from that folder; what
is printed is the loss, and how long the gradient is, for each weight of the centring.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoTokenizer, Qwen2Model, Qwen2PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from trl import RewardConfig, RewardTrainer


class Qwen2ForRewardModel(Qwen2PreTrainedModel):
    """A decoder and two linear layers, read at the last token."""

    def __init__(self, config: Any) -> None:
        config.num_labels = 1
        super().__init__(config)
        size = config.hidden_size
        self.model = Qwen2Model(config)
        self.score = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 1))
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Any:
        """The reward of each row."""
        states = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
        last = states[torch.arange(len(states)), attention_mask.sum(1) - 1]
        return SequenceClassifierOutput(logits=self.score(last))


def main(settings: dict[str, Any]) -> None:
    """Print `{"0.0": [loss, norm], "0.01": [loss, norm]}`."""
    torch.set_num_threads(settings["threads"])
    rows = json.loads(Path(settings["pairs"]).read_text(encoding="utf-8"))
    examples = [{"chosen_ids": chosen, "rejected_ids": rejected} for chosen, rejected in rows]
    found = {str(center): loss(settings, examples, center) for center in settings["centers"]}
    print(json.dumps(found))


def loss(settings: dict[str, Any], examples: list[dict[str, Any]], center: float) -> list[float]:
    """What the trainer computes for one batch of all pairs, and the norm of its gradient."""
    model, told = Qwen2ForRewardModel.from_pretrained(
        settings["folder"], dtype=torch.float32, output_loading_info=True
    )
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with tempfile.TemporaryDirectory() as out:
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(
                output_dir=out,
                center_rewards_coefficient=center or None,
                max_length=None,
                bf16=False,
                use_cpu=True,
                report_to=[],
            ),
            train_dataset=Dataset.from_list(examples),
            processing_class=AutoTokenizer.from_pretrained(settings["folder"]),
        )
        value = trainer.compute_loss(trainer.model, trainer.data_collator(examples))
    value.backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    return [value.item(), norm.item()]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
