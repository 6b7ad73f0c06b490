"""config.json: what is read, and what is refused with a word on why."""

import math

import pytest

from baiwen.errors import UserError
from baiwen.model.config import ModelConfig
from baiwen.model.positions import DualChunk, Yarn
from baiwen.model.sizes import SIZES

RAW = SIZES["0.5b"].to_dict()
MOE = SIZES["a2.7b"].to_dict()
CHUNKS = {"chunk_size": 8, "local_size": 2, "original_max_position_embeddings": 8}

REFUSED = [
    ({"architectures": ["LlamaForCausalLM"]}, "not ours"),
    ({"architectures": None}, "not ours"),
    ({"model_type": "qwen2_moe"}, "contradicts"),
    ({"hidden_act": "gelu"}, "hidden_act"),
    ({"use_sliding_window": True}, "use_sliding_window"),
    ({"layer_types": ["sliding_attention"]}, "use_sliding_window"),
    ({"attention_dropout": 0.1}, "attention_dropout"),
    ({"quantization_config": {"bits": 4}}, "bf16 release"),
    ({"use_mrope": True}, "use_mrope"),
    ({"head_dim": 80}, "head_dim"),
    ({"num_attention_heads": 15}, "not a multiple"),
    ({"num_key_value_heads": 4}, "not a multiple"),
    ({"num_hidden_layers": 0}, "above 0"),
    ({"rope_theta": 0}, "above 0"),
    ({"rope_theta": math.inf}, "rope_theta = inf must be a number above 0"),
    ({"rms_norm_eps": math.nan}, "rms_norm_eps = nan must be a number above 0"),
    ({"max_position_embeddings": 0}, "above 0"),
    ({"eos_token_id": "<|im_end|>"}, "eos_token_id = .* must be of type int"),
    ({"rope_scaling": [4.0]}, "rope_scaling = .* must be an object"),
    ({"layer_types": 24}, "use_sliding_window"),
    ({"dual_chunk_attention_config": 8}, "dual_chunk_attention_config = 8 must be an object"),
    ({"hidden_size": "896"}, "must be of type int"),
    ({"rms_norm_eps": True}, "must be of type float"),
    ({"torch_dtype": "float8"}, "torch_dtype"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
    ({"rope_scaling": {"factor": 2.0}}, "unknown"),
    ({"rope_scaling": {"type": "yarn"}}, "factor"),
    ({"rope_scaling": {"type": "yarn", "factor": -4}}, "above 0"),
    (
        {"rope_scaling": {"type": "yarn", "factor": math.nan}},
        "nan must be a number above 0",
    ),
    (
        {"rope_scaling": {"type": "yarn", "factor": 4}, "max_position_embeddings": None},
        "needs factor and original_max_position_embeddings",
    ),
    ({"rope_parameters": "yarn"}, "rope_parameters = 'yarn' must be an object"),
    ({"rope_scaling": {"type": "yarn", "factor": 4, "mscale": 2.0}}, "mscale"),
    ({"rope_scaling": {"type": "yarn", "factor": 0.5}}, "factor = 0.5 is below 1"),
    ({"dual_chunk_attention_config": {"chunk_size": 8}}, "needs chunk_size, local_size, original"),
    ({"dual_chunk_attention_config": CHUNKS | {"local": 2}}, "it holds .*, local$"),
    ({"dual_chunk_attention_config": CHUNKS | {"chunk_size": "8"}}, "chunk_size = '8' must be"),
    ({"dual_chunk_attention_config": CHUNKS | {"local_size": True}}, "local_size = True must be"),
    ({"dual_chunk_attention_config": CHUNKS | {"local_size": 0}}, "local_size = 0 must be"),
    ({"dual_chunk_attention_config": CHUNKS | {"local_size": 8}}, "8 is not above local_size = 8"),
    ({"dual_chunk_attention_config": CHUNKS | {"cap": "tight"}}, "cap = 'tight' .* code, paper"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED)
def test_what_is_not_built_is_refused_by_name(change, reason):
    with pytest.raises(UserError, match=reason) as caught:
        ModelConfig.from_dict(RAW | change, "here/config.json")
    assert "here/config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_experts": 0}, "num_experts is missing"),
        ({"num_experts": None}, "num_experts is missing"),
        ({"num_experts": -1}, "between 1 and num_experts = -1"),
        ({"num_experts_per_tok": 61}, "num_experts_per_tok"),
        ({"moe_intermediate_size": 100}, "multiples of 8"),
        ({"qkv_bias": False}, "qkv_bias"),
        ({"mlp_only_layers": 3}, "mlp_only_layers = 3 must be of type tuple"),
    ],
)
def test_a_mixture_that_is_not_built_is_refused_by_name(change, reason):
    with pytest.raises(UserError, match=reason):
        ModelConfig.from_dict(MOE | change)


