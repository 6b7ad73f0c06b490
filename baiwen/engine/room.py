"""How much room an engine has: how far its models read, how keys are kept, and how many blocks.

    room = Room.of([model], block_size=16, sequences=64, context=65_536)
    room.context, room.blocks                   # 65536, 8192

The first model answers; a second one, its draft, keeps its keys in blocks of the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from baiwen.engine import capacity
from baiwen.engine.capacity import KV
from baiwen.engine.reach import Extend, Reach
from baiwen.errors import UserError
from baiwen.model.paged import bytes_per_token
from baiwen.model.transformer import Transformer

LEAST = 2  # tokens of a context: one of a prompt, one of an answer


@dataclass(frozen=True)
class Room:
    """What the models of an engine share; none of their reaches is longer than the cache."""

    reaches: tuple[Reach, ...]
    dtypes: tuple[torch.dtype, ...]  # of the keys and values of each model
    blocks: int

    @property
    def context(self) -> int:
        """Tokens of a prompt and its answer, at most."""
        return self.reaches[0].context

    @classmethod
    def of(
        cls,
        models: Sequence[Transformer],
        block_size: int,
        sequences: int,
        context: int | None = None,
        extend: Extend | None = None,
        kv: KV | None = None,
        cache_tokens: int | None = None,
    ) -> "Room":
        """The room for `sequences` samples at once; the options are those of `Engine`.

        UserError where the memory or `cache_tokens` do not hold the context that is asked for.
        """
        dtypes = tuple(capacity.kept(model, kv) for model in models)
        size = sum(map(bytes_per_token, (model.config for model in models), dtypes))
        device = models[0].model.norm.weight.device
        if context is not None:
            capacity.check(size, device, context)
        reaches = [Reach.of(model.config, context, extend) for model in models]
        longest, asked = min(reach.context for reach in reaches), context or 0
        if cache_tokens is None:
            found = max(capacity.affordable(size, device, longest, sequences), asked)
            cache_tokens = -(-found // block_size) * block_size
        blocks = cache_tokens // block_size
        held = min(longest, blocks * block_size)
        if held < (least := max(asked, LEAST)):
            raise UserError(
                f"cache_tokens = {cache_tokens:,} has no room for a context of {least:,} tokens"
            )
        return cls(tuple(replace(reach, context=held) for reach in reaches), dtypes, blocks)
