"""The small layers in C++ on a CPU, forward and backward, each in one pass over memory.

    x, normed = add_rms_norm(x, y, weight, eps, dtype)       # x + y, and its norm in `dtype`
    q, k = rotate(q, k, cosine, sine)
    hidden = swiglu(gate, up)
    out = sum_rows(x, places, k)                             # what k experts gave to each token

`fused` and `kernels` hold the plain forms, which run where `fits` says no. A norm keeps its input
and 1 / rms, SwiGLU its two inputs: both are tensors that the model has anyway.

B batch, T tokens, C hidden size, H and K query and key heads, D head size, I feed-forward size.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from baiwen.model.native.build import FLOATS, library, takes

ROWS = 64  # whose gradients of a norm's weight the kernel adds up: native/layers.cpp


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors, and are there."""
    return takes("layers", *tensors)


def norm_fits(x: Tensor, y: Tensor | None, dtype: torch.dtype) -> bool:
    """Whether `add_rms_norm` takes these."""
    beside = y is None or (fits(y) and y.dtype == dtype and y.shape == x.shape)
    return beside and fits(x) and dtype in FLOATS and x.dtype in (torch.float32, dtype)


def add_rms_norm(
    x: Tensor, y: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """x + y (x itself without a y) and its norm, [..., C]; y and the norm are of `dtype`.

    Where x is bf16, so is `dtype`. What comes back through the sum is added in the same pass as the
    gradient of the norm.
    """
    total, normed = _Norm.apply(x, y, weight, eps, dtype)
    return total, normed


def rotate(q: Tensor, k: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """q [B, T, H, D] and k [B, T, K, D] turned by `rope.tables` [B or 1, T, 1, D]."""
    turned_q, turned_k = _Rotation.apply(*_tables(q, cosine, sine), q, k)
    return turned_q, turned_k


def turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """x [B, T, H, D] turned by tables [B or 1, T, 1, D]."""
    (turned,) = _Rotation.apply(*_tables(x, cosine, sine), x)
    assert isinstance(turned, Tensor)
    return turned


def swiglu(gate: Tensor, up: Tensor, weights: Tensor | None = None) -> Tensor:
    """silu(gate) * up, [..., I], times fp32 weights [...] of the rows."""
    out = _SwiGLU.apply(gate, up, weights)
    assert isinstance(out, Tensor)
    return out


def swiglu_gradients(
    grad: Tensor, gate: Tensor, up: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of gate and up [..., I], and of weights [...], from that of `swiglu`."""
    gate, up = gate.contiguous(), up.contiguous()
    grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
    grad_weights = None if weights is None else torch.empty_like(weights)
    (count, size, stride), half = _rows(gate), gate.dtype == torch.bfloat16
    _native().swiglu_backward(
        *(grad.contiguous(), gate, up, stride, weights),
        *(grad_gate, grad_up, grad_weights, count, size, half),
    )
    return grad_gate, grad_up, grad_weights


def sum_rows(x: Tensor, places: Tensor, k: int) -> Tensor:
    """Of rows x [M, C] the sums of the k at the places [N*k] of each of N: [N, C]."""
    x = x.contiguous()
    out = x.new_empty(len(places) // k, x.shape[1])
    _native().sum_rows(x, places, out, len(out), k, x.shape[1], x.dtype == torch.bfloat16)
    return out


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        y: Tensor | None,
        weight: Tensor,
        eps: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        x, y = x.contiguous(), None if y is None else y.contiguous()
        total = x if y is None else torch.empty_like(x)
        normed, wide = torch.empty_like(x, dtype=dtype), weight.float()
        inverse = x.new_empty(x.shape[:-1], dtype=torch.float32)
        size = x.shape[-1]
        _native().norm_forward(
            *(x, y, wide, total, normed, inverse, inverse.numel(), size, eps),
            *(x.dtype == torch.bfloat16, dtype == torch.bfloat16),
        )
        ctx.save_for_backward(total, wide, inverse)
        ctx.given = y is not None, weight.dtype, dtype
        ctx.set_materialize_grads(False)
        return total, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, beside: Tensor | None, grad: Tensor | None) -> tuple[Any, ...]:  # noqa: ANN401
        total, weight, inverse = ctx.saved_tensors
        added, weight_dtype, dtype = ctx.given
        grad = total.new_zeros(total.shape, dtype=dtype) if grad is None else grad.contiguous()
        beside = None if beside is None else beside.contiguous()
        count, size = inverse.numel(), total.shape[-1]
        grad_x, sums = torch.empty_like(total), weight.new_empty(-(-count // ROWS), size)
        _native().norm_backward(
            *(grad, beside, total, weight, inverse, grad_x, sums, count, size),
            *(total.dtype == torch.bfloat16, dtype == torch.bfloat16),
        )
        grad_y = grad_x.to(dtype) if added else None
        return grad_x, grad_y, sums.sum(0).to(weight_dtype), None, None


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        cosine: Tensor,
        sine: Tensor,
        *heads: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cosine, sine)
        return tuple(_turn(x, cosine, sine, 1) for x in heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        cosine, sine = ctx.saved_tensors
        return None, None, *(_turn(grad, cosine, sine, -1) for grad in grads)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weights: Tensor | None) -> Tensor:  # noqa: ANN401
        if not (_evenly_apart(gate) and gate.stride() == up.stride()):
            gate, up = gate.contiguous(), up.contiguous()
        out, (count, size, stride) = gate.new_empty(gate.shape), _rows(gate)
        half = gate.dtype == torch.bfloat16
        _native().swiglu_forward(gate, up, stride, weights, out, count, size, half)
        ctx.save_for_backward(gate, up, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return swiglu_gradients(grad, *ctx.saved_tensors)


def _native() -> ctypes.CDLL:
    native = library("layers")
    assert native
    return native


def _tables(x: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Tables for each of the tokens of x [B, T, H, D]."""
    shape = (*x.shape[:2], 1, x.shape[3])
    return cosine.expand(shape).contiguous(), sine.expand(shape).contiguous()


def _turn(x: Tensor, cosine: Tensor, sine: Tensor, sign: float) -> Tensor:
    rows, tokens, _, size = x.stride()[0], *x.shape[1:]
    if x.stride()[2:] != (size, 1) or rows != tokens * x.stride(1):
        x = x.contiguous()
    out = x.new_empty(x.shape)
    count, half = x.shape[0] * tokens, x.dtype == torch.bfloat16
    _native().rotate(x, x.stride(1), cosine, sine, sign, out, count, *x.shape[2:], half)
    return out


def _rows(x: Tensor) -> tuple[int, int, int]:
    """Of a tensor [..., I]: how many rows it has, their size, and how far they are apart."""
    return x.numel() // x.shape[-1], x.shape[-1], x.stride(-2) if x.ndim > 1 else x.shape[-1]


def _evenly_apart(x: Tensor) -> bool:
    """Whether the rows [..., I] are contiguous and follow each other in steps of one size."""
    sizes, strides = x.shape[1:-1], x.stride()
    steps = zip(strides, strides[1:], sizes, strict=False)
    return strides[-1] == 1 and all(outer == inner * size for outer, inner, size in steps)
