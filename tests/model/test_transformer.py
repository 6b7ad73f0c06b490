"""The whole model: packing, initialisation, checkpointing, cache."""

from dataclasses import replace

import pytest
import torch

from baiwen.model.config import ModelConfig
from baiwen.model.documents import Documents
from baiwen.model.layout import Layout
from baiwen.model.paged import PagedCache, Step
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


def test_shapes_come_without_memory():
    with torch.device("meta"):
        hidden = Transformer(DENSE)(torch.zeros(2, 5, dtype=torch.long)).hidden
    assert hidden.shape == (2, 5, 32)


def test_positions_may_be_those_of_one_row():
    model, tokens = build(DENSE), draw(3, 6)
    found = model(tokens, positions=torch.arange(6)[None]).hidden
    assert torch.equal(found, model(tokens).hidden)


def in_pieces(model, tokens, pieces, cache):
    """The hidden states of rows [B, T] that are read in pieces, each row over blocks of its own."""
    rows, length = tokens.shape
    blocks = torch.randperm(len(cache.slabs[0, 0]), generator=torch.Generator().manual_seed(0))
    tables = blocks[: rows * -(-length // 4)].view(rows, -1).to(torch.int32).numpy()
    found, done = [], 0
    for piece in tokens.split(pieces, dim=1):
        count = piece.shape[1]
        layout = Layout.of(tables, [done] * rows, [count] * rows, 4, "cpu")
        out = model(piece.reshape(1, -1), cache=Step(cache, layout)).hidden
        found.append(out.view(rows, count, -1))
        done += count
    return torch.cat(found, 1)


@pytest.mark.parametrize("config", [DENSE, MOE])
@pytest.mark.parametrize("pieces", [[6, 1, 1, 1, 1, 1, 1], [5, 4, 3], [12]])
def test_a_cached_forward_in_pieces_is_the_whole_forward(config, pieces):
    model, tokens = build(config), draw(3, 12)
    cache = PagedCache(config, blocks=11, block_size=4, device="cpu", dtype=torch.float32)
    found = in_pieces(model, tokens, pieces, cache)
    torch.testing.assert_close(found, model(tokens).hidden, atol=1e-5, rtol=1e-4)


def test_a_model_that_recomputes_blocks_still_has_a_cache():
    model, tokens = build(DENSE), draw(1, 8)
    model.checkpoint_blocks = True
    cache = PagedCache(DENSE, blocks=2, block_size=4, device="cpu", dtype=torch.float32)
    found = in_pieces(model, tokens, [5, 3], cache)
    torch.testing.assert_close(found, model(tokens).hidden, atol=1e-5, rtol=1e-4)
