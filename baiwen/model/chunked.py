"""The matmuls of a training step by chunks of tokens: what one leaves the next finds cached.

    out = feed_forward(x, gate, up, down)              # down(silu(gate x) * up x)
    q, k, v = linears(x, weights, biases)

A product of thousands of tokens reads and writes its activations in memory: 76 GFLOP/s on a core
that does 88 where they stay in the cache (fp32, AVX2, MKL, 256 or 4,096 tokens, 256 by 1,024). So
all products of a chunk run before the next chunk, forward and backward, SwiGLU among them, and the
gradients of weights and inputs are summed up inside the matmuls. What SwiGLU gives is computed
again in the backward pass, not kept. For fp32 on a CPU.

N tokens, C hidden size, I feed-forward size, O outputs.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from baiwen.model import compiled

# Tokens. A step of 4,096 takes 0.86 of its wall time with it on two threads, 0.96 with 512: the
# threads meet after every product.
CHUNK = 1024


def fits(x: Tensor, layers: Sequence[nn.Module]) -> bool:
    """Whether chunks pay: fp32 training on a CPU, without autocast, and with compiled SwiGLU.

    What only looks like a linear layer, such as one with an adapter, computes for itself.
    """
    trains = torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    plain = all(type(layer) is nn.Linear for layer in layers)
    return trains and plain and x.dtype == torch.float32 and compiled.fits(x)


def feed_forward(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x [..., C] by gate and up [I, C] and down [C, I] -> [..., C]."""
    out = _FeedForward.apply(x.flatten(0, -2), gate, up, down)
    assert isinstance(out, Tensor)
    return out.view_as(x)


def linears(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """x [..., C] by each weight [O, C], plus its bias: [..., O] each."""
    outs = _Linears.apply(x.flatten(0, -2), len(weights), *weights, *biases)
    return tuple(out.unflatten(0, x.shape[:-1]) for out in outs)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:  # noqa: ANN401
        gates, ups = (x.new_empty(len(x), len(weight)) for weight in (gate, up))  # [N, I]
        out = torch.empty_like(x)
        for here in _chunks(x):
            torch.mm(x[here], gate.T, out=gates[here])
            torch.mm(x[here], up.T, out=ups[here])
            torch.mm(compiled.swiglu(gates[here], ups[here]), down.T, out=out[here])
        ctx.save_for_backward(x, gate, up, down, gates, ups)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        x, gate, up, down, gates, ups = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        grad_gate, grad_up, grad_down = (torch.zeros_like(weight) for weight in (gate, up, down))
        for here in _chunks(x):
            hidden = compiled.swiglu(gates[here], ups[here])
            grad_down.addmm_(grad[here].T, hidden)
            slopes = compiled.swiglu_gradients(grad[here] @ down, gates[here], ups[here])
            torch.mm(slopes[0], gate, out=grad_x[here]).addmm_(slopes[1], up)
            grad_gate.addmm_(slopes[0].T, x[here])
            grad_up.addmm_(slopes[1].T, x[here])
        return grad_x, grad_gate, grad_up, grad_down


class _Linears(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, number: int, *given: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        weights, biases = given[:number], given[number:]
        outs = tuple(x.new_empty(len(x), len(weight)) for weight in weights)  # [N, O]
        for here in _chunks(x):
            for out, weight, bias in zip(outs, weights, biases, strict=True):
                if bias is None:
                    torch.mm(x[here], weight.T, out=out[here])
                else:
                    torch.addmm(bias, x[here], weight.T, out=out[here])
        ctx.save_for_backward(x, *weights)
        ctx.biased = [bias is not None for bias in biases]
        return outs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, *weights = ctx.saved_tensors
        grad_x, grad_weights = torch.zeros_like(x), [torch.zeros_like(each) for each in weights]
        for here in _chunks(x):
            for grad, weight, total in zip(grads, weights, grad_weights, strict=True):
                grad_x[here].addmm_(grad[here], weight)
                total.addmm_(grad[here].T, x[here])
        biases = (g.sum(0) if has else None for g, has in zip(grads, ctx.biased, strict=True))
        return grad_x, None, *grad_weights, *biases


def _chunks(x: Tensor) -> Iterator[slice]:
    for start in range(0, len(x), CHUNK):
        yield slice(start, start + CHUNK)
