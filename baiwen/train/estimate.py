"""What a training run would take, by arithmetic and one short matmul: for `baiwen plan`.

figures(Work(SIZES["0.5b"], 4096, 2**20, tokens=10**10), config)   # config: of a training stage
# {"parameters": 494032768, ..., "memory": "9.30 GiB: 7.36 weights, ...", "time": "41.0 days ..."}
"""

import os
from dataclasses import replace
from typing import Literal, Protocol

import torch

from baiwen import dist
from baiwen.dist import World
from baiwen.errors import UserError
from baiwen.model import count
from baiwen.model.config import ModelConfig
from baiwen.train import beside, memory
from baiwen.train.loop import Loop
from baiwen.train.losses import chunk_tokens
from baiwen.train.memory import Kernels
from baiwen.train.meter import peak_flops, peak_memory
from baiwen.train.optim import Optim
from baiwen.train.parallel import Parallel
from baiwen.train.spread import Spread
from baiwen.train.work import Work

MFU = 0.4  # share of the matmul rate that a step is taken to reach
# What a layer's forward and backward cost a CPU however small they are: 2 layers of width 32 took
# 9 ms for 256 tokens, of which 3 are their FLOPs at the rate of large steps.
LAYER_SECONDS = 3e-3
# The same of a step of the engine, which is a forward pass.
PASS_SECONDS = {"cpu": LAYER_SECONDS / 3, "cuda": beside.LAUNCHES}
STATE_BYTES = 12  # a parameter's weight and two moments, fp32
# Of a CPU, measured (benchmarks/memory.py). malloc keeps what is freed (`dist.devices`) and finds
# no hole of its size for a quarter of the activations; where layers are recomputed, their first
# pass leaves holes of two layers. The first step brings in MKL's buffers and code of kernels.
HOLES, HELD_LAYERS = 0.25, 2
LIBRARIES = 50 * 2**20


class Training(Protocol):
    """The knobs of a training stage that its figures depend on."""

    micro_tokens: int
    optim: Optim
    loop: Loop
    seed: int
    device: str
    dtype: Literal["auto", "bfloat16", "float32"]
    threads: int | None

    @property
    def save_dtype(self) -> Literal["bfloat16", "float32"]:
        """Of the written weights."""

    @property
    def parallel(self) -> Parallel:
        """Or one with more knobs."""


def figures(work: Work, config: Training) -> dict[str, str | int]:
    """Parameters, FLOPs, disk, memory and time of what is to be trained, on one device.

    Where the device of `config` is not here, it says so in the place of memory and time.
    Raises UserError where the model does not divide among ranks as `parallel` has it.
    """
    shape = work.shape
    config.parallel.fits(shape)
    weights = count.parameters(shape)
    saved = getattr(torch, config.save_dtype).itemsize * weights.total
    state = STATE_BYTES * weights.total * (config.loop.keep + 2)  # the best, one being written
    told: dict[str, str | int] = {
        "parameters": weights.total,
        "parameters without embeddings": weights.non_embedding,
    }
    if shape.is_moe:
        told["parameters active per token"] = weights.active
    told["disk"] = f"{_bytes(saved)}, and {_bytes(state)} while it runs"
    if work.tokens is not None:
        told |= {"steps": work.steps or 0, "tokens": work.tokens}
        told["FLOPs"] = f"{work.flops_per_token * work.tokens:.3g}"
    if work.trees is not None:
        told[work.trees.what] = work.trees.total
    if work.rollout is not None:
        told["answers"] = (work.steps or 0) * work.rollout.prompts * work.rollout.samples
    try:
        with dist.session(config.device, config.dtype, config.seed, config.threads) as world:
            return told | _on(world, work, config)
    except UserError as error:
        return told | {"memory, time": f"unknown: {error}"}


