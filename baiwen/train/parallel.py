"""Memory and ranks: activation checkpointing, compilation and FSDP2, from the inside out.

    model = shard(model, Parallel(activation_checkpointing=True), world)

One process: nothing is sharded. Under torchrun every block is an FSDP2 unit (`fully_shard`): its
weights are gathered, in bf16 where the run computes in it, for its forward and its backward pass,
and its gradients are summed over the ranks in fp32. The root (embedding, final norm, head) is
gathered in fp32, so that the residual stream stays fp32 as in one process, and stays gathered
until its backward pass, because the loss multiplies with the head's weight. Ranks that share rows
(`context.py`) shard weights like any others. Experts are units of their own, on a mesh of their
own: those that `expert.py` spreads over ranks are sharded over the others only.
"""

from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal, Protocol, Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from baiwen import dist
from baiwen.config import Knobs
from baiwen.dist import Layout, Meshes, World
from baiwen.model.config import ModelConfig
from baiwen.model.moe import MoE
from baiwen.model.transformer import Model
from baiwen.train import context, expert, tensor
from baiwen.train.context import Form

Kind = TypeVar("Kind", bound=Model)
Count = Annotated[int, Field(gt=0)]


class Parallel(Knobs):
    """What is traded for memory or speed; no knob changes the result beyond rounding."""

    activation_checkpointing: bool = False  # keep only each block's input, compute the rest again
    compile: bool = False  # torch.compile each block (measured: no gain on the CPU)

    replicate: Count = 1  # whole copies of the sharded state (HSDP); not reported
    tensor: Count = 1  # neighbouring ranks that share each matrix; not reported
    expert: Count = 1  # neighbouring ranks that share a layer's experts; not reported
    # Seconds that the others wait for a rank that stands still; then the job ends and names it.
    timeout: Annotated[float, Field(gt=0)] = 600.0

    @model_validator(mode="after")
    def _eager(self) -> Self:
        for name in ("context", "tensor", "expert"):
            if self.compile and getattr(self, name, 1) > 1:
                raise ValueError(
                    f"compile = true does not trace what ranks exchange: {name} must be 1"
                )
        return self

    @property
    def layout(self) -> Layout:
        """How the ranks divide the work."""
        return Layout(replicate=self.replicate, tensor=self.tensor, expert=self.expert)

    def fits(self, shape: ModelConfig) -> None:
        """Raise UserError where a model of this shape does not divide so."""
        tensor.check(shape, self.tensor)
        expert.check(shape, self.expert)


class ContextParallel(Parallel):
    """Also rows that ranks share: for losses that are sums over tokens."""

    context: Count = 1  # neighbouring ranks that share each row; not reported
    context_form: Form = "ulysses"  # heads change places (ulysses), or keys go round (ring)

    @property
    def layout(self) -> Layout:
        """How the ranks divide the work."""
        return replace(super().layout, context=self.context)

    def fits(self, shape: ModelConfig) -> None:
        """Raise UserError where a model of this shape does not divide so."""
        super().fits(shape)
        context.check(shape, self.context_form, self.layout)

    def check(self, sequence_length: int) -> None:
        """Raise ValueError where a row does not divide among the ranks that share it."""
        parts = self.context * (2 if self.context_form == "ring" and self.context > 1 else 1)
        if sequence_length % parts:
            raise ValueError(
                f"sequence_length = {sequence_length} must be a multiple of {parts}, since "
                f'parallel.context = {self.context} ranks share a row ("{self.context_form}")'
            )


class Placed(Protocol):
    """The knobs of a training stage that say where it computes."""

    device: str
    dtype: Literal["auto", "bfloat16", "float32"]
    seed: int
    threads: int | None

    @property
    def parallel(self) -> Parallel:
        """Or one with more knobs."""


def session(config: Placed, shape: ModelConfig) -> AbstractContextManager[World]:
    """The session of a training stage: its device, precision and seed, its ranks as laid out.

    Raises UserError where a model of this shape does not divide among them, before it is loaded.
    """
    config.parallel.fits(shape)
    place = config.device, config.dtype, config.seed, config.threads
    parallel = config.parallel
    return dist.session(*place, timeout=parallel.timeout, layout=parallel.layout)


def shard(model: Kind, parallel: Parallel, world: World) -> Kind:
    """Prepare `model` in place for training on `world`; parameter names stay as they are."""
    parallel.fits(model.config)
    model.checkpoint_blocks = parallel.activation_checkpointing
    if world.context is not None:
        assert isinstance(parallel, ContextParallel)
        context.install(model, parallel.context_form, world)
    if world.layout.expert > 1:
        expert.install(model, world)
    if world.layout.tensor > 1:
        tensor.install(model, world)
    if parallel.compile:
        for block in model.model.layers:
            block.forward = torch.compile(block.forward)
    if world.meshes is None:
        model.to(world.device)
    else:
        dist.catch_up(world)  # each rank has read the weights at its own pace
        _fully_shard(model, world.meshes, world.dtype)
    return model


def _fully_shard(model: Model, meshes: Meshes, dtype: torch.dtype) -> None:
    """FSDP2, or HSDP: each unit goes to the device and is split before the next one does."""
    bf16 = torch.bfloat16 if dtype == torch.bfloat16 else None
    mesh, experts = (_data(mesh) for mesh in (meshes.weights, meshes.experts))
    shared = meshes.weights["tensor"].size() > 1
    placed = partial(expert.place, ranks=experts["shard"].size())
    for block in model.model.layers:
        if isinstance(block.mlp, MoE):
            many = block.mlp.experts
            fully_shard(many, mesh=experts, shard_placement_fn=placed, mp_policy=_policy(bf16))
        if shared:
            tensor.distribute(block, meshes)
        fully_shard(block, mesh=mesh, mp_policy=_policy(bf16))
    if shared:
        tensor.distribute(model, meshes)
    fully_shard(model, mesh=mesh, mp_policy=_policy(), reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Summed, not averaged: the loss is divided by the count over all ranks already.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def release(model: Model) -> None:
    """Give up what a forward pass without a backward one leaves gathered: the root's weights."""
    if isinstance(model, FSDPModule):
        model.reshard()


def _data(mesh: DeviceMesh) -> DeviceMesh:
    """The dimensions of a mesh over which FSDP2, or HSDP, divides parameters."""
    return mesh["shard"] if mesh["replicate"].size() == 1 else mesh["replicate", "shard"]


def _policy(param_dtype: torch.dtype | None = None) -> MixedPrecisionPolicy:
    # Inputs are not cast: positions and rotary tables keep their precision.
    return MixedPrecisionPolicy(
        param_dtype=param_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
