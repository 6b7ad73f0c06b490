"""Devices and precision: what this process computes on, and how it draws.

On a CPU with AVX512-BF16 or AMX, matmuls run in bf16 autocast over fp32 weights (2.7-3.7x the rate
of fp32, measured), elsewhere in fp32: `fast_bf16` asks the CPU's feature flags, so the same machine
always chooses alike.
"""

import ctypes
import os
import random
from contextlib import suppress

import numpy as np
import torch

from baiwen.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def place(device: str = "auto", dtype: str = "auto") -> tuple[torch.device, torch.dtype]:
    """Where and in what precision this process computes alone; the names are those of `session`."""
    return choose(device, dtype, int(os.environ.get("LOCAL_RANK", "0")), size=1)


def fast_bf16() -> bool:
    """Say whether this CPU multiplies bf16 in hardware (AVX512-BF16 or AMX)."""
    probes = (
        "_is_avx512_bf16_supported",
        "_is_amx_tile_supported",
    )  # private names, so asked gently
    return any(getattr(torch.cpu, name, bool)() for name in probes)


def choose(device: str, dtype: str, local_rank: int, size: int) -> tuple[torch.device, torch.dtype]:
    """Device and precision of this rank; UserError where there is none such here."""
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


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed memory instead of returning it to the system.

    A training step frees and takes the same large tensors over and over; giving each back costs a
    page fault for every 4 KiB of the next one, 3 % of a step's CPU time (`benchmarks/kernels.py`).
    """
    with suppress(OSError, AttributeError):  # another libc keeps its own ways
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def seed_all(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
