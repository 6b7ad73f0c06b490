"""Sequence parallelism: what ranks of a group exchange between some tokens and some of each matrix.

    gather(x, T, group)       [B, t, C] -> [B, T, C]      its gradient: a sum over ranks, scattered
    scatter(x, group)         [B, T, C] -> [B, t, C]      such a sum; its gradient: gathered

(Korthikanti et al., 2022, section 4.2.2.) Where T does not divide, rows are padded with zeros.

B rows, T tokens of a row, R ranks, t = ceil(T / R) tokens of each, C hidden size.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

# Their names since torch 2.13, where those before it warn.
_all_gather: Callable[..., object] = getattr(
    torch.distributed, "all_gather_single", torch.distributed.all_gather_into_tensor
)
_reduce_scatter: Callable[..., object] = getattr(
    torch.distributed, "reduce_scatter_single", torch.distributed.reduce_scatter_tensor
)


def gather(x: Tensor, width: int, group: ProcessGroup, *, alike: bool = False) -> Tensor:
    """The tokens of all ranks, [B, t, C] -> [B, T, C] with T = `width`.

    alike: every rank makes the same of them, so that its gradient is whole; else it is a part.
    """
    out = _Gather.apply(x, width, group, alike)
    assert isinstance(out, Tensor)
    return out


def scatter(x: Tensor, group: ProcessGroup) -> Tensor:
    """This rank's tokens of the sum over ranks, [B, T, C] -> [B, t, C]."""
    out = _Scatter.apply(x, group)
    assert isinstance(out, Tensor)
    return out


def mine(x: Tensor, group: ProcessGroup) -> Tensor:
    """This rank's tokens of x, [B, T, ...] -> [B, t, ...]; those that pad are zeros."""
    size = -(-x.shape[1] // group.size())
    part = x[:, group.rank() * size :][:, :size]
    return torch.cat([part, part.new_zeros(len(x), size - part.shape[1], *x.shape[2:])], 1)


def every(x: Tensor, group: ProcessGroup) -> Tensor:
    """[R, ...], the x of each rank; without a gradient."""
    out = x.new_empty(group.size() * len(x), *x.shape[1:])
    _all_gather(out, x.contiguous(), group=group)
    return out.view(group.size(), *x.shape)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, width: int, group: ProcessGroup, alike: bool) -> Tensor:  # noqa: ANN401
        ctx.group, ctx.alike = group, alike
        return _gathered(x, width, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return (mine if ctx.alike else _scattered)(grad, ctx.group), None, None, None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:  # noqa: ANN401
        ctx.width, ctx.group = x.shape[1], group
        return _scattered(x, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return _gathered(grad, ctx.width, ctx.group), None


def _gathered(x: Tensor, width: int, group: ProcessGroup) -> Tensor:
    """[B, t, C] -> [B, T, C]."""
    whole = torch.cat(every(x, group).unbind(), 1)
    return whole if whole.shape[1] == width else whole[:, :width].clone()


def _scattered(x: Tensor, group: ProcessGroup) -> Tensor:
    """[B, T, C] -> [B, t, C]."""
    missing = -x.shape[1] % group.size()
    if missing:
        x = F.pad(x, (0, 0, 0, missing))
    parts = x.unflatten(1, (group.size(), -1)).movedim(1, 0).flatten(0, 1).contiguous()
    out = parts.new_empty(len(x), *parts.shape[1:])
    _reduce_scatter(out, parts, group=group)
    return out
