"""A mixture of experts whose routers have opinions: what it does, and how it chooses, is tested."""

import pytest
import torch

from baiwen.model.config import ModelConfig
from baiwen.model.moe import MoE
from baiwen.model.transformer import Transformer

MIXTURE = ModelConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
    num_attention_heads=2, num_key_value_heads=1, num_experts=6, num_experts_per_tok=2,
    moe_intermediate_size=24, shared_expert_intermediate_size=40, decoder_sparse_step=1,
    mlp_only_layers=(1,),
)  # fmt: skip


@pytest.fixture
def mixture() -> Transformer:
    """Layers 0 and 2 are sparse, layer 1 is dense."""
    model = Transformer(MIXTURE)
    model.init_weights(0)
    for block in model.model.layers:
        if isinstance(block.mlp, MoE):
            torch.nn.init.normal_(block.mlp.gate.weight, std=0.5)
    return model
