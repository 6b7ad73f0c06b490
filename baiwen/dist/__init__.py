"""Processes and devices: one process, or the many that torchrun starts, behind one record.

layout     Layout, Meshes: how ranks divide rows, tokens, weights and experts
store      where the words of a job are kept, and how a rank gets there
meeting    where ranks find each other: who is here, who has not come
watch      who died or stands still, and the end of the others
devices    place, fast_bf16: what this process computes on
crew       Crew, Placed: workers that Ray places, here and on other machines

    with session(seed=1) as world:
        model.to(world.device)
        with world.autocast():
            loss = ...
        total = sum_over(world, loss.detach())

gloo joins CPU processes, NCCL those on GPUs.
"""

import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch.distributed import ProcessGroup, Store

from baiwen.dist.devices import choose, fast_bf16, keep_freed_memory, place, seed_all
from baiwen.dist.layout import Layout, Meshes
from baiwen.dist.meeting import meet
from baiwen.dist.verdict import BARRIER, SLOWER
from baiwen.dist.watch import Watch

__all__ = (
    "Layout", "Meshes", "World", "agreed", "barrier", "catch_up", "fast_bf16", "gather", "place",
    "session", "sum_all", "sum_over",
)  # fmt: skip

# Seconds between two looks at whether all ranks have come to a barrier: at first, and at most, so
# that rank 0's store has a thousand answers a second to give where a thousand ranks wait for long.
PAUSES = 0.02, 1.0
RANKS = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}  # set by torchrun; else a lone process
WHOLE = Layout()  # that divides nothing
SESSIONS = itertools.count()  # of this process; every rank opens them in the same order


