"""How much an engine can hold: tokens of one sequence, tokens of its cache.

longest(config)                                # 32768
affordable(size, device, longest=32768, sequences=64)
check(size, device, context=131072)            # UserError with the figures where that is too much

size: bytes of the keys and values of a token.
"""

import os
import re
from pathlib import Path
from typing import Literal

import torch

from baiwen.errors import UserError
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Model

KV = Literal["fp32", "bf16", "int8"]  # how keys and values may be kept
KEPT: dict[KV, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "int8": torch.int8,  # with a scale for each token and head
}
ROOM = 2048  # tokens a sequence that a cache has room for, if memory allows
SHARE = {"cpu": 0.25, "cuda": 0.8}  # of the free memory, at most
ASKED = 0.9  # the same for a context that somebody asks for
GIB = 2**30


def trained(config: ModelConfig) -> int:
    """Tokens of the texts that the model was trained on, at most."""
    yarn, chunks = config.rope_scaling, config.dual_chunk_attention_config
    if chunks is not None:
        return chunks.original_max_position_embeddings
    return yarn.original_max_position_embeddings if yarn else config.max_position_embeddings


def longest(config: ModelConfig) -> int:
    """Tokens that the model reads as its config.json says, by YaRN or dual chunk attention too."""
    yarn = config.rope_scaling
    stretched = yarn.factor * yarn.original_max_position_embeddings if yarn else 0
    return max(config.max_position_embeddings, trained(config), int(stretched))


def kept(model: Model, kv: KV | None) -> torch.dtype:
    """How a model's keys and values are kept: as its weights, unless told."""
    if kv is None:
        return model.model.embed_tokens.weight.dtype
    if kv not in KEPT:
        raise UserError(f"kv = {kv!r} is none of {', '.join(KEPT)}")
    return KEPT[kv]


def affordable(size: int, device: torch.device, longest: int, sequences: int) -> int:
    """Tokens whose keys and values fit: room for all sequences, as far as memory goes."""
    share = int(SHARE[device.type] * free(device))
    return min(share // size, max(longest, sequences * ROOM))


def check(size: int, device: torch.device, context: int, weights: int = 0) -> None:
    """UserError where the free memory does not hold a context beside `weights` bytes."""
    room = free(device)
    if size * context + weights <= ASKED * room:
        return
    most = max(int(ASKED * room - weights) // size, 0)
    beside = f" and {weights / GIB:.1f} GiB of weights" if weights else ""
    raise UserError(
        f"a context of {context:,} tokens takes {size * context / GIB:.1f} GiB of keys and values "
        f"({size / 1024:.1f} KiB a token){beside}, and {room / GIB:.1f} GiB of memory are free: "
        f"{most:,} tokens would fit"
    )


def free(device: torch.device) -> int:
    """Bytes of memory that can be had on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _free()


def _free(told: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory that can be had: on Linux also those that only cache files."""
    try:
        found = re.search(r"^MemAvailable: *(\d+) kB$", told.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is None:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(found[1]) * 1024
