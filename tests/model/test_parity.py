"""Our logits and folders against those of transformers, both ways."""

import json
import os
import random
from dataclasses import replace

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from baiwen.model import rope, weights
from baiwen.model.config import ModelConfig
from baiwen.model.positions import Yarn
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer

TOLERANCE = 1e-4


def draw(rng: random.Random) -> dict:
    """A random small dense configuration."""
    kv_heads = rng.choice([1, 2, 4])
    heads = kv_heads * rng.choice([1, 2, 3])
    return {
        "vocab_size": rng.randint(40, 200),
        "hidden_size": heads * rng.choice([8, 16]),
        "intermediate_size": rng.choice([40, 64, 100]),
        "num_hidden_layers": rng.randint(1, 3),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": rng.choice([1e-6, 1e-5]),
        "rope_theta": rng.choice([1e4, 1e6]),
        "tie_word_embeddings": rng.random() < 0.5,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


def draw_moe(rng: random.Random) -> dict:
    """A random small mixture of experts, some layers dense."""
    dense = draw(rng)
    experts = rng.choice([4, 6])
    return dense | {
        "num_hidden_layers": 3,
        "num_experts": experts,
        "num_experts_per_tok": rng.randint(1, 3),
        "moe_intermediate_size": rng.choice([16, 40]),
        "shared_expert_intermediate_size": rng.choice([24, 60]),
        "norm_topk_prob": rng.random() < 0.5,
        "decoder_sparse_step": rng.choice([1, 2]),
        "mlp_only_layers": rng.choice([[], [0], [2]]),
    }


def theirs(values: dict, seed: int):
    """A randomly initialised model of transformers; biases and norms are random too."""
    torch.manual_seed(seed)
    moe = "num_experts" in values
    config = (Qwen2MoeConfig if moe else Qwen2Config)(**values)
    model = (Qwen2MoeForCausalLM if moe else Qwen2ForCausalLM)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def assert_same_logits(ours: Transformer, other, vocab_size: int) -> None:
    tokens = torch.randint(0, vocab_size, (2, 33), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            ours.logits(tokens), other(tokens).logits, atol=TOLERANCE, rtol=TOLERANCE
        )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("form", [draw, draw_moe])
def test_a_folder_that_transformers_wrote_gives_the_same_logits(tmp_path, form, seed):
    values = form(random.Random(seed))
    other = theirs(values, seed)
    other.save_pretrained(tmp_path, max_shard_size="40KB")
    assert_same_logits(weights.load(tmp_path), other, values["vocab_size"])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("form", [draw, draw_moe])
def test_a_folder_written_here_loads_there_whole_and_continues_alike(tmp_path, form, seed):
    values = form(random.Random(seed))
    moe = "num_experts" in values
    architecture = "Qwen2MoeForCausalLM" if moe else "Qwen2ForCausalLM"
    config = ModelConfig.from_dict(values | {"architectures": [architecture]})
    ours = Transformer(config)
    ours.init_weights(seed)
    weights.save(ours.state_dict(), config, tmp_path, shard_bytes=40_000)
    other, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same_logits(ours, other, config.vocab_size)
    prompt = torch.randint(0, config.vocab_size, (1, 5))
    continued = other.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=None)
    for place in range(5, 17):
        assert ours.logits(continued[:, :place])[0, -1].argmax() == continued[0, place]


@pytest.mark.parametrize("scaling", ["type", "rope_type"])
@pytest.mark.parametrize("original", [16, None])
def test_yarn_gives_the_logits_of_transformers(tmp_path, scaling, original):
    values = draw(random.Random(5)) | {"rope_scaling": {scaling: "yarn", "factor": 4.0}}
    if original is not None:
        values["rope_scaling"]["original_max_position_embeddings"] = original
    other = theirs(values, 0)
    other.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    theta = raw.pop("rope_parameters")["rope_theta"]  # the older spelling, as users write it
    raw |= {"rope_theta": theta, "rope_scaling": values["rope_scaling"]}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    ours = weights.load(tmp_path)
    assert ours.config.rope_scaling.factor == 4.0
    assert_same_logits(ours, other, values["vocab_size"])
    again = tmp_path / "again"
    again.mkdir()
    weights.save(ours.state_dict(), ours.config, again)
    assert_same_logits(ours, AutoModelForCausalLM.from_pretrained(again), values["vocab_size"])


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_a_million_tokens_on_angles_are_the_fp32_ones_that_models_are_trained_with(factor):
    """The exact ones are up to 0.03 away: an angle near a million has 4 bits behind the point."""
    scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": 32_768}
    shape = {"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4}
    theirs = Qwen2RotaryEmbedding(
        Qwen2Config(**shape, rope_parameters=scaling | {"rope_theta": 1e7})
    )
    config = replace(SIZES["7b"], rope_theta=1e7, rope_scaling=Yarn(factor, 32_768))
    places = torch.arange(0, 1_010_000, 997)[None]
    cosine, sine = theirs(torch.zeros(1), places)
    found = rope.tables(config, places)
    torch.testing.assert_close(found[0][:, :, 0], cosine, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1][:, :, 0, 64:], sine[..., 64:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(SIZES.keys() - {"micro", "tiny", "tiny-moe"}))
def test_the_published_shapes_cut_to_two_layers_agree(shared, name):
    """A published config.json with two narrow layers: heads, ratios, eps and ties stay."""
    files = {size: f"Qwen2.5-{size.upper()}-Instruct.config.json" for size in SIZES}
    files |= {"a2.7b": "Qwen1.5-MoE-A2.7B.config.json", "57b-a14b": "Qwen2-57B-A14B.config.json"}
    raw = json.loads((shared / "configs" / files[name]).read_text())
    heads = raw["num_attention_heads"]
    raw |= {"num_hidden_layers": 2, "vocab_size": 256, "hidden_size": heads * 16}
    raw |= {"intermediate_size": 128, "bos_token_id": 0, "eos_token_id": 0}
    if "num_experts" in raw:
        raw |= {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 64}
    ours = Transformer(ModelConfig.from_dict(raw))
    ours.init_weights(0)
    kind = raw.pop("model_type")
    other = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **raw)).float().eval()
    missing, unexpected = other.load_state_dict(_as_theirs(ours), strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if raw["tie_word_embeddings"] else [])
    assert_same_logits(ours, other, 256)


def _as_theirs(model: Transformer) -> dict:
    """Our state dict with the experts' gate and up joined, as transformers keeps them."""
    state = dict(model.state_dict())
    for name in [name for name in state if name.endswith("experts.gate_proj")]:
        gate, up = state.pop(name), state.pop(name.replace("gate_proj", "up_proj"))
        state[name.replace("gate_proj", "gate_up_proj")] = torch.cat([gate, up], dim=1)
    return state
