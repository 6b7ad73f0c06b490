"""A paged key-value cache: blocks of a fixed size, which sequences share and give back.

    cache = PagedCache(config, blocks=64, block_size=16, device="cpu", dtype=torch.float32)
    layout = Layout.of(tables, done=[0], counts=[5], block_size=16, device="cpu")
    model(tokens, cache=Step(cache, layout))             # tokens [1, 5]

Which sequence owns which blocks is not known here: `engine.blocks` keeps those books.

N tokens of a step, L layers, K key heads, H query heads, D head size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from baiwen.model import count, dca, kernels, rope
from baiwen.model.config import ModelConfig
from baiwen.model.dca import Choose, Turns
from baiwen.model.layout import Layout
from baiwen.model.pages import Scales


class PagedCache:
    """Keys and values by block, one slab a layer: fp32, bf16, or int8 with scales."""

    def __init__(
        self,
        config: ModelConfig,
        blocks: int,
        block_size: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        self.config, self.block_size = config, block_size
        layers, heads, size = (
            config.num_hidden_layers,
            config.num_key_value_heads,
            config.head_dim,
        )
        shape = (layers, 2, blocks, block_size, heads, size)
        self.slabs = zeros(shape, torch.device(device), dtype)
        self.scales: Tensor | None = None  # what int8 codes are times, of each token and head
        if dtype == torch.int8:
            self.scales = zeros(shape[:-1], torch.device(device), torch.float32)
        self._layers = [(slab[0], slab[1]) for slab in self.slabs]

    def layer(self, number: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, each [blocks, block_size, K, D]."""
        return self._layers[number]

    def scales_of(self, layer: int) -> Scales | None:
        """Scales of the keys and values of a layer, each [blocks, block_size, K], if it has any."""
        return None if self.scales is None else (self.scales[layer, 0], self.scales[layer, 1])

    @torch.no_grad()
    def store(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Put k and v [N, K, D] into the slots [N] (block * block_size + offset) of a layer."""
        scales = self.scales_of(layer) or (None, None)
        for slab, fresh, scale in zip(self.layer(layer), (k, v), scales, strict=True):
            kernels.store(fresh, slab, slots, scale)

    def copy(self, sources: Mapping[int, int]) -> None:
        """Fill each block with what another holds, in every layer: {target: source}."""
        if sources:
            pairs = torch.tensor(list(sources.items()), device=self.slabs.device)
            for kept in (self.slabs, self.scales):
                if kept is not None:
                    kept[:, :, pairs[:, 0]] = kept[:, :, pairs[:, 1]]


@dataclass(frozen=True)
class Step:
    """What one forward sees of the cache: the `cache=` of the model."""

    cache: PagedCache
    layout: Layout
    choose: Choose | None = None  # None: chunks of prompts see every key before them

    def tables(self, tokens: int) -> tuple[Tensor, Tensor]:
        """The rotary tables [1, N, 1, D] of the step's tokens."""
        positions = self.layout.positions[None]  # [1, N]
        assert tokens == positions.shape[1]
        config = self.cache.config
        if config.dual_chunk_attention_config is not None:
            positions = positions % config.dual_chunk_attention_config.length
        return rope.tables(config, positions, self.layout.rope)

    @cached_property
    def turns(self) -> Turns | None:
        """How queries turn further for keys of older chunks; None where there are none."""
        config = self.cache.config
        chunks = config.dual_chunk_attention_config
        if chunks is None or self.layout.totals.max() <= chunks.length:
            return None
        return dca.turns(config, self.layout.positions, self.layout.rope)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k and v [1, N, K, D]; let q [1, N, H, D] see all of its sequence up to itself."""
        self.cache.store(layer, self.layout.slots, k[0], v[0])
        return self.read(layer, q[0])[None]

    def read(self, layer: int, q: Tensor) -> Tensor:
        """What q [N, H, D] sees of its sequences, where the step's keys are stored already."""
        choose = self.choose and partial(self.choose, layer)
        scales = self.cache.scales_of(layer)
        return kernels.paged(q, *self.cache.layer(layer), self.layout, self.turns, choose, scales)


def bytes_per_token(config: ModelConfig, dtype: torch.dtype) -> int:
    """What a token takes in the cache."""
    return count.cache_bytes_per_token(config, dtype.itemsize)


def zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros, because a key behind the mask still meets the softmax's 0, and NaN * 0 is NaN.

    On a CPU the pages come from calloc: a block takes no memory until it is first written.
    """
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    return torch.from_numpy(np.zeros(size, np.uint8)).view(dtype).view(shape)
