"""Memory and ranks: activation checkpointing, compilation, and how many ranks divide a model.

    model = shard(model, Parallel(activation_checkpointing=True), world)

One process: nothing is sharded. Under torchrun `sharding.py` divides the model among the ranks.
"""

import math
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib import import_module
from typing import Annotated, Literal, Protocol, Self, TypeVar

import torch
from pydantic import Field, model_validator

from baiwen import dist
from baiwen.config import Count, Knobs
from baiwen.dist import Layout, World
from baiwen.errors import UserError
from baiwen.model.config import ModelConfig
from baiwen.model.moe import MoE
from baiwen.model.transformer import Model
from baiwen.train import context
from baiwen.train.context import Form

Kind = TypeVar("Kind", bound=Model)


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
        _check_tensor(shape, self.tensor)
        _check_expert(shape, self.expert)


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
    if parallel.compile:
        for block in model.model.layers:
            if isinstance(block.mlp, MoE) and world.dtype != torch.bfloat16:
                # PyTorch multiplies groups of fp32, too, but traces those of bf16 alone.
                skipped = torch.compiler.disable(block.mlp.forward)
                block.mlp.forward = skipped  # type: ignore[method-assign]
            block.forward = torch.compile(block.forward)
    if world.meshes is None:
        model.to(world.device)
    else:
        dist.catch_up(world)  # each rank has read the weights at its own pace
        # Imported where there are ranks: what it needs takes as long as half of torch.
        import_module("baiwen.train.sharding").spread(model, world)
    return model


def release(model: Model) -> None:
    """Give up what a forward pass without a backward one leaves gathered: the root's weights."""
    getattr(model, "reshard", lambda: None)()  # an FSDPModule has it


def _check_tensor(config: ModelConfig, ranks: int) -> None:
    """Raise UserError where a model of this shape cannot be split over so many ranks."""
    sizes = {
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "vocab_size": config.vocab_size,
    }
    if not all(config.sparse(layer) for layer in range(config.num_hidden_layers)):
        sizes["intermediate_size"] = config.intermediate_size
    for name, size in sizes.items():
        if size % ranks:
            most = math.gcd(*sizes.values())
            fits = " or ".join(str(n) for n in range(1, most + 1) if most % n == 0)
            raise UserError(
                f"parallel.tensor = {ranks} does not divide the model's {name} = {size}: "
                f"{fits} does"
            )


def _check_expert(config: ModelConfig, ranks: int) -> None:
    """Raise UserError where so many ranks cannot share the experts of a model of this shape."""
    if ranks > 1 and not config.num_experts:
        raise UserError(
            f"parallel.expert = {ranks}, but the model is dense: it has no experts to spread.\n"
            "Set parallel.expert = 1."
        )
    if config.num_experts % ranks:
        raise UserError(
            f"parallel.expert = {ranks} does not divide the {config.num_experts} experts of a "
            "layer: use a divisor of both these and the ranks of a replica."
        )
