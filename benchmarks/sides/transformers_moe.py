"""A side: the sparse layer of transformers, by its loop over experts or by its grouped matmuls."""

import json
import sys
from typing import Any

import torch
from transformers import Qwen2MoeConfig
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock

from benchmarks.sides.mixture import Shape, serve, weights


def main(settings: dict[str, Any]) -> None:
    """A pass whenever it is told."""
    torch.set_num_threads(settings["threads"])

    def build(shape: Shape) -> tuple[Qwen2MoeSparseMoeBlock, Qwen2MoeSparseMoeBlock]:
        layer = block(shape, settings["experts"])
        return layer, layer

    serve(settings, build)


def block(shape: Shape, experts: str) -> Qwen2MoeSparseMoeBlock:
    """The layer with its `experts_implementation`."""
    config = Qwen2MoeConfig(
        hidden_size=shape.hidden, num_experts=shape.experts, num_experts_per_tok=shape.chosen,
        moe_intermediate_size=shape.width, shared_expert_intermediate_size=shape.shared,
    )  # fmt: skip
    config._experts_implementation = experts
    layer, state = Qwen2MoeSparseMoeBlock(config), weights(shape)
    both = [state.pop(f"experts.{name}_proj") for name in ("gate", "up")]
    layer.load_state_dict(state | {"experts.gate_up_proj": torch.cat(both, 1)})
    return layer


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
