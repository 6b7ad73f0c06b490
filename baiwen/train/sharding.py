"""A model divided among many ranks, from the inside out: experts, matrices, and FSDP2 around them.

    spread(model, world)          # what `parallel.shard` does where there is more than one rank

Every block is an FSDP2 unit (`fully_shard`): its weights are gathered, in bf16 where the run
computes in it, for its forward and its backward pass, and its gradients are summed over the ranks
in fp32. The root (embedding, final norm, head) is gathered in fp32, so that the residual stream
stays fp32 as in one process, and stays gathered until its backward pass, because the loss
multiplies with the head's weight. Ranks that share rows (`context.py`) shard weights like any
others. Experts are units of their own, on a mesh of their own: those that `expert.py` spreads over
ranks are sharded over the others only.
"""

from functools import partial

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from baiwen.dist import World
from baiwen.model.moe import MoE
from baiwen.model.transformer import Model
from baiwen.train import expert, tensor


def spread(model: Model, world: World) -> None:
    """Divide `model` in place; each unit goes to the device and is split before the next one."""
    meshes, layout = world.meshes, world.layout
    assert meshes is not None
    if layout.expert > 1:
        expert.install(model, world)
    if layout.tensor > 1:
        tensor.install(model, world)
    bf16 = torch.bfloat16 if world.dtype == torch.bfloat16 else None
    mesh, experts = (_data(mesh) for mesh in (meshes.weights, meshes.experts))
    placed = partial(expert.place, ranks=experts["shard"].size())
    for block in model.model.layers:
        if isinstance(block.mlp, MoE):
            many = block.mlp.experts
            fully_shard(many, mesh=experts, shard_placement_fn=placed, mp_policy=_policy(bf16))
        if layout.tensor > 1:
            tensor.distribute(block, meshes)
        fully_shard(block, mesh=mesh, mp_policy=_policy(bf16))
    if layout.tensor > 1:
        tensor.distribute(model, meshes)
    fully_shard(model, mesh=mesh, mp_policy=_policy(), reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Summed, not averaged: the loss is divided by the count over all ranks already.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _data(mesh: DeviceMesh) -> DeviceMesh:
    """The dimensions of a mesh over which FSDP2, or HSDP, divides parameters."""
    return mesh["shard"] if mesh["replicate"].size() == 1 else mesh["replicate", "shard"]


def _policy(param_dtype: torch.dtype | None = None) -> MixedPrecisionPolicy:
    # Inputs are not cast: positions and rotary tables keep their precision.
    return MixedPrecisionPolicy(
        param_dtype=param_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
