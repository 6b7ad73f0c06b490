"""Expert parallelism: a layer's experts are spread over ranks, and tokens travel to them.

    with dist.session(layout=Layout(expert=4)) as world:
        install(model, world)               # each rank keeps E / 4 experts of every layer
        train(...)                          # the loop, its losses and gradients are those of one

The pairs (token, choice) of a rank, sorted by expert, are sorted by rank too, since a rank has
neighbouring experts. So an all-to-all of uneven parts takes them there, their weights in another
one, and a third brings back what the experts gave; gradients go the same ways. No token is dropped,
whatever the router does: parts are as long as it makes them (GShard, Lepikhin et al., 2020, had a
capacity).

How long, the host must know: how many pairs go from each rank to each expert is exchanged first,
and read by one copy to the host a layer. It is the only point of a layer at which the host waits.

N tokens, k experts a token, C hidden size, E experts, R ranks that share them, M pairs that this
rank's experts get.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn import Parameter

from baiwen.dist import World
from baiwen.errors import UserError
from baiwen.model import kernels
from baiwen.model.mixture import Order, Weights, count
from baiwen.model.moe import Experts
from baiwen.model.transformer import Model
from baiwen.train import dtensor

Parts = list[int]  # rows to, or from, each rank


def install(model: Model, world: World) -> None:
    """Leave each rank its part of the experts of `model`, which run over the ranks of a group."""
    assert world.meshes is not None
    mesh = world.meshes.experts["expert"]
    for module in model.modules():
        if isinstance(module, Experts):
            _split(module, mesh)
            module.mix = partial(by_ranks, group=mesh.get_group())


def place(parameter: Parameter, *, ranks: int) -> Shard:
    """The dimension of stacked experts that `ranks` divide, for FSDP; a UserError without one.

    Whole experts where they are not spread: one slice of memory each. What `install` has divided by
    expert is divided along the width or the hidden size, so that a rank holds one block of them.
    """
    spread, sizes = isinstance(parameter, DTensor), dtensor.local(parameter).shape
    for dim in (1, 2, 0) if spread else (0, 1, 2):
        if sizes[dim] % ranks == 0:
            return Shard(dim)
    if spread:
        raise UserError(
            f"parallel: {ranks} shards of experts divide neither how many a rank has, their width "
            f"nor the hidden size ({', '.join(map(str, sizes))}): change parallel.expert, "
            "parallel.replicate or the number of ranks."
        )
    return Shard(0)  # padded


def _split(experts: Experts, mesh: DeviceMesh) -> None:
    for name, parameter in list(experts.named_parameters()):
        local = distribute_tensor(parameter.detach(), mesh, [Shard(0)], src_data_rank=None)
        setattr(experts, name, Parameter(local, parameter.requires_grad))


def by_ranks(
    x: Tensor, chosen: Tensor, weights: Tensor, experts: Weights, *, group: ProcessGroup
) -> Tensor:
    """`kernels.mixture` of tokens x [N, C] here and experts on all ranks of the group."""
    here = Weights(*(w.to_local() if isinstance(w, DTensor) else w for w in experts))
    order = Order.of(chosen)
    local, sent, received = _parts(count(chosen, group.size() * len(here.gate)), group)
    there = _moved(order.take(x), sent, received, group)  # [M, C]
    weighs = _moved(order.of_pairs(weights), sent, received, group)  # [M]
    done = kernels.mixture(there, local[:, None], weighs[:, None], here)
    return order.give(_moved(done, received, sent, group))


def _parts(counts: Tensor, group: ProcessGroup) -> tuple[Tensor, Parts, Parts]:
    """From how many pairs each expert [E] gets from here, what comes and goes.

    Returns the expert of each pair that comes [M], numbered from the first one here, and how many
    go to and come from each rank.
    """
    ranks = group.size()
    coming = torch.empty_like(counts)  # [E], of each rank its pairs for each expert here
    torch.distributed.all_to_all_single(coming, counts, group=group)
    both = torch.stack([counts, coming]).view(2, ranks, -1)  # [2, R, E / R]
    sent, received = both.sum(2).tolist()
    experts = torch.arange(both.shape[2], device=counts.device).repeat(ranks)
    return experts.repeat_interleave(coming, output_size=sum(received)), sent, received


def _moved(x: Tensor, sent: Parts, received: Parts, group: ProcessGroup) -> Tensor:
    """Rows of x [sum(sent), ...] to the ranks; what comes [sum(received), ...] in their order."""
    out = _Move.apply(x, sent, received, group)
    assert isinstance(out, Tensor)
    return out


class _Move(torch.autograd.Function):
    """An all-to-all of uneven parts; its gradient goes the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sent: Parts, received: Parts, group: ProcessGroup) -> Tensor:  # noqa: ANN401
        ctx.way = sent, received, group
        out = x.new_empty(sum(received), *x.shape[1:])
        torch.distributed.all_to_all_single(out, x.contiguous(), received, sent, group=group)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        sent, received, group = ctx.way
        return _moved(grad, received, sent, group), None, None, None
