"""The whole model: packing, initialisation, checkpointing, cache."""

from dataclasses import replace

import pytest
import torch

from baiwen.errors import UserError
from baiwen.model.cache import Cache
from baiwen.model.config import ModelConfig
from baiwen.model.documents import Documents
from baiwen.model.transformer import Transformer

DENSE = ModelConfig(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2,
)  # fmt: skip
MOE = replace(
    DENSE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
    shared_expert_intermediate_size=24,
)  # fmt: skip


def build(config: ModelConfig) -> Transformer:
    model = Transformer(replace(config, initializer_range=0.3))  # small models need large weights
    model.init_weights(0)
    return model


def draw(*shape: int) -> torch.Tensor:
    return torch.randint(0, 96, shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("config", [DENSE, MOE])
def test_packed_documents_are_what_each_is_alone(config):
    model, tokens, lengths = build(config), draw(2, 20), [[4, 9, 7], [15, 5]]
    packed = model(tokens, documents=Documents.of(lengths)).hidden
    alone = [
        model(document[None]).hidden[0]
        for row, cut in zip(tokens, lengths, strict=True)
        for document in row.split(cut)
    ]
    torch.testing.assert_close(packed.flatten(0, 1), torch.cat(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", [DENSE, MOE])
def test_recomputing_blocks_changes_no_gradient(config):
    gradients = []
    for recompute in (False, True):
        model = build(config)
        model.checkpoint_blocks = recompute
        model.logits(draw(2, 12)).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


def test_initial_weights_follow_the_seed():
    one, same, other = Transformer(DENSE), Transformer(DENSE), Transformer(DENSE)
    for model, seed in ((one, 1), (same, 1), (other, 2)):
        model.init_weights(seed)
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(one.get_parameter(name), same.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))
    assert one.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.1)
    assert (one.get_parameter("model.norm.weight") == 1).all()
    assert (one.get_parameter("model.layers.0.self_attn.q_proj.bias") == 0).all()


def test_a_tied_head_is_the_embedding():
    model = build(replace(DENSE, tie_word_embeddings=True))
    assert model(draw(1, 3)).head is model.model.embed_tokens.weight
    assert not any(name.startswith("lm_head") for name in model.state_dict())


def test_the_residual_stream_stays_fp32_under_autocast():
    model, seen = build(DENSE), []
    model.model.norm.register_forward_pre_hook(lambda _module, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(draw(1, 4))
    assert seen == [torch.float32]


def test_dual_chunk_models_refuse_what_plain_attention_gets_wrong():
    model = build(
        replace(DENSE, dual_chunk_attention_config={"original_max_position_embeddings": 8})
    )
    model(draw(1, 8))
    model(draw(1, 12), documents=Documents.of([[8, 4]]))
    with pytest.raises(UserError, match="9 tokens needs dual chunk attention"):
        model(draw(1, 9))
    cache = Cache.build(model.config, 1, 12, "cpu", torch.float32)
    model(draw(1, 8), cache=cache)
    with pytest.raises(UserError, match="9 tokens"):
        model(draw(1, 1), cache=cache)


@pytest.mark.parametrize("config", [DENSE, MOE])
@pytest.mark.parametrize("pieces", [[6, 1, 1, 1, 1, 1, 1], [5, 4, 3]])
def test_a_cached_forward_in_pieces_is_the_whole_forward(config, pieces):
    model, tokens = build(config), draw(3, 12)
    cache = Cache.build(config, 3, 12, "cpu", torch.float32)
    found = [model(piece, cache=cache).hidden for piece in tokens.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(found, 1), model(tokens).hidden, atol=1e-5, rtol=1e-4)


def test_a_model_that_recomputes_blocks_still_has_a_cache():
    model, tokens = build(DENSE), draw(1, 6)
    model.checkpoint_blocks = True
    cache = Cache.build(DENSE, 1, 6, "cpu", torch.float32)
    found = torch.cat([model(piece, cache=cache).hidden for piece in tokens.split([4, 2], 1)], 1)
    torch.testing.assert_close(found, model(tokens).hidden, atol=1e-5, rtol=1e-4)


def test_rows_of_different_lengths_share_a_cache():
    model, tokens, lengths = build(DENSE), draw(3, 9), torch.tensor([9, 4, 6])
    more = draw(2, 3)
    cache = Cache.build(DENSE, 3, 12, "cpu", torch.float32)
    model(tokens, cache=cache)
    cache.truncate(lengths)
    cache.keep(torch.tensor([1, 2]))
    found = torch.cat([model(more[:, i : i + 1], cache=cache).hidden for i in range(3)], dim=1)
    for row, length in ((1, 4), (2, 6)):
        whole = torch.cat([tokens[row, :length], more[row - 1]])[None]
        expected = model(whole).hidden[0, length:]
        torch.testing.assert_close(found[row - 1], expected, atol=1e-5, rtol=1e-4)


def test_a_full_cache_says_so():
    cache = Cache.build(DENSE, 1, 4, "cpu", torch.float32)
    with pytest.raises(UserError, match="holds 4 tokens"):
        build(DENSE)(draw(1, 5), cache=cache)
