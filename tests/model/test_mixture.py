"""Pairs sorted by expert, and the mixture with and without C++ against a loop over experts."""

import pytest
import torch
import torch.nn.functional as F

from baiwen.model import compiled, kernels
from baiwen.model.mixture import Order, Weights, count

E, K, N, C, WIDTH = 5, 2, 33, 16, 24


def drawn():
    """Tokens, choices of which expert 3 gets none, their weights, and the experts."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(N, E - 1, generator=generator).topk(K).indices
    chosen += (chosen >= 3).long()
    x, down = (
        torch.randn(N, C, generator=generator),
        torch.randn(E, C, WIDTH, generator=generator) / 4,
    )
    gate, up = torch.randn(2, E, WIDTH, C, generator=generator) / 4
    weights = torch.rand(N, K, generator=generator)
    return [t.requires_grad_() for t in (x, weights, gate, up, down)], chosen


def by_loop(x, weights, gate, up, down, chosen):
    """Every expert on all tokens, weighed by 0 where it was not chosen."""
    out = torch.zeros_like(x)
    for e in range(E):
        weight = torch.where(chosen == e, weights, 0).sum(1, keepdim=True)
        out = out + weight * ((F.silu(x @ gate[e].T) * (x @ up[e].T)) @ down[e].T)
    return out


def by_kernel(x, weights, gate, up, down, chosen):
    return kernels.mixture(x, chosen, weights, Weights(gate, up, down))


def results(function, inputs, chosen):
    """The output and all gradients."""
    out = function(*inputs, chosen)
    slopes = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return [out, *torch.autograd.grad(out, inputs, slopes.to(out.dtype))]


@pytest.mark.parametrize("native", [True, False])
def test_a_mixture_and_its_gradients_equal_a_loop_over_experts(native, monkeypatch):
    """Also for an expert that no token chose."""
    if not native:
        monkeypatch.setattr(compiled, "takes", lambda *_: False)
    inputs, chosen = drawn()
    found, expected = (results(f, inputs, chosen) for f in (by_kernel, by_loop))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert all(grad[3].eq(0).all() for grad in found[3:])


@pytest.mark.parametrize("native", [True, False])
def test_under_autocast_products_are_in_bf16(native, monkeypatch):
    if not native:
        monkeypatch.setattr(compiled, "takes", lambda *_: False)
    inputs, chosen = drawn()
    with torch.autocast("cpu", torch.bfloat16):
        found = results(by_kernel, inputs, chosen)
    assert found[0].dtype == torch.bfloat16 and found[2].dtype == torch.float32
    for one, other in zip(found, results(by_loop, inputs, chosen), strict=True):
        error = (one.float() - other).norm() / other.norm()
        assert error < 2e-2


@pytest.mark.parametrize("native", [True, False])
def test_a_mixture_of_no_tokens_has_gradients_of_zero(native, monkeypatch):
    """A rank whose experts nobody chose gives what others reduce."""
    if not native:
        monkeypatch.setattr(compiled, "takes", lambda *_: False)
    (x, weights, *experts), chosen = drawn()
    inputs = [x[:0].detach().requires_grad_(), weights[:0].detach().requires_grad_(), *experts]
    out, *grads = results(by_kernel, inputs, chosen[:0])
    assert out.shape == (0, C)
    assert all(grad.shape == given.shape for grad, given in zip(grads, inputs, strict=True))
    assert all(grad.eq(0).all() for grad in grads)


def test_taking_and_giving_are_transposes():
    """<take x, y> = <x, give y>, in values and gradients."""
    order = Order.of(drawn()[1])
    x, y = torch.randn(N, C, dtype=torch.float64), torch.randn(N * K, C, dtype=torch.float64)
    assert order.take(x).shape == y.shape and order.give(y).shape == x.shape
    torch.testing.assert_close((order.take(x) * y).sum(), (x * order.give(y)).sum())
    torch.autograd.gradcheck(order.take, x[:, :2].clone().requires_grad_())
    torch.autograd.gradcheck(order.give, y[:, :2].clone().requires_grad_())


def test_pairs_are_in_the_order_of_experts_and_then_of_tokens():
    chosen = torch.tensor([[2, 0], [1, 2], [0, 1]])
    order = Order.of(chosen)
    assert order.pairs.tolist() == [1, 4, 2, 5, 0, 3]
    assert order.of_pairs(chosen).tolist() == [0, 0, 1, 1, 2, 2]
    assert order.places[order.pairs].tolist() == list(range(6))
    assert count(chosen, 4).tolist() == [2, 2, 2, 0]
    assert count(chosen, 4, torch.tensor([1, 0, 1])).tolist() == [2, 1, 1, 0]
