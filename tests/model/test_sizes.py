"""The published sizes: exact counts, by arithmetic, by construction and from their config.json."""

import json

import pytest
import torch

from baiwen.model.config import ModelConfig
from baiwen.model.count import cache_bytes_per_token, flops_per_token, parameters
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer

# Total and non-embedding weights, bytes of the bf16 cache a token (spec 1.1).
PUBLISHED = {
    "0.5b": (494_032_768, 357_898_112, 12_288),
    "1.5b": (1_543_714_304, 1_310_340_608, 28_672),
    "3b": (3_085_938_688, 2_774_773_760, 36_864),
    "7b": (7_615_616_512, 6_525_621_760, 57_344),
    "14b": (14_770_033_664, 13_212_898_304, 196_608),
    "32b": (32_763_876_352, 31_206_740_992, 262_144),
    "72b": (72_706_203_648, 70_214_787_072, 327_680),
}
FILES = {size: f"Qwen2.5-{size.upper()}-Instruct" for size in PUBLISHED}
FILES |= {"a2.7b": "Qwen1.5-MoE-A2.7B", "57b-a14b": "Qwen2-57B-A14B"}


def built(config: ModelConfig) -> int:
    """The weights of a model that is built without memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Transformer(config).parameters())


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_dense_sizes_have_their_published_counts(size):
    counted = parameters(SIZES[size])
    found = counted.total, counted.non_embedding, cache_bytes_per_token(SIZES[size])
    assert found == PUBLISHED[size]
    assert counted.active == counted.total


def test_the_mixtures_have_their_published_counts():
    small, large = parameters(SIZES["a2.7b"]), parameters(SIZES["57b-a14b"])
    assert round(small.total / 1e9, 3) == 14.316 and round(small.active / 1e9, 2) == 2.69
    assert round(large.total / 1e9, 2) == 57.41 and round(large.active / 1e9, 2) == 14.25


@pytest.mark.parametrize("size", SIZES)
def test_arithmetic_counts_what_the_model_holds(size):
    assert parameters(SIZES[size]).total == built(SIZES[size])


@pytest.mark.parametrize("size", FILES)
def test_the_published_config_json_describes_the_same_model(shared, size):
    raw = json.loads((shared / "configs" / f"{FILES[size]}.config.json").read_text())
    config = ModelConfig.from_dict(raw)
    assert parameters(config) == parameters(SIZES[size])
    assert ModelConfig.from_dict(config.to_dict()) == config
    for key, value in config.to_dict().items():
        if key in raw:
            assert raw[key] == value, key


def test_flops_follow_the_formula_of_a_model_counted_by_hand():
    config = ModelConfig(
        vocab_size=10, hidden_size=4, intermediate_size=6, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    matrices = 2 * (2 * 4 * 4 + 2 * 4 * 2 + 3 * 4 * 6) + 10 * 4
    # Causal attention over 8 tokens: scores and values of (8 + 1) / 2, here 8 / 2, keys each.
    scores = 2 * 2 * 2 * 4 * 8 / 2
    assert flops_per_token(config, 8) == 3 * (2 * matrices + scores)