@pytest.mark.parametrize("raw", [RAW, MOE])
def test_a_field_of_any_type_is_read_or_refused_but_breaks_nothing(raw):
    others = ("rope_scaling", "rope_parameters", "layer_types", "dual_chunk_attention_config")
    for name in (*raw, *others):
        for value in ("x", -1, 0, [], {}, None, 1.5, True, ["x"], [[1]], {"a": 1}, 10**30):
            try:
                config = ModelConfig.from_dict(raw | {name: value})
            except UserError as error:
                assert "config.json" in str(error)
            else:
                config.sparse(1), config.to_dict()


def test_an_absent_rope_theta_is_that_of_transformers():
    assert ModelConfig.from_dict(RAW | {"rope_theta": None}).rope_theta == 10_000.0


def test_a_missing_field_is_named():
    raw = {key: value for key, value in RAW.items() if key != "intermediate_size"}
    with pytest.raises(UserError, match="intermediate_size is missing"):
        ModelConfig.from_dict(raw)


def test_unknown_keys_and_an_inactive_window_are_ignored():
    extra = {"sliding_window": 16, "max_window_layers": 2, "use_cache": False, "foo": 1}
    assert ModelConfig.from_dict(RAW | extra) == SIZES["0.5b"]


def test_default_rope_scaling_is_none():
    raw = RAW | {"rope_scaling": {"rope_type": "default"}}
    assert ModelConfig.from_dict(raw) == SIZES["0.5b"]


def test_a_rope_scaling_that_is_added_to_what_transformers_5_wrote_counts():
    raw = {key: value for key, value in RAW.items() if key != "rope_theta"}
    raw |= {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    assert ModelConfig.from_dict(raw).rope_scaling is None
    config = ModelConfig.from_dict(raw | {"rope_scaling": {"type": "yarn", "factor": 4.0}})
    assert (config.rope_theta, config.rope_scaling) == (5e5, Yarn(4.0, 32_768))


@pytest.mark.parametrize("size", SIZES)
def test_a_configuration_survives_its_file(size):
    assert ModelConfig.from_dict(SIZES[size].to_dict()) == SIZES[size]


def test_dual_chunks_are_read_without_what_vllm_keeps_beside_them_and_survive_their_file():
    beside = {"sparse_attention_enabled": True, "sparse_attention_last_q": 64}
    beside |= {"sparse_attention_config": {"0": {}}, "sparse_attention_threshold": 32768}
    for cap in ({}, {"cap": "code"}, {"cap": "paper"}):
        given = CHUNKS | cap
        config = ModelConfig.from_dict(RAW | {"dual_chunk_attention_config": given | beside})
        assert config.dual_chunk_attention_config == DualChunk(**given)
        assert ModelConfig.from_dict(config.to_dict()) == config
        written = config.to_dict()["dual_chunk_attention_config"]
        assert written == (given if cap == {"cap": "paper"} else CHUNKS)


def test_layers_are_sparse_by_step_and_exception():
    raw = MOE | {"decoder_sparse_step": 2, "mlp_only_layers": [3]}
    config = ModelConfig.from_dict(raw)
    assert [layer for layer in range(8) if config.sparse(layer)] == [1, 5, 7]
