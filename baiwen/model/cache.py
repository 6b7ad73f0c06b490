"""A contiguous key-value cache: one slab a layer, rows of different lengths.

    cache = Cache.build(config, rows=2, size=64, device="cpu", dtype=torch.float32)
    model(prompts, cache=cache)            # [2, T], padded on the right
    cache.truncate(lengths)                # forgets the padding
    model(tokens, cache=cache)             # [2, 1], at the place where each row ends

B rows, T tokens of this forward, S places, H query heads, K key heads, D head size.
"""

import torch
from torch import Tensor

from baiwen.errors import UserError
from baiwen.model import kernels
from baiwen.model.config import ModelConfig


class Cache:
    """Keys and values of the tokens seen so far, and how many each row has."""

    def __init__(self, keys: list[Tensor], values: list[Tensor]) -> None:
        self.keys, self.values = keys, values  # a layer: [B, S, K, D]
        rows, self.size = keys[0].shape[:2]
        self.lengths = torch.zeros(rows, dtype=torch.long, device=keys[0].device)  # [B]
        self.longest = 0  # max(lengths), on the host
        self.positions = self.lengths[:, None]  # [B, T] of the forward under way
        self.mask: Tensor | None = None  # [B, 1, T, S] of the forward under way; None: causal

    @classmethod
    def build(
        cls,
        config: ModelConfig,
        rows: int,
        size: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> "Cache":
        """An empty cache for `rows` sequences of up to `size` tokens."""
        shape = (rows, size, config.num_key_value_heads, config.head_dim)
        # Zeros, because a place behind the mask still meets the softmax's 0: NaN * 0 is NaN.
        keys, values = (
            [
                torch.zeros(shape, device=device, dtype=dtype)
                for _ in range(config.num_hidden_layers)
            ]
            for _ in range(2)
        )
        return cls(keys, values)

    def extend(self, tokens: int) -> Tensor:
        """Make room for `tokens` more in every row; their positions [B, T]."""
        if self.longest + tokens > self.size:
            raise UserError(f"the cache holds {self.size} tokens, not {self.longest + tokens}")
        new = torch.arange(tokens, device=self.lengths.device)
        self.positions = self.lengths[:, None] + new  # [B, T]
        filled = self.longest > 0
        self.longest += tokens
        places = torch.arange(self.longest, device=self.lengths.device)
        # A first prompt is plain causal: its padding comes after all that is real.
        self.mask = (places <= self.positions[..., None])[:, None] if filled else None
        self.lengths = self.lengths + tokens
        return self.positions

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k and v [B, T, K, D] and let q [B, T, H, D] see all of its row so far."""
        if self.mask is None:
            self.keys[layer][:, : k.shape[1]] = k
            self.values[layer][:, : v.shape[1]] = v
            return kernels.causal(q, k, v)
        rows = torch.arange(len(k), device=k.device)[:, None]
        for slab, fresh in ((self.keys[layer], k), (self.values[layer], v)):
            slab[rows, self.positions] = fresh.to(slab.dtype)
        keys, values = (slab[layer][:, : self.longest] for slab in (self.keys, self.values))
        return kernels.causal(q, keys, values, self.mask)

    def truncate(self, lengths: Tensor) -> None:
        """Forget what lies beyond `lengths` [B]."""
        self.lengths = lengths.to(self.lengths.device)
        self.longest = int(lengths.max())

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone (indices, [B'])."""
        self.keys = [slab[rows] for slab in self.keys]
        self.values = [slab[rows] for slab in self.values]
        self.truncate(self.lengths[rows])
