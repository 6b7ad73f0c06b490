"""The model that both sides of a comparison train, and how its weights begin."""

from typing import Any

import torch
from torch import nn

# 9,969,920 parameters; the names are those of config.json, which both sides take.
SHAPE: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 1024,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
THETA = 10_000.0


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Matrices from N(0, 0.02), norms 1, biases 0, in the order of names: alike on both sides."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim > 1:
            parameter.normal_(0, 0.02, generator=generator)
        else:
            parameter.fill_(0 if name.endswith("bias") else 1)


@torch.no_grad()
def tile(model: nn.Module) -> None:
    """Matrices of a million numbers from N(0, 0.02) over and over: fast, where speed is all."""
    drawn = torch.empty(2**20).normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        flat = parameter.flatten()
        if parameter.ndim == 1:
            parameter.fill_(0 if name.endswith("bias") else 1)
        for piece in flat.split(len(drawn)) if parameter.ndim > 1 else ():
            piece.copy_(drawn[: len(piece)])