def together(
    flops: float,
    layers: int,
    device: str,
    dtype: str,
    threads: int | None,
    workers: int,
    elsewhere: bool = False,
) -> str:
    """The time of many small runs by `workers`; `layers`: those of every step of all.

    elsewhere: each has a device like this machine's to itself; else they share this machine.
    """
    try:
        with dist.session(device, dtype, threads=threads, alone=True) as world:
            rate, cpu = peak_flops(world), world.device.type == "cpu"
    except UserError as error:
        return f"unknown: {error}"
    seconds = flops / (MFU * rate) + cpu * layers * LAYER_SECONDS
    room = (os.cpu_count() or 1) if cpu else 1
    at_once = workers if elsewhere else min(workers, room)
    return (
        f"{_duration(seconds / at_once)} on {at_once} at a time, {_duration(seconds)} of one: "
        f"{MFU:.0%} of {rate / 1e9:,.0f} GFLOP/s"
        + (f", and {1e3 * LAYER_SECONDS:.0f} ms for each layer of a step" if cpu else "")
    )


def _on(world: World, work: Work, config: Training) -> dict[str, str | int]:
    """Memory on the device of `world`, and time, where the tokens are known."""
    held = _memory(world, work, config)
    parts = ", ".join(f"{part / 2**30:.2f} {name}" for name, part in held.items() if part)
    told: dict[str, str | int] = {"memory": f"{_bytes(sum(held.values()))}: {parts}"}
    if work.tokens:
        rate, device = peak_flops(world), world.device.type
        seconds = work.flops_per_token * work.tokens / (MFU * rate)
        least = ""
        if work.rollout is not None:
            passes = (work.steps or 0) * work.rollout.steps(1) // work.rollout.updates
            calls = passes * work.shape.num_hidden_layers * PASS_SECONDS[device]
            least = f", and {_duration(calls)} to call the {passes:,} forward passes of rollouts"
        told["time"] = (
            f"{_duration(seconds)} at {MFU:.0%} of this {device}'s {rate / 1e9:,.0f} GFLOP/s{least}"
        )
    return told


def _memory(world: World, work: Work, config: Training) -> dict[str, int]:
    """Bytes of one process at its peak, by what holds them."""
    recompute, tokens = config.parallel.activation_checkpointing, config.micro_tokens
    spread = Spread(context=config.parallel.layout.context)
    accumulate = work.tokens_per_step > tokens
    told = resident(work.shape, spread, tokens, world, recompute, accumulate)
    told |= beside.held(work, Spread(), 1, world.dtype.itemsize)
    if world.device.type == "cpu":
        told["a checkpoint under way"] = told["weights"] + told["moments"]
        told["the program itself"] = peak_memory(world.device) + LIBRARIES
    return told


def resident(
    shape: ModelConfig,
    spread: Spread,
    tokens: int,
    world: World,
    recompute: bool,
    accumulate: bool,
) -> dict[str, int]:
    """Bytes that steps take on the device of `world`, as `memory.peak`, and those between them."""
    how = kernels(shape.vocab_size, world)
    held = memory.peak(shape, spread, tokens, how, recompute=recompute, accumulate=accumulate)
    if world.device.type == "cpu":
        layers = replace(shape, num_hidden_layers=1)
        once = memory.activations(layers, spread, tokens, how) if recompute else 0
        held["freed and not reused"] = round(HOLES * held["activations"]) + HELD_LAYERS * once
    return held


def kernels(vocabulary: int, world: World) -> Kernels:
    """How one process computes on the device of `world`."""
    size, chunk = world.dtype.itemsize, chunk_tokens(vocabulary, world.device)
    if world.device.type == "cuda":
        return Kernels(size, chunk=chunk, sharded=False)
    # `compiled.py` makes SwiGLU one pass; in fp32 `chunked.py` recomputes it, by chunks of tokens.
    chunked = size == 4
    width, passing = (2, 0) if chunked else (3, 3)
    return Kernels(size, width, passing, chunk, sharded=False, reuses=False)


def _bytes(number: float) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**28 else f"{number / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
