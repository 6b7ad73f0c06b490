"""A choice that is made once: for recomputed activations, and given from outside."""

import copy
from functools import partial

import pytest
import torch

from baiwen.model.moe import MoE
from baiwen.model.routing import choose, kept_as

TOKENS = torch.arange(18).view(2, 9)


def gates(mixture):
    return [block.mlp.gate for block in mixture.model.layers if isinstance(block.mlp, MoE)]


def gradients(mixture, tokens=TOKENS, **given):
    out = mixture(tokens, **given)
    loss = out.hidden.square().sum() + out.routing.sums.probs.square().sum()
    return out.routing, torch.autograd.grad(loss, list(mixture.parameters()), allow_unused=True)


def fickle(gate, seen):
    """The logits of this router turn round from its second forward pass on: others would win."""

    def turn(_module, _input, logits):
        seen.append(logits)
        return -logits if len(seen) > 1 else logits

    return gate.register_forward_hook(turn)


def test_recomputed_activations_have_the_gradients_of_kept_ones(mixture):
    kept = gradients(mixture)[1]
    mixture.checkpoint_blocks = True
    again = gradients(mixture)[1]
    for one, other in zip(kept, again, strict=True):
        assert one is other is None or torch.equal(one, other)


def test_a_recomputation_that_would_choose_otherwise_takes_the_first_choice(mixture):
    """One token: the two experts it went to have gradients, and no others."""
    mixture.checkpoint_blocks = True
    seen: list = []
    fickle(gates(mixture)[0], seen)
    routing, found = gradients(mixture, TOKENS[:1, :1])
    assert len(seen) == 2, "it was computed twice"
    assert not set(choose(-seen[0], 2)[0].tolist()) & set(routing.experts[0].flatten().tolist())
    grads = dict(zip(dict(mixture.named_parameters()), found, strict=True))
    got = grads["model.layers.0.mlp.experts.down_proj"].flatten(1).abs().sum(1) > 0
    assert torch.equal(got, routing.sums.counts[0] > 0)


def test_a_given_choice_is_taken_and_told(mixture):
    free = gradients(mixture)[0].experts
    other = (free + 1) % 6
    routing = gradients(mixture, chosen=other)[0]
    assert torch.equal(routing.experts, other)
    assert free.shape == (2, 2, 9, 2)
    counted = [torch.bincount(layer.flatten(), minlength=6) for layer in other]
    assert torch.equal(routing.sums.counts, torch.stack(counted).to(routing.sums.counts.dtype))


def test_its_own_choice_given_back_changes_nothing(mixture):
    routing, free = gradients(mixture)
    again, given = gradients(mixture, chosen=routing.experts)
    assert torch.equal(again.sums.probs, routing.sums.probs)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(free, given, strict=True))


def test_where_no_choice_is_known_the_router_makes_its_own(mixture):
    free = mixture(TOKENS).routing.experts
    part = (free + 1) % 6
    part[:, :, 4:] = torch.iinfo(part.dtype).max
    found = mixture(TOKENS, chosen=part).routing.experts
    assert torch.equal(found[:, :, :4], part[:, :, :4])
    assert torch.equal(found[0, :, 4:], free[0, :, 4:])  # what the next layer sees has changed


def test_the_weights_of_a_given_choice_are_those_of_the_routers_own_probabilities(mixture):
    moe = copy.deepcopy(mixture.model.layers[0].mlp)
    x, chosen = torch.randn(1, 5, 32), torch.randint(0, 6, (1, 5, 1)).expand(1, 5, 2).clone()
    chosen[..., 1] = (chosen[..., 0] + 1) % 6
    wanted = torch.zeros(1, 5, 32)
    probs = moe.gate(x).softmax(-1)
    for token in range(5):
        for expert in chosen[0, token].tolist():
            gate, up = moe.experts.gate_proj[expert], moe.experts.up_proj[expert]
            row = x[0, token]
            hidden = torch.nn.functional.silu(gate @ row) * (up @ row)
            wanted[0, token] += probs[0, token, expert] * (moe.experts.down_proj[expert] @ hidden)
    wanted += torch.sigmoid(moe.shared_expert_gate(x)) * moe.shared_expert(x)
    torch.testing.assert_close(moe(x, chosen=chosen)[0], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("experts", "dtype"), [(255, torch.uint8), (256, torch.int16)])
def test_choices_are_kept_in_bytes_as_far_as_these_have_a_number_to_spare(experts, dtype):
    assert kept_as(experts) == dtype
    assert torch.iinfo(dtype).max >= experts


def test_without_gradients_the_choice_alone_is_told(mixture):
    told = mixture(TOKENS).routing
    with torch.no_grad():
        found = mixture(TOKENS).routing
    assert found.sums is None
    assert torch.equal(found.experts, told.experts)


def test_the_entropy_is_that_of_the_probabilities(mixture):
    logits = []
    for gate in gates(mixture):
        gate.register_forward_hook(partial(lambda out, *given: out.append(given[-1]), logits))
    routing = mixture(TOKENS).routing
    wanted = [torch.distributions.Categorical(logits=one).entropy().sum() for one in logits]
    torch.testing.assert_close(routing.sums.entropy, torch.stack(wanted))
