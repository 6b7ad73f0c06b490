"""Memory and ranks: activation checkpointing, compilation and FSDP2, from the inside out.

    model = shard(model, Parallel(activation_checkpointing=True), world)

One process: nothing is sharded. Under torchrun every block is an FSDP2 unit (`fully_shard`): its
weights are gathered, in bf16 where the run computes in it, for its forward and its backward pass,
and its gradients are summed over the ranks in fp32. The root (embedding, final norm, head) is
gathered in fp32, so that the residual stream stays fp32 as in one process, and stays gathered
until its backward pass, because the loss multiplies with the head's weight.
"""

from typing import TypeVar

import torch
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from baiwen.config import Knobs
from baiwen.dist import World
from baiwen.model.transformer import Model

Kind = TypeVar("Kind", bound=Model)


class Parallel(Knobs):
    """What is traded for memory or speed; no knob changes the result beyond rounding."""

    activation_checkpointing: bool = False  # keep only each block's input, compute the rest again
    compile: bool = False  # torch.compile each block (measured: no gain on the CPU)


def shard(model: Kind, parallel: Parallel, world: World) -> Kind:
    """Prepare `model` in place for training on `world`; parameter names stay as they are."""
    model.checkpoint_blocks = parallel.activation_checkpointing
    if parallel.compile:
        for block in model.model.layers:
            block.forward = torch.compile(block.forward)
    if world.mesh is None:
        model.to(world.device)
    else:  # each unit goes to the device and is split before the next one does
        bf16 = torch.bfloat16 if world.dtype == torch.bfloat16 else None
        for block in model.model.layers:
            fully_shard(block, mesh=world.mesh, mp_policy=_policy(bf16))
        fully_shard(model, mesh=world.mesh, mp_policy=_policy(), reshard_after_forward=False)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                # Summed, not averaged: the loss is divided by the count over all ranks already.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
    return model


def release(model: Model) -> None:
    """Give up what a forward pass without a backward one leaves gathered: the root's weights."""
    if isinstance(model, FSDPModule):
        model.reshard()


def _policy(param_dtype: torch.dtype | None = None) -> MixedPrecisionPolicy:
    # Inputs are not cast: positions and rotary tables keep their precision.
    return MixedPrecisionPolicy(
        param_dtype=param_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
