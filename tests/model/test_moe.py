"""The mixture of experts against a loop, its balance loss against transformers and a formula."""

import pytest
import torch
import torch.nn.functional as F
from transformers.models.qwen2_moe.modeling_qwen2_moe import load_balancing_loss_func

from baiwen.model.documents import Documents
from baiwen.model.moe import MoE
from baiwen.model.routing import balance
from baiwen.model.transformer import Transformer


def by_loop(moe: MoE, x):
    """Every token through each of its experts, one at a time."""
    out = torch.zeros_like(x)
    probs = F.softmax(F.linear(x, moe.gate.weight), dim=-1)
    for row in range(len(x)):
        weights, experts = probs[row].topk(moe.top_k)
        if moe.renormalise:
            weights = weights / weights.sum()
        for weight, e in zip(weights, experts, strict=True):
            gate, up = moe.experts.gate_proj[e] @ x[row], moe.experts.up_proj[e] @ x[row]
            out[row] = out[row] + weight * (moe.experts.down_proj[e] @ (F.silu(gate) * up))
    return out + torch.sigmoid(moe.shared_expert_gate(x)) * moe.shared_expert(x)


@pytest.mark.parametrize("renormalise", [False, True])
def test_a_layer_and_its_gradients_equal_a_loop_over_tokens(mixture, renormalise):
    moe = mixture.model.layers[0].mlp
    moe.renormalise = renormalise
    x, weights = torch.randn(1, 7, 32, requires_grad=True), torch.randn(7, 32)
    parameters = [x, *moe.parameters()]
    ours, theirs = moe(x)[0][0], by_loop(moe, x[0])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    found = torch.autograd.grad((ours * weights).sum(), parameters)
    wanted = torch.autograd.grad((theirs * weights).sum(), parameters)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def router_logits(mixture: Transformer, tokens):
    """The logits of every router, by hooks."""
    logits = []
    hooks = [
        block.mlp.gate.register_forward_hook(lambda _module, _input, out: logits.append(out))
        for block in mixture.model.layers
        if isinstance(block.mlp, MoE)
    ]
    outputs = mixture(tokens)
    for hook in hooks:
        hook.remove()
    return tuple(logits), outputs.routing.sums


def test_the_balance_loss_is_that_of_transformers_in_the_mean_over_layers(mixture):
    logits, sums = router_logits(mixture, torch.randint(0, 64, (2, 9)))
    ours = balance(sums.counts, sums.probs, sums.tokens)
    shape = mixture.config.num_experts, mixture.config.num_experts_per_tok
    theirs = [load_balancing_loss_func((layer,), *shape) for layer in logits]
    torch.testing.assert_close(ours, torch.stack(theirs).mean())


def test_the_balance_loss_is_experts_times_the_sum_of_shares_times_probabilities(mixture):
    logits, sums = router_logits(mixture, torch.randint(0, 64, (2, 9)))
    probs = torch.stack([layer.softmax(-1) for layer in logits])  # [layers, tokens, experts]
    share = torch.zeros_like(probs).scatter(2, probs.topk(2).indices, 1.0).mean(1)
    expected = mixture.config.num_experts * (share * probs.mean(1)).sum(1).mean()
    torch.testing.assert_close(balance(sums.counts, sums.probs, sums.tokens), expected)
    squares = [layer.logsumexp(-1).square().sum() for layer in logits]
    torch.testing.assert_close(sums.z, torch.stack(squares))


def test_layers_that_make_up_for_each_other_are_not_balanced():
    """Each of two layers uses half of the experts, and together they use all alike."""
    counts = torch.tensor([[30.0, 30, 0, 0], [0, 0, 30, 30]])
    assert balance(counts, counts, 60.0).item() == pytest.approx(2)
    assert balance(counts + counts.flip(0), counts + counts.flip(0), 120.0).item() == 1


def test_perfect_balance_costs_k_and_a_collapsed_router_costs_e():
    even = torch.full((3, 6), 20.0)
    assert balance(2 * even, even, 120.0).item() == pytest.approx(2)
    collapsed = torch.zeros(3, 6)
    collapsed[:, 0] = 120
    assert balance(collapsed, collapsed, 120.0).item() == pytest.approx(6)


def test_the_record_is_a_sum_over_micro_batches(mixture):
    tokens = torch.randint(0, 64, (4, 9))
    whole, first, second = (mixture(part).routing.sums for part in (tokens, tokens[:1], tokens[1:]))
    assert torch.equal(whole.counts, first.counts + second.counts)
    torch.testing.assert_close(whole.probs, first.probs + second.probs)
    torch.testing.assert_close(whole.z, first.z + second.z)
    assert whole.tokens == first.tokens + second.tokens == 36


def test_padding_stays_out_of_the_record(mixture):
    tokens = torch.randint(0, 64, (1, 10))
    padded = torch.cat([tokens, torch.zeros(1, 6, dtype=torch.long)], dim=1)
    with_padding = mixture(padded, documents=Documents.of([[10, 6]], padding=[6])).routing.sums
    without = mixture(tokens).routing.sums
    assert torch.equal(with_padding.counts, without.counts)
    torch.testing.assert_close(with_padding.probs, without.probs)
    assert with_padding.tokens == 10


def test_the_balance_loss_pulls_a_lopsided_router_back(mixture):
    moe = mixture.model.layers[0].mlp
    x = torch.randn(4, 16, 32) + 1
    with torch.no_grad():
        moe.gate.weight[0] += 0.2  # expert 0 takes nearly everything
    losses = []
    for _ in range(30):
        sums = moe(x)[1].sums
        loss = balance(sums.counts[None], sums.probs[None], sums.tokens)
        moe.gate.weight.grad = None
        loss.backward()
        with torch.no_grad():
            moe.gate.weight -= 0.1 * moe.gate.weight.grad
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


def test_the_record_keeps_fp32_sums_under_autocast(mixture):
    tokens = torch.randint(0, 64, (4, 99))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = mixture(tokens).routing.sums
    assert sums.probs.dtype == sums.z.dtype == torch.float32
    torch.testing.assert_close(sums.probs.sum(1), torch.full((2,), 396.0))
