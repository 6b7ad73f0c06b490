"""Matmuls by chunks of tokens are the matmuls, forward and backward, whatever the last chunk is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from baiwen.model import chunked, kernels
from baiwen.model.layers import MLP

if not chunked.fits(torch.empty(0), ()):
    pytest.skip("no C++ compiler", allow_module_level=True)


def gradients(function, *inputs):
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = function(*inputs)
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return out.detach(), *torch.autograd.grad(out, inputs, slope)


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        rounding = 1e-5 * float(other.abs().max())  # sums of a thousand products, some near 0
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=rounding)


@pytest.mark.parametrize("tokens", [1, 1024, 1030])
def test_the_feed_forward_and_its_gradients_are_those_of_the_formula(tokens):
    x, gate, up = torch.randn(1, tokens, 12), torch.randn(20, 12), torch.randn(20, 12)
    inputs = x, gate, up, torch.randn(12, 20)

    def plain(x, gate, up, down):
        return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T

    expected = gradients(plain, *(one.double() for one in inputs))
    assert_same(gradients(chunked.feed_forward, *inputs), expected)


@pytest.mark.parametrize("tokens", [1, 1024, 1030])
def test_linears_of_one_input_and_their_gradients_are_those_of_each(tokens):
    x, weights, bias = torch.randn(1, tokens, 8), torch.randn(3, 6, 8).unbind(), torch.randn(6)

    def ours(x, bias, *weights):
        return torch.cat(chunked.linears(x, weights, (bias, None, None)), -1)

    def plain(x, bias, first, *weights):
        return torch.cat([F.linear(x, first, bias), *(x @ weight.T for weight in weights)], -1)

    inputs = x, bias, *weights
    expected = gradients(plain, *(one.double() for one in inputs))
    assert_same(gradients(ours, *inputs), expected)


def test_chunks_are_for_fp32_training_alone():
    x = torch.randn(2, 3)
    assert chunked.fits(x, [nn.Linear(3, 3)])
    assert not chunked.fits(x.bfloat16(), ())
    with torch.no_grad():
        assert not chunked.fits(x, ())
    with torch.autocast("cpu", torch.bfloat16):
        assert not chunked.fits(x, ())


class Adapted(nn.Linear):
    """A linear layer that also adds a thing of its own."""

    def forward(self, input):
        return super().forward(input) + 1


def test_a_layer_that_is_more_than_linear_computes_for_itself():
    layers, x = [nn.Linear(8, 6), Adapted(8, 6)], torch.randn(2, 5, 8)
    for found, layer in zip(kernels.linears(x, layers), layers, strict=True):
        torch.testing.assert_close(found, layer(x))


def test_a_feed_forward_answers_alike_with_and_without_gradients():
    mlp, x = MLP(8, 24), torch.randn(2, 5, 8)
    with torch.no_grad():
        plain = mlp(x)
    torch.testing.assert_close(mlp(x), plain)


def test_linear_layers_answer_alike_with_and_without_gradients():
    layers, x = [nn.Linear(8, 6), nn.Linear(8, 4, bias=False)], torch.randn(2, 5, 8)
    with torch.no_grad():
        plain = kernels.linears(x, layers)
    for one, other in zip(kernels.linears(x, layers), plain, strict=True):
        torch.testing.assert_close(one, other)