@dataclass(frozen=True)
class World:
    """This process among its peers, and where and in what precision it computes."""

    rank: int
    size: int
    device: torch.device
    dtype: torch.dtype  # of matmuls under `autocast`; weights stay in their own
    layout: Layout = WHOLE
    meshes: Meshes | None = None  # None in a single process
    store: Store | None = None  # of words between the ranks; None as for meshes
    watch: Watch | None = None  # over the ranks; None as for meshes

    @property
    def main(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def share(self) -> int:
        """Which share of a step's rows this rank reads; ranks that share rows read the same."""
        return self.rank // (self.layout.context * self.layout.tensor)

    @property
    def shares(self) -> int:
        """Into how many shares the rows of a step are divided."""
        return self.size // (self.layout.context * self.layout.tensor)

    @property
    def context(self) -> ProcessGroup | None:
        """The ranks that share this one's rows, each with tokens of its own; None without any."""
        if self.meshes is None or self.layout.context == 1:
            return None
        return self.meshes.rows.get_group("context")

    def at(self, what: str, step: int | None = None) -> None:
        """Note what this process does from here on: what others are told if it stands still."""
        if self.watch is not None:
            self.watch.at(what, step)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass: bf16 autocast where dtype is bf16, else nothing."""
        if self.dtype == torch.bfloat16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


@contextmanager
def session(
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
    threads: int | None = None,
    timeout: float = 600.0,
    layout: Layout = WHOLE,
    alone: bool = False,
) -> Iterator[World]:
    """Join the processes of torchrun (or stay alone), seed the generators, choose device and dtype.

    device: auto | cpu | cuda | cuda:N; dtype: auto | float32 | bfloat16. `threads` bounds torch's
    CPU threads; `timeout` is how many seconds a rank waits in a collective for one that stands
    still before the watch ends the job (at a `barrier` as long as it takes); `layout` divides the
    work; `alone` stays alone under torchrun too, on this rank's device. Every rank gets the same
    seed: what must differ by rank is derived from (seed, step, rank).
    """
    rank, size, local_rank = (int(os.environ.get(name, lone)) for name, lone in RANKS.items())
    if alone:
        rank, size = 0, 1
    place, precision = choose(device, dtype, local_rank, size)
    layout.check(size)
    if threads is not None:
        torch.set_num_threads(threads)
    if place.type == "cpu":
        keep_freed_memory()
    else:
        torch.cuda.set_device(place)
        torch.set_float32_matmul_precision("high")  # TF32 for what stays in fp32
    seed_all(seed)
    if size == 1:
        yield World(rank, size, place, precision, layout)
        return
    with _joined(place, timeout) as (store, watch):
        meshes = Meshes.of(layout, place.type, size)
        world = World(rank, size, place, precision, layout, meshes, store, watch)
        yield world
        barrier(world)  # rank 0 may be writing what the run has made


def sum_over(world: World, tensor: torch.Tensor) -> torch.Tensor:
    """The sum of `tensor` over all ranks that have other tokens, on each; the argument stays.

    Ranks that share matrices have the same tokens, and count once.
    """
    return tensor if world.meshes is None else _sum(tensor, world.meshes.peers.get_group("rows"))


def sum_all(world: World, tensor: torch.Tensor, group: ProcessGroup | None = None) -> torch.Tensor:
    """The sum of `tensor` over all ranks, or over those of `group`; the argument stays.

    Of what is counted in the middle of a block, where ranks that share matrices share tokens too.
    """
    return tensor if world.meshes is None else _sum(tensor, group)


def _sum(tensor: torch.Tensor, group: ProcessGroup | None) -> torch.Tensor:
    total = tensor.detach().clone()
    torch.distributed.all_reduce(total, group=group)
    return total


def gather(world: World, value: Any) -> list[Any]:  # noqa: ANN401
    """The JSON values of all ranks in their order, on each of them."""
    if world.size == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    here = torch.from_numpy(data.copy()).to(world.device)
    sizes = here.new_zeros(world.size, dtype=torch.int64)
    sizes[world.rank] = len(here)
    torch.distributed.all_reduce(sizes)
    padded = here.new_zeros(int(sizes.max()))
    padded[: len(here)] = here
    parts = [torch.empty_like(padded) for _ in range(world.size)]
    torch.distributed.all_gather(parts, padded)
    return [
        json.loads(part[:size].cpu().numpy().tobytes())
        for part, size in zip(parts, sizes.tolist(), strict=True)
    ]


def agreed(world: World, *flags: bool) -> list[bool]:
    """Each flag as true where any rank raised it, so that all ranks act alike."""
    if world.size == 1:
        return list(flags)
    raised = torch.tensor(flags, device=world.device).int()
    torch.distributed.all_reduce(raised)
    return (raised > 0).tolist()


def barrier(world: World) -> None:
    """Wait until every rank is here, however long one of them takes to read or write.

    If a rank dies, the watch ends those that wait for it.
    """
    _wait(world, BARRIER)


def catch_up(world: World) -> None:
    """Wait until every rank is here, as long as those that are not make marks (`progress.mark`).

    Before a collective after work that takes ranks unlike times, as rollouts do: it would fail
    after its own timeout. The watch ends the job where a rank makes no mark for `timeout` seconds.
    """
    _wait(world, SLOWER)


def _wait(world: World, what: str) -> None:
    """The ranks count themselves in the store of the session."""
    if world.store is None:
        return
    assert world.watch is not None
    before = world.watch.doing
    world.watch.arrive(what)
    turn = world.store.add(f"barriers of rank {world.rank}", 1)
    opened = f"barrier {turn} is open"
    if world.store.add(f"ranks at barrier {turn}", 1) == world.size:
        world.store.set(opened, "")
    pause, longest = PAUSES
    while not world.store.check([opened]):
        time.sleep(pause)
        pause = min(1.2 * pause, longest)
    world.at(before)


@contextmanager
def _joined(device: torch.device, timeout: float) -> Iterator[tuple[Store, Watch]]:
    """The process group of all ranks under a watch; left by a collective, or for a reason told."""
    meeting = meet()
    # Without a prefix of its own a second session would read the words of the first.
    store = torch.distributed.PrefixStore(f"session-{next(SESSIONS)}", meeting.store)
    watch = Watch(meeting, store, timeout)
    watch.start()
    try:
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=meeting.rank,
            world_size=len(meeting.members),
            # The watch comes first: it knows whose fault it is. The backend's error is for a fault
            # that only it can see, as a GPU that hangs after all ranks have begun a collective.
            timeout=timedelta(seconds=2 * timeout + 60),
            device_id=device if device.type == "cuda" else None,
        )
        yield store, watch
    except BaseException as error:
        # After an exception a peer may hang in a collective, and leaving the group would wait for
        # it; the exit of the process is what tells torchrun.
        watch.leave(error)
        raise
    watch.rest()
    # Gloo's threads free the tensors of a collective a moment after it, and abort the process
    # if the interpreter ends in that moment; its barrier has none, and outlasts the others.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
