"""Processes and devices: one process, or the many that torchrun starts, behind one record.

    with session(seed=1) as world:
        model.to(world.device)
        with world.autocast():
            loss = ...
        total = sum_over(world, loss.detach())

gloo joins CPU processes, NCCL those on GPUs. On a CPU with AVX512-BF16 or AMX, matmuls run in bf16
autocast over fp32 weights (2.7-3.7x the rate of fp32, measured), elsewhere in fp32: `fast_bf16`
asks the CPU's feature flags, so the same machine always chooses alike.
"""

import ctypes
import itertools
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from baiwen.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
PAUSE = 0.05  # seconds between two looks at whether all ranks have come to a barrier
RANKS = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}  # set by torchrun; else a lone process
SESSIONS = itertools.count()  # of this process; every rank opens them in the same order
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class World:
    """This process among its peers, and where and in what precision it computes."""

    rank: int
    size: int
    local_rank: int
    device: torch.device
    dtype: torch.dtype  # of matmuls under `autocast`; weights stay in their own
    mesh: DeviceMesh | None  # one dimension, "data", over all ranks; None in a single process
    store: torch.distributed.Store | None = None  # of words between the ranks; None as for mesh
    context: int = 1  # neighbouring ranks that share each row: its tokens are spread over them
    group: torch.distributed.ProcessGroup | None = None  # of those; None where none are shared

    @property
    def main(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def share(self) -> int:
        """Which share of a step's rows this rank reads; ranks that share rows read the same."""
        return self.rank // self.context

    @property
    def shares(self) -> int:
        """Into how many shares the rows of a step are divided."""
        return self.size // self.context

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
    context: int = 1,
) -> Iterator[World]:
    """Join the processes of torchrun (or stay alone), seed the generators, choose device and dtype.

    device: auto | cpu | cuda | cuda:N; dtype: auto | float32 | bfloat16. `threads` bounds torch's
    CPU threads; `timeout` is how many seconds a rank waits in a collective for a silent peer before
    it fails (at a `barrier` it waits for as long as it takes); `context` ranks share each row.
    Every rank gets the same seed: what must differ by rank is derived from (seed, step, rank).
    """
    rank, size, local_rank = (int(os.environ.get(name, alone)) for name, alone in RANKS.items())
    place, precision = _place(device, dtype, local_rank, size)
    if size % context:
        raise UserError(
            f"parallel.context = {context} ranks share each row, but there are {size}: start "
            f"a multiple of {context} with torchrun --nproc-per-node, or change the knob"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    if place.type == "cpu":
        _keep_freed_memory()
    else:
        torch.cuda.set_device(place)
        torch.set_float32_matmul_precision("high")  # TF32 for what stays in fp32
    _seed(seed)
    mesh, store = _join(place, size, timeout) if size > 1 else (None, None)
    group = _neighbours(context, timeout) if context > 1 else None
    world = World(rank, size, local_rank, place, precision, mesh, store, context, group)
    yield world
    # Only on a clean end: after an exception a peer may hang in a collective, and leaving the group
    # would wait for it; the exit of the process is what tells torchrun.
    if mesh is not None:
        barrier(world)  # rank 0 may be writing what the run has made
        # Gloo's threads free the tensors of a collective a moment after it, and abort the process
        # if the interpreter ends in that moment; its barrier has none, and outlasts the others.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def sum_over(world: World, tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of `tensor` over all ranks, on each of them; the argument stays as it is."""
    if world.size == 1:
        return tensor
    total = tensor.detach().clone()
    torch.distributed.all_reduce(total)
    return total


def gather(world: World, value: Any) -> list[Any]:  # noqa: ANN401
    """The JSON values of all ranks in their order, on each of them."""
    if world.size == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    here = torch.from_numpy(data.copy()).to(world.device)
    sizes = here.new_zeros(world.size, dtype=torch.int64)
    sizes[world.rank] = len(here)
    sizes = sum_over(world, sizes)
    padded = here.new_zeros(int(sizes.max()))
    padded[: len(here)] = here
    parts = [torch.empty_like(padded) for _ in range(world.size)]
    torch.distributed.all_gather(parts, padded)
    return [
        json.loads(part[:size].cpu().numpy().tobytes())
        for part, size in zip(parts, sizes.tolist(), strict=True)
    ]


def barrier(world: World) -> None:
    """Wait until every rank is here, however long one of them takes to read or write.

    The ranks count themselves in the store of the session: a collective would fail after its
    timeout. If a rank dies, torchrun ends those that wait for it.
    """
    if world.store is None:
        return
    turn = world.store.add(f"barriers of rank {world.rank}", 1)
    opened = f"barrier {turn} is open"
    if world.store.add(f"ranks at barrier {turn}", 1) == world.size:
        world.store.set(opened, "")
    while not world.store.check([opened]):
        time.sleep(PAUSE)


def place(device: str = "auto", dtype: str = "auto") -> tuple[torch.device, torch.dtype]:
    """Where and in what precision this process computes alone; the names are those of `session`."""
    return _place(device, dtype, int(os.environ.get("LOCAL_RANK", "0")), size=1)


def fast_bf16() -> bool:
    """Say whether this CPU multiplies bf16 in hardware (AVX512-BF16 or AMX)."""
    probes = (
        "_is_avx512_bf16_supported",
        "_is_amx_tile_supported",
    )  # private names, so asked gently
    return any(getattr(torch.cpu, name, bool)() for name in probes)


def _place(device: str, dtype: str, local_rank: int, size: int) -> tuple[torch.device, torch.dtype]:
    found = _device(device, local_rank, size)
    return found, _dtype(dtype, found)


def _device(name: str, local_rank: int, size: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or not (index.isdigit() or name == "cuda"):
        raise UserError(f"device = {name!r} is unknown; it is one of auto, cpu, cuda, cuda:N")
    if index and size > 1:
        raise UserError(
            f"device = {name!r}: under torchrun each rank takes its own GPU; use 'cuda'"
        )
    number, there = int(index or local_rank), torch.cuda.device_count()
    if number >= there:
        raise UserError(
            f"device = {name!r}: there is no GPU {number} here ({there} found); use 'cpu'"
        )
    return torch.device("cuda", number)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else fast_bf16()
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise UserError(f"dtype = {name!r} is unknown; it is one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def _keep_freed_memory() -> None:
    """Tell glibc to reuse freed memory instead of returning it to the system.

    A training step frees and takes the same large tensors over and over; giving each back costs a
    page fault for every 4 KiB of the next one, 3 % of a step's CPU time (`benchmarks/kernels.py`).
    """
    with suppress(OSError, AttributeError):  # another libc keeps its own ways
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _join(
    device: torch.device, size: int, timeout: float
) -> tuple[DeviceMesh, torch.distributed.Store]:
    patience = timedelta(seconds=timeout)
    meeting, rank = _meet(patience)
    # Without a prefix of its own a second session would read the words of the first.
    store = torch.distributed.PrefixStore(f"session-{next(SESSIONS)}", meeting)
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=patience,
        device_id=device if device.type == "cuda" else None,
    )
    return init_device_mesh(device.type, (size,), mesh_dim_names=("data",)), store


def _neighbours(ranks: int, timeout: float) -> torch.distributed.ProcessGroup:
    group, _ = torch.distributed.new_subgroups(ranks, timeout=timedelta(seconds=timeout))
    assert group is not None
    return group


@cache
def _meet(patience: timedelta) -> tuple[torch.distributed.Store, int]:
    """Find torchrun's store and this process's rank, once a process: it outlives the sessions."""
    store, rank, _ = next(torch.distributed.rendezvous("env://", timeout=patience))
    return store, rank
