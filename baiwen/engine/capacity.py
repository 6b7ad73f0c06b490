"""How much an engine can hold: tokens of one sequence, tokens of its cache.

longest(config)                                # 32768
affordable([model], longest=32768, sequences=64)
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from baiwen.model.config import ModelConfig
from baiwen.model.paged import bytes_per_token
from baiwen.model.transformer import Transformer

ROOM = 2048  # tokens a sequence that a cache has room for, if memory allows
SHARE = {"cpu": 0.25, "cuda": 0.8}  # of the free memory, at most


def longest(config: ModelConfig) -> int:
    """Tokens for which the model's attention is exact."""
    if config.longest_input is not None:
        return config.longest_input
    yarn = config.rope_scaling
    stretched = yarn.factor * yarn.original_max_position_embeddings if yarn else 0
    return max(config.max_position_embeddings, int(stretched))


def affordable(models: Sequence[Transformer], longest: int, sequences: int) -> int:
    """Tokens whose keys and values fit: room for all sequences, as far as memory goes."""
    weights = [model.model.embed_tokens.weight for model in models]
    size = sum(
        bytes_per_token(model.config, weight.dtype)
        for model, weight in zip(models, weights, strict=True)
    )
    device = weights[0].device
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = _free()
    return min(int(SHARE[device.type] * free) // size, max(longest, sequences * ROOM))


def _free(told: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory that can be had: on Linux also those that only cache files."""
    try:
        found = re.search(r"^MemAvailable: *(\d+) kB$", told.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is None:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(found[1]) * 1024
