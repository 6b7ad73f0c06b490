import dataclasses
import weakref

import pytest
import torch

from baiwen import files
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.model.upcycle import Upcycle, moe_config, upcycled

DENSE = ModelConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    torch_dtype="float32",
)
TOKENS = torch.arange(20).view(2, 10)


@pytest.fixture(scope="module")
def dense():
    model = Transformer(DENSE)
    model.init_weights(0)
    for name, parameter in model.named_parameters():  # outputs that a feed-forward changes a lot
        if ".mlp." in name:
            parameter.data *= 10
    return model


def mixture(dense, **knobs):
    knobs = Upcycle(**knobs)
    model = Transformer(moe_config(DENSE, knobs))
    model.load_state_dict(dict(upcycled(dense.state_dict().items(), DENSE, knobs)))
    return model


def even(model):
    for name, parameter in model.named_parameters():
        if name.endswith(".mlp.gate.weight"):
            parameter.data.zero_()
    return model


@pytest.mark.parametrize("start", ["shuffled", "copied"])
@pytest.mark.parametrize("normalised", [False, True])
def test_without_noise_and_with_all_experts_on_outputs_are_the_dense_models(
    dense, start, normalised
):
    """Six experts of 16 are two whole copies, three shared ones another."""
    knobs = {"experts": 6, "top_k": 6, "expert_size": 16, "shared": 3, "fresh": 0.0}
    model = even(mixture(dense, **knobs, start=start, normalised=normalised))
    torch.testing.assert_close(model.logits(TOKENS), dense.logits(TOKENS))


def test_a_preserved_start_is_the_dense_model_whatever_the_router_says(dense):
    knobs = {"experts": 6, "top_k": 2, "expert_size": 24, "shared": 3, "start": "preserved"}
    torch.testing.assert_close(mixture(dense, **knobs).logits(TOKENS), dense.logits(TOKENS))


def test_each_expert_is_a_slice_of_the_dense_layer_alike_in_gate_up_and_down(dense):
    model = mixture(dense, experts=6, top_k=2, expert_size=16, shared=1, fresh=0.0, scaled=False)
    own, layer = dense.model.layers[1].mlp, model.model.layers[1].mlp
    seen = []
    for expert in range(6):
        gate = layer.experts.gate_proj[expert]
        places = [int((own.gate_proj.weight == row).all(1).nonzero()) for row in gate]
        assert torch.equal(layer.experts.up_proj[expert], own.up_proj.weight[places])
        assert torch.equal(layer.experts.down_proj[expert], own.down_proj.weight[:, places])
        seen += places
    assert sorted(seen[:48]) == sorted(seen[48:]) == list(range(48))  # two whole copies
    assert seen[:48] != seen[48:]


@pytest.mark.parametrize("by", ["rows", "elements"])
def test_half_of_an_expert_is_drawn_anew(dense, by):
    shape = {"experts": 4, "top_k": 2, "expert_size": 24, "shared": 1, "scaled": False}
    drawn, plain = (
        mixture(dense, **shape, fresh=fresh, fresh_by=by).model.layers[0].mlp.experts.up_proj
        for fresh in (0.5, 0.0)
    )
    changed = drawn != plain
    assert changed.double().mean().item() == pytest.approx(0.5, abs=0 if by == "rows" else 0.05)
    assert drawn[changed].std().item() == pytest.approx(0.02, rel=0.1)
    if by == "rows":
        assert set(changed.double().mean(-1).flatten().tolist()) == {0.0, 1.0}


def test_the_folder_loads_in_transformers_with_the_same_logits(dense, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = mixture(dense, experts=6, top_k=2, expert_size=24, shared=2)
    with files.writing_folder(tmp_path / "moe") as folder:
        weights.save(model.state_dict(), model.config, folder)
    theirs = transformers.Qwen2MoeForCausalLM.from_pretrained(tmp_path / "moe")
    with torch.no_grad():
        torch.testing.assert_close(
            model.logits(TOKENS), theirs(TOKENS).logits, atol=1e-4, rtol=1e-4
        )


def test_one_tensor_of_the_dense_model_is_held_at_a_time(dense):
    seen = []

    def tensors():
        for name, tensor in dense.state_dict().items():
            copy = tensor.clone()
            seen.append(weakref.ref(copy))
            yield name, copy

    knobs = Upcycle(experts=4, top_k=2, expert_size=16, shared=1)
    held = [sum(one() is not None for one in seen) for _ in upcycled(tensors(), DENSE, knobs)]
    assert max(held) == 1


def test_the_same_seed_makes_the_same_mixture_in_any_order_of_tensors(dense):
    knobs = Upcycle(experts=4, top_k=2, expert_size=16, shared=1)
    tensors = list(dense.state_dict().items())
    first, again = (
        dict(upcycled(tensors, DENSE, knobs)),
        dict(upcycled(tensors[::-1], DENSE, knobs)),
    )
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"experts": 4, "top_k": 5, "expert_size": 8, "shared": 1}, "cannot choose 5 of 4"),
        ({"experts": 4, "top_k": 2, "expert_size": 8}, "always has a shared expert"),
        ({"experts": 4, "top_k": 2, "expert_size": 8, "shared": 1, "fresh": 2.0}, "fresh is 2.0"),
        ({"experts": 4, "top_k": 2, "expert_size": 8, "shared": 1, "std": -0.1}, "std is -0.1"),
        (
            {"experts": 4, "top_k": 2, "expert_size": 8, "shared": 1, "start": "preserved"},
            "holds the dense layer",
        ),
    ],
)
def test_what_does_not_fit_is_told(knobs, told):
    with pytest.raises(UserError, match=told):
        moe_config(DENSE, Upcycle(**knobs))


def test_a_mixture_is_not_upcycled_again(dense):
    knobs = Upcycle(experts=4, top_k=2, expert_size=8, shared=1)
    with pytest.raises(UserError, match="only a dense language model"):
        moe_config(dataclasses.replace(moe_config(DENSE, knobs)), knobs)
