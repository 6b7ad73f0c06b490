"""The small layers with a backward pass written by hand: fewer passes over memory, less kept.

    rms_norm(x, weight, eps, dtype)      x / rms(x) * weight
    rotate(x, cosine, sine)              rotary positions

Autograd's own backward of the plain formulas costs 2.0x (norm) and 1.8x (rotation) of these on a
CPU (`benchmarks/kernels.py`); the formulas stand in `tests/model/test_fused.py` as the oracle.

B batch, T tokens, C hidden size, H heads, D head size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x / rms(x) * weight over the last dimension, [..., C], statistics in fp32, out in `dtype`.

    Of fp64 everything is in fp64.
    """
    out = _Norm.apply(x, weight, eps, dtype)
    assert isinstance(out, Tensor)
    return out


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """x * cosine + (x with its halves swapped) * sine: [B, T, H, D] by tables [B, T, 1, D].

    The first half of `sine` is negated (`rope.tables`), so turning back is turning by its negative.
    """
    out = _Rotation.apply(x, cosine, sine)
    assert isinstance(out, Tensor)
    return out


class _Norm(torch.autograd.Function):
    """With n = x / rms(x) and p = grad * n: dx = (grad w - n mean(p w)) / rms(x), dw = sum(p)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:  # noqa: ANN401
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)  # sqrt(C) * rms(x)
        inverse = length.square().div_(x.shape[-1]).add_(eps).rsqrt_()  # [..., 1]
        normed = wide * inverse
        ctx.save_for_backward(normed, weight, inverse)
        ctx.dtype = x.dtype
        return (normed * weight.to(wide.dtype)).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        normed, weight, inverse = ctx.saved_tensors
        size, wide = normed.shape[-1], weight.to(normed.dtype)
        products = (grad * normed).reshape(-1, size)
        mean = (products @ wide).view_as(inverse).div_(size)
        grad_x = (grad * wide).addcmul_(normed, mean, value=-1).mul_(inverse)
        return grad_x.to(ctx.dtype), products.sum(0).to(weight.dtype), None, None


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(cosine, sine)
        return _turn(x, cosine, sine)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        cosine, sine = ctx.saved_tensors
        return _turn(grad, cosine, -sine), None, None


def _turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    swapped = x.roll(x.shape[-1] // 2, -1)
    return torch.addcmul(x * cosine, swapped, sine).to(x.dtype)
