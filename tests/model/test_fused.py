"""The hand-written backward passes equal autograd's of the plain formulas."""

import torch
import torch.nn.functional as F

from baiwen.model import fused


def gradients(function, *inputs):
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = function(*inputs)
    torch.manual_seed(1)
    return out.detach(), *torch.autograd.grad(out, inputs, torch.randn_like(out))


def assert_same(fast, plain, tolerance=2e-5):
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_the_norm_and_its_gradients_are_those_of_the_formula():
    x, weight = torch.randn(3, 5, 16), torch.randn(16)
    assert_same(
        gradients(lambda x, w: fused.rms_norm(x, w, 1e-6, torch.float32), x, weight),
        gradients(
            lambda x, w: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w, x, weight
        ),
    )


def test_the_norm_takes_a_gradient_in_any_layout():
    x = torch.randn(3, 5, 16)

    def turned(norm):
        return lambda x: norm(x, (16,)).transpose(0, 1).contiguous()

    def ours(x, shape):
        return fused.rms_norm(x, torch.ones(shape), 1e-6, torch.float32)

    def theirs(x, shape):
        return F.rms_norm(x, shape, eps=1e-6)

    assert_same(gradients(turned(ours), x), gradients(turned(theirs), x))


def test_the_norm_of_fp64_is_computed_in_fp64():
    inputs = torch.randn(5, 16).double(), torch.randn(16).double()
    ours = gradients(lambda x, w: fused.rms_norm(x, w, 1e-6, torch.float64), *inputs)
    assert_same(ours, gradients(lambda x, w: F.rms_norm(x, (16,), w, 1e-6), *inputs), 1e-12)


def test_the_norm_of_bf16_states_has_fp32_statistics_and_the_asked_dtype():
    x, weight = torch.randn(4, 64).bfloat16(), torch.ones(64)
    out = fused.rms_norm(x, weight, 1e-6, torch.bfloat16)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, F.rms_norm(x.float(), (64,), weight, 1e-6).bfloat16())


def test_the_rotation_and_its_gradient_are_those_of_the_formula():
    angles = torch.randn(2, 7, 1, 4)
    cosine, sine = (
        torch.cat((a, b), -1)
        for a, b in ((angles.cos(), angles.cos()), (-angles.sin(), angles.sin()))
    )

    def plain(x):
        first, second = x.chunk(2, -1)
        return torch.cat(
            (
                first * angles.cos() - second * angles.sin(),
                second * angles.cos() + first * angles.sin(),
            ),
            -1,
        )

    x = torch.randn(2, 7, 3, 8)
    assert_same(gradients(lambda x: fused.rotate(x, cosine, sine), x), gradients(plain, x))
