"""Weights as a forward pass sees them: plain tensors, where training keeps DTensors.

    with local(block):
        block.forward(x, ...)          # block.mlp.gate_proj.weight is this rank's part of it

So a module computes with its part as it would with the whole, by whichever kernel fits, and knows
nothing of ranks. Gradients come back as DTensors: of a weight that is split that of the part, of
one that ranks have whole the sum over them, in fp32 as FSDP2 sums, since each has other tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor


@contextmanager
def local(module: nn.Module, *, alike: bool = False) -> Iterator[None]:
    """Within it the parameters of `module` on the mesh "tensor" are plain tensors, differentiably.

    alike: ranks compute the same with what they all have, so that its gradient is that of each.
    """
    kept: list[tuple[dict[str, Any], str, DTensor]] = []
    for owner in module.modules():
        held: dict[str, Any] = owner._parameters
        kept += [(held, name, found) for name, found in held.items() if _is_shared(found)]
    for parameters, name, parameter in kept:
        parameters[name] = _local(parameter, alike)
    try:
        yield
    finally:
        for parameters, name, parameter in kept:
            parameters[name] = parameter


def _is_shared(parameter: object) -> bool:
    """Not what FSDP2 has split, nor experts: they have units of their own."""
    if not isinstance(parameter, DTensor):
        return False
    return parameter.device_mesh.mesh_dim_names == ("tensor",)


def _local(parameter: DTensor, alike: bool) -> Tensor:
    part = parameter.to_local(grad_placements=parameter.placements)
    if alike or not parameter.placements[0].is_replicate():
        return part
    out = _Whole.apply(part, parameter.device_mesh.get_group())
    assert isinstance(out, Tensor)
    return out


class _Whole(torch.autograd.Function):
    """What each rank has, for tokens of its own: itself; its gradient is the sum over ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:  # noqa: ANN401
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        total = grad.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total, group=ctx.group)
        return total.to(grad.dtype), None
