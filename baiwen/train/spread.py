"""What one rank holds of a model's weights under a layout, by arithmetic alone (no torch).

    spread = Spread(shard=16, tensor=4)                     # 64 ranks in one replica
    sum(unit.copies * unit.numbers(spread) for unit in units(SIZES["72b"]))

The rules are those of `parallel.shard`: FSDP2 divides the first dimension of each weight among the
ranks of `shard` and `context`, padded where it does not divide; tensor ranks divide heads, widths
and the vocabulary before that; experts lie on `expert` ranks and are divided among the others of
their replica. Numbers are those of the rank that holds most. `tests/train/test_simulated.py`
builds the models themselves and compares.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from typing import Literal

from baiwen.model.config import ModelConfig

Cut = Literal["rows", "columns", "whole", "experts"]  # by tensor ranks, or by expert ranks
Name = Literal["root", "dense", "sparse", "experts"]


@dataclass(frozen=True)
class Spread:
    """Into how many parts the weights of one replica are divided; the names are the layout's."""

    shard: int = 1
    context: int = 1
    tensor: int = 1
    expert: int = 1

    @property
    def ranks(self) -> int:
        """Of a replica."""
        return self.shard * self.context * self.tensor

    @property
    def rows(self) -> int:
        """Ranks that FSDP2 divides a weight among."""
        return self.shard * self.context

    @property
    def alike(self) -> int:
        """Ranks of a replica that have the same experts."""
        return self.ranks // self.expert


@dataclass(frozen=True)
class Weight:
    """A weight's shape and how tensor or expert ranks cut it."""

    shape: tuple[int, ...]
    cut: Cut = "whole"

    def numbers(self, spread: Spread) -> int:
        """What a rank holds for good."""
        if self.cut == "experts":
            experts = self.shape[0] // spread.expert, *self.shape[1:]
            if any(size % spread.alike == 0 for size in experts):
                return prod(experts) // spread.alike
            return _up(self.shape[0], spread.alike) * prod(self.shape[1:])  # padded
        rows, *rest = self.shape
        if self.cut == "rows":
            rows = _up(rows, spread.tensor)
        elif self.cut == "columns":
            rest[-1] = _up(rest[-1], spread.tensor)
        return _up(rows, spread.rows) * prod(rest)

    def gathered(self, spread: Spread) -> int:
        """What a rank holds while the unit is gathered."""
        parts = {"experts": spread.expert, "whole": 1}.get(self.cut, spread.tensor)
        return _up(prod(self.shape), parts)


@dataclass(frozen=True, eq=False)
class Unit:
    """What FSDP2 gathers at once, and how many of it the model has."""

    name: Name
    copies: int
    weights: tuple[Weight, ...]

    @cached_property
    def total(self) -> int:
        """Numbers of one copy, on all ranks."""
        return sum(prod(weight.shape) for weight in self.weights)

    def numbers(self, spread: Spread) -> int:
        """What a rank holds of one copy for good."""
        return _held(self, spread)[0]

    def gathered(self, spread: Spread) -> int:
        """What a rank holds of one copy while it is gathered."""
        return _held(self, spread)[1]


@cache
def _held(unit: Unit, spread: Spread) -> tuple[int, int]:
    """For good, and gathered: thousands of layouts share few spreads."""
    own = sum(weight.numbers(spread) for weight in unit.weights)
    return own, sum(weight.gathered(spread) for weight in unit.weights)


@cache
def units(config: ModelConfig) -> tuple[Unit, ...]:
    """All weights of the model."""
    sparse = sum(config.sparse(layer) for layer in range(config.num_hidden_layers))
    every = [
        Unit("root", 1, _root(config)),
        Unit("dense", config.num_hidden_layers - sparse, _attention(config) + _dense(config)),
        Unit("sparse", sparse, _attention(config) + _shared(config)),
        Unit("experts", sparse, _experts(config)),
    ]
    return tuple(unit for unit in every if unit.copies)


def divides(config: ModelConfig, spread: Spread) -> bool:
    """Whether FSDP2 can divide the experts among the ranks that have the same ones."""
    sizes = config.num_experts // spread.expert, config.moe_intermediate_size, config.hidden_size
    return spread.expert == 1 or any(size % spread.alike == 0 for size in sizes)


def _root(config: ModelConfig) -> tuple[Weight, ...]:
    hidden = config.hidden_size
    table, norm = Weight((config.vocab_size, hidden), "rows"), Weight((hidden,))
    if config.reward:  # its head: a layer, and a number
        return table, norm, *map(Weight, ((hidden, hidden), (hidden,), (1, hidden), (1,)))
    return (table, norm) if config.tie_word_embeddings else (table, norm, table)


def _attention(config: ModelConfig) -> tuple[Weight, ...]:
    """And the norms of a layer."""
    hidden, keys = config.hidden_size, config.num_key_value_heads * config.head_dim
    matrices = [Weight((size, hidden), "rows") for size in (hidden, keys, keys)]
    biases = [Weight((size,), "rows") for size in (hidden, keys, keys)]
    return *matrices, *biases, Weight((hidden, hidden), "columns"), *(Weight((hidden,)),) * 2


def _dense(config: ModelConfig) -> tuple[Weight, ...]:
    hidden, width = config.hidden_size, config.intermediate_size
    wide = Weight((width, hidden), "rows")
    return wide, wide, Weight((hidden, width), "columns")


def _shared(config: ModelConfig) -> tuple[Weight, ...]:
    """What a sparse layer has beside its experts: the router, the shared expert and its gate."""
    hidden, width = config.hidden_size, config.shared_expert_intermediate_size
    shapes = (config.num_experts, hidden), *((width, hidden),) * 2, (hidden, width), (1, hidden)
    return tuple(map(Weight, shapes))


def _experts(config: ModelConfig) -> tuple[Weight, ...]:
    hidden, experts, width = config.hidden_size, config.num_experts, config.moe_intermediate_size
    wide = Weight((experts, width, hidden), "experts")
    return wide, wide, Weight((experts, hidden, width), "experts")


def _up(number: int, parts: int) -> int:
    return -(-number // parts)
