"""A reward model is its language model's decoder and two layers, in the published form."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Model

from baiwen.errors import UserError
from baiwen.model import count, weights
from baiwen.model.config import ModelConfig
from baiwen.model.documents import Documents
from baiwen.model.reward import RewardModel
from baiwen.model.transformer import Transformer

DENSE = ModelConfig(
    vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, initializer_range=0.3,
)  # fmt: skip
TIED = replace(DENSE, tie_word_embeddings=True)
MOE = replace(
    DENSE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8,
    shared_expert_intermediate_size=16,
)  # fmt: skip
HEAD = {"score.0.weight": (16, 16), "score.0.bias": (16,)} | {
    "score.2.weight": (1, 16),
    "score.2.bias": (1,),
}
TOKENS = torch.randint(0, 64, (1, 12), generator=torch.Generator().manual_seed(0))
DOCUMENTS = Documents.of([[5, 4, 3]])


def language_model(config):
    model = Transformer(config)
    model.init_weights(0)
    return model


def build(config, seed=1):
    return RewardModel.on(language_model(config), seed)


def write(folder, model, **knobs):
    weights.save(model.state_dict(), model.config, folder, **knobs)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, build(DENSE))
    return tmp_path


@pytest.mark.parametrize("config", [DENSE, TIED, MOE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shard_bytes", [4_000, 5_000_000])
def test_what_is_saved_is_what_is_loaded(tmp_path, config, dtype, shard_bytes):
    model = build(config).to(dtype)
    write(tmp_path, model, shard_bytes=shard_bytes)
    loaded = weights.load_reward(tmp_path)
    assert loaded.config == replace(model.config, torch_dtype=str(dtype).removeprefix("torch."))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    scores = loaded(TOKENS, documents=DOCUMENTS).documents
    assert torch.equal(scores, model(TOKENS, documents=DOCUMENTS).documents)


@pytest.mark.parametrize(("config", "kind"), [(TIED, "Qwen2"), (MOE, "Qwen2Moe")])
def test_the_folder_names_its_class_and_holds_the_published_tensors(tmp_path, config, kind):
    write(tmp_path, build(config))
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["architectures"] == [f"{kind}ForRewardModel"] and "reward" not in written
    tensors = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in tensors and "model.embed_tokens.weight" in tensors
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if "score" in name}
    assert found == HEAD


def test_the_decoder_in_transformers_with_the_head_gives_the_same_rewards(folder):
    peer = Qwen2Model.from_pretrained(folder).eval()
    tensors = load_file(folder / "model.safetensors")
    first, second = (torch.nn.Linear(16, size) for size in (16, 1))
    for layer, name in ((first, "score.0"), (second, "score.2")):
        layer.load_state_dict({k: tensors[f"{name}.{k}"] for k in ("weight", "bias")})
    with torch.no_grad():
        theirs = [
            second(torch.relu(first(peer(part).last_hidden_state[0, -1])))[0]
            for part in TOKENS.split([5, 4, 3], dim=1)
        ]
    ours = weights.load_reward(folder)(TOKENS, documents=DOCUMENTS).documents
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-5, atol=1e-6)


def test_a_head_of_the_language_model_in_the_files_is_not_read(folder):
    """vLLM's loader skips it too."""
    file = folder / "model.safetensors"
    wanted = weights.load_reward(folder).state_dict()
    save_file({**load_file(file), "lm_head.weight": torch.full((64, 16), 9.0)}, file)
    assert weights.load_reward(folder).state_dict().keys() == wanted.keys()


def test_a_folder_without_a_tensor_of_the_head_is_refused_by_name(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["score.2.bias"]
    save_file(tensors, file)
    with pytest.raises(UserError, match=r"lacks score\.2\.bias"):
        weights.load_reward(folder)


def test_each_kind_of_model_is_refused_where_the_other_is_asked_for(folder, tmp_path):
    with pytest.raises(UserError, match=r"is a reward model \(Qwen2ForRewardModel\): it scores"):
        weights.load(folder)
    with pytest.raises(UserError, match="is a reward model"):
        next(weights.stream(folder))
    write(tmp_path / "language", language_model(DENSE))
    with pytest.raises(UserError, match=r"is a language model \(Qwen2ForCausalLM\), which has no"):
        weights.load_reward(tmp_path / "language")


def test_the_decoder_is_that_of_the_language_model_and_the_head_follows_from_the_seed():
    model = language_model(DENSE)
    one, same, other = (RewardModel.on(model, seed) for seed in (1, 1, 2))
    assert one.model is model.model
    assert torch.equal(one.score[0].weight, same.score[0].weight)
    assert not torch.equal(one.score[0].weight, other.score[0].weight)
    assert not one.score[0].bias.any() and not one.score[2].bias.any()
    assert all(parameter.requires_grad for parameter in one.parameters())


@pytest.mark.parametrize("config", [DENSE, TIED, MOE])
def test_parameters_are_counted_exactly(config):
    model = build(config)
    found = count.parameters(model.config)
    assert found.total == sum(parameter.numel() for parameter in model.parameters())
    assert found.matmul == count.parameters(config).matmul - 64 * 16  # no head over the vocabulary


def test_rows_without_documents_are_scored_at_their_ends():
    model = build(DENSE)
    rows = TOKENS.view(2, 6)
    found = model(rows).documents
    packed = model(TOKENS, documents=Documents.of([[6, 6]])).documents
    torch.testing.assert_close(found, packed)


def test_answers_that_share_a_prompt_score_as_they_do_alone():
    model = build(DENSE)
    prompt, first, second = TOKENS.split([5, 4, 3], dim=1)
    tree = model(TOKENS, documents=Documents.of([[5, 4, 3]], trunks=[[-1, 0, 0]])).documents
    alone = [model(torch.cat([prompt, answer], 1)).documents for answer in (first, second)]
    torch.testing.assert_close(tree[1:], torch.cat(alone), rtol=1e-5, atol=1e-6)


def test_rewards_are_fp32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert build(DENSE)(TOKENS, documents=DOCUMENTS).documents.dtype == torch.float32
