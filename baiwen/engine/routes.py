"""The experts that each token went to, kept beside its keys and values, block by block.

    routes = Routes(config, blocks=64, block_size=16, device="cpu")
    routes.store(layout.slots, outputs.routing)
    routes.read(sample.table, tokens=40)       # bytes: [40, L, k]

What begins alike is read once and its blocks are shared, copied, given back and taken again: a
token's experts go with its keys, so they are those that made the keys which later tokens see. A
trainer that takes them (`model/routing.py`) computes what the engine computed.

N tokens of a step, L sparse layers, k experts a token.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from baiwen.model.config import ModelConfig
from baiwen.model.paged import zeros
from baiwen.model.routing import Routing, kept_as


class Routes:
    """The experts of every place of a paged cache."""

    def __init__(
        self, config: ModelConfig, blocks: int, block_size: int, device: torch.device
    ) -> None:
        layers = sum(map(config.sparse, range(config.num_hidden_layers)))
        shape = blocks, block_size, layers, config.num_experts_per_tok
        self.kept = zeros(shape, device, kept_as(config.num_experts))

    def store(self, slots: Tensor, routing: Routing) -> None:
        """Put the choice for the tokens of a step, one row, into the slots [N] of their keys."""
        self.kept.flatten(0, 1)[slots] = routing.experts[:, 0].transpose(0, 1)

    def copy(self, sources: Mapping[int, int]) -> None:
        """Fill each block with what another holds: {target: source}."""
        if sources:
            pairs = torch.tensor(list(sources.items()), device=self.kept.device)
            self.kept[pairs[:, 0]] = self.kept[pairs[:, 1]]

    def read(self, table: Sequence[int], tokens: int) -> bytes:
        """The experts of the first `tokens` tokens of a sequence with these blocks, [., L, k]."""
        blocks = torch.tensor(table, dtype=torch.long, device=self.kept.device)
        found = self.kept[blocks].flatten(0, 1)[:tokens]
        return found.cpu().numpy().tobytes()
