"""A side: the training step that one writes with transformers, on the same random tokens."""

import json
import sys
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.sides.model import SHAPE, THETA, fill
from benchmarks.turns import Turn


def main(settings: dict[str, Any]) -> None:
    """A step whenever it is told."""
    torch.set_num_threads(settings["threads"])
    model = build().train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    size = settings["rows"], settings["length"]
    half = settings["dtype"] == "bfloat16"
    generator = torch.Generator().manual_seed(0)
    turn = Turn()
    while True:
        turn.wait()
        tokens = torch.randint(SHAPE["vocab_size"], size, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        turn.figures = {"tokens": tokens.numel(), "loss": loss.item()}


def build() -> Qwen2ForCausalLM:
    """The model in fp32, with PyTorch's fused attention."""
    config = Qwen2Config(**SHAPE, rope_parameters={"rope_type": "default", "rope_theta": THETA})
    model = Qwen2ForCausalLM._from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    fill(model)
    return model


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
