"""How fast a run goes: tokens a second, share of the device's peak, memory; and no pauses.

    meter = Meter(world, flops_per_token=6.1e7)
    with steady():                            # the garbage collector waits for checkpoints
        meter.start()
        ...                                   # a step
        meter.read(tokens=8192)               # {"seconds": 1.6, "mfu": 0.41, ...}

MFU is the model's own FLOPs (no recomputation counted) of the real tokens, over what this device
reaches in a large matmul of the run's dtype, measured when the run starts: a share of what matmul
gives here, not of a data sheet.
"""

import gc
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from baiwen.dist import World

PROBE_SIDE = {"cpu": 1024, "cuda": 8192}  # side of the square matrices of the probe
PROBE_SECONDS = 0.1


class Meter:
    """A clock and the figures of the device it runs on."""

    def __init__(self, world: World, flops_per_token: float) -> None:
        self.world, self.flops_per_token = world, flops_per_token
        self.peak = peak_flops(world)  # of one rank
        self._began = time.perf_counter()

    def describe(self) -> dict[str, Any]:
        """What the figures are relative to, as plain values: for the report."""
        device = self.world.device
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        return {
            "device": kind,
            "ranks": self.world.size,
            "threads": torch.get_num_threads(),
            "dtype": str(self.world.dtype).removeprefix("torch."),
            "peak_flops": self.peak,
            "flops_per_token": self.flops_per_token,
        }

    def start(self) -> None:
        """Begin a step."""
        self._began = time.perf_counter()

    def read(self, tokens: float) -> dict[str, float]:
        """Figures of the step that began last; `tokens` are its real ones, over all ranks."""
        seconds = time.perf_counter() - self._began
        rate = tokens / seconds
        return {
            "seconds": seconds,
            "tokens_per_second": rate,
            "mfu": rate * self.flops_per_token / (self.peak * self.world.size),
            "memory": peak_memory(self.world.device),
        }


def peak_flops(world: World) -> float:
    """FLOP/s of square matmuls in the run's dtype on this rank, the best of a tenth of a second.

    Measured once in a process, which may train many models.
    """
    return _peak(world.device, world.dtype, torch.get_num_threads())


@cache
def _peak(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    side = PROBE_SIDE[device.type]
    factor = torch.ones(side, side, dtype=dtype, device=device)
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < PROBE_SECONDS:
        best = min(best, _seconds(factor, threads))
    return 2 * side**3 / best


def _seconds(factor: torch.Tensor, threads: int) -> float:
    """Of one matmul; on a CPU those that its threads worked, whatever else the machine does."""
    if factor.is_cuda:
        torch.cuda.synchronize()
        start = time.perf_counter()
        factor @ factor
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    factor @ factor
    return (time.process_time() - start) / threads


def peak_memory(device: torch.device) -> int:
    """Most bytes this process has held so far: of the GPU, or of its address space in memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # Linux's ru_maxrss begins with the parent's, across fork and exec
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


@contextmanager
def steady() -> Iterator[None]:
    """Keep the garbage collector from pausing steps: what exists is left out, the rest waits."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
