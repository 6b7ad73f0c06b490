"""A side under torchrun: seconds of the loop's steps by layout, and what the ranks exchange.

    torchrun --nproc-per-node 2 -m benchmarks.sides.baiwen_clock '{"layouts": [...], ...}'

Rank 0 prints a line of JSON: the rate of a rank's matmuls, of its copies and of collectives, the
seconds of a step of each rank alone (both at once, so that they share the machine as they will),
and those of each layout.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from baiwen import dist
from baiwen.dist import Layout, World
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.train.context import share
from baiwen.train.guard import Guard
from baiwen.train.loop import advance
from baiwen.train.losses import lm
from baiwen.train.meter import peak_flops, steady
from baiwen.train.optim import Optim, build
from baiwen.train.parallel import ContextParallel, shard
from benchmarks.sides.baiwen_memory import batch

SESSION = {"device": "cpu", "dtype": "float32", "threads": 1}
BYTES = 32 * 2**20  # of an exchange whose rate is measured


def main(settings: dict[str, Any]) -> None:
    """All measurements, one after another."""
    with dist.session(**SESSION) as world, steady():
        alone = World(0, 1, world.device, world.dtype)
        found: dict[str, Any] = {
            "flops": peak_flops(alone),
            "copies": _copies(),
        } | _exchanged(world)
        torch.distributed.barrier()
        found["alone"] = {
            size: _slowest(world, _seconds(alone, size, settings)) for size in settings["sizes"]
        }
    found["layouts"] = [_laid_out(size, parts, settings) for size, parts in settings["layouts"]]
    if world.main:
        print(json.dumps(found), flush=True)


def _laid_out(size: str, parts: dict[str, int], settings: dict[str, Any]) -> float:
    """Seconds of a step of all ranks together."""
    with dist.session(**SESSION, layout=Layout(**parts)) as world, steady():
        return _slowest(world, _seconds(world, size, settings))


def _seconds(world: World, size: str, settings: dict[str, Any]) -> float:
    """The fastest step, after one that is not counted."""
    shape = replace(SIZES[size], **settings["change"].get(size, {}))
    knobs = ContextParallel(**vars(world.layout))
    model = Transformer(shape)
    model.init_weights()
    shard(model, knobs, world)
    optim, guard = Optim(), Guard(max_skipped=10, skip_spikes=False)
    optimizers = build(model, optim)
    rows = [share(batch(shape.vocab_size, settings), knobs.context_form, world)]
    taken = []
    for _ in range(settings["steps"] + 1):
        began = time.perf_counter()
        advance(model, rows, lm, optimizers, guard, world, optim)
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def _slowest(world: World, seconds: float) -> float:
    return max(dist.gather(world, seconds))


def _copies() -> float:
    """Bytes that are read and written a second."""
    source = torch.ones(2**25)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - began)
    return 2 * source.nbytes / best


def _exchanged(world: World) -> dict[str, float]:
    """Bytes a second that a rank sends in a collective of each kind; seconds of one of no size."""

    def best(collective: Callable[[Tensor, Tensor], object], *sizes: int) -> float:
        out, given = (torch.ones(size) for size in sizes)
        fastest = float("inf")
        for _ in range(9):
            torch.distributed.barrier()
            began = time.perf_counter()
            collective(out, given)
            fastest = min(fastest, _slowest(world, time.perf_counter() - began))
        return fastest

    whole, part = BYTES // 4, BYTES // 4 // world.size
    sent = BYTES * (world.size - 1) / world.size
    return {
        "hop": best(torch.distributed.all_gather_into_tensor, world.size, 1) / (world.size - 1),
        "gathers": sent / best(torch.distributed.all_gather_into_tensor, whole, part),
        "sums": sent / best(torch.distributed.reduce_scatter_tensor, part, whole),
        "swaps": sent / best(torch.distributed.all_to_all_single, whole, whole),
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
