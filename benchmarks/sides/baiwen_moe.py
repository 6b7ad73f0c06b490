"""A side: Baiwen's sparse layer, `model.moe.MoE`, in the session of a training stage."""

import json
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor

from baiwen.dist import session
from baiwen.model.config import ModelConfig
from baiwen.model.moe import MoE
from benchmarks.sides.mixture import Shape, serve, weights


def main(settings: dict[str, Any]) -> None:
    """A pass whenever it is told."""
    with session(device="cpu", dtype=settings["dtype"], threads=settings["threads"]):
        serve(settings, build)


def build(shape: Shape) -> tuple[MoE, Callable[[Tensor], Tensor]]:
    """The layer, and what it gives for tokens [1, N, C]."""
    config = ModelConfig(
        vocab_size=8, hidden_size=shape.hidden, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, num_experts=shape.experts,
        num_experts_per_tok=shape.chosen, moe_intermediate_size=shape.width,
        shared_expert_intermediate_size=shape.shared,
    )  # fmt: skip
    layer = MoE(config)
    layer.load_state_dict(weights(shape))
    return layer, lambda x: layer(x)[0]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
