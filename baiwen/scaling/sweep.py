"""Planning a sweep: which runs a recipe asks for, what they cost, in which order they go.

    shapes = sizes(("tiny",), Ladder(widths=(32, 64), layers=(2,)), (), 128, vocabulary=4118)
    budgets(shapes, tokens=(250_000,), per_parameter=(20.0,))     # [("tiny", 250000), ...]
    runs = planned(cells, Spaced(low=1e-3, high=8e-3), (512.0,))  # a run for each point of the grid
    runs[0].name, runs[0].steps, runs[0].flops

A cell is one size on one number of tokens; in each, every learning rate meets every batch, as in
Step Law (arXiv 2503.04715). All of it is a pure function of the recipe, so a sweep that is killed
knows what is left. `rungs` and `best` are successive halving (Jamieson and Talwalkar, 2016, arXiv
1502.07943, as in Hyperband).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from baiwen.config import Count, Knobs
from baiwen.model import count
from baiwen.model.config import ModelConfig
from baiwen.model.sizes import SIZES, fitted
from baiwen.scaling.moe import Mixture
from baiwen.train.optim import Optim
from baiwen.train.schedule import Schedule

Positive = Annotated[float, Field(gt=0)]
Shapes = Mapping[str, ModelConfig]


class Ladder(Knobs):
    """Sizes by their width and depth, for those that have no name."""

    widths: Annotated[tuple[Count, ...], Field(min_length=1)]  # hidden_size of each
    layers: Annotated[tuple[Count, ...], Field(min_length=1)]  # of each; or one for all
    head_size: Count = 64  # elements of an attention head; a narrower model has one head
    heads_per_key: Count = 2  # query heads that share keys, where they divide; report: 5 to 8
    feed_forward: Positive = 3.0  # its width over that of the model; report: 2.7 to 5.8

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.layers) not in (1, len(self.widths)):
            raise ValueError(f"layers: give one number, or {len(self.widths)}, as there are widths")
        return self

    def shapes(self) -> dict[str, ModelConfig]:
        """Their configurations, by names such as `w64-l2`."""
        depths = self.layers * (len(self.widths) if len(self.layers) == 1 else 1)
        return {
            f"w{width}-l{depth}": self._shape(width, depth)
            for width, depth in zip(self.widths, depths, strict=True)
        }

    def _shape(self, width: int, depth: int) -> ModelConfig:
        heads = max(1, width // self.head_size)
        keys = heads // self.heads_per_key if heads % self.heads_per_key == 0 else heads
        return replace(
            SIZES["tiny"],
            hidden_size=width,
            intermediate_size=_multiple_of_8(self.feed_forward * width),
            num_hidden_layers=depth,
            num_attention_heads=heads,
            num_key_value_heads=keys,
        )


class Experts(Knobs):
    """A mixture of experts in the place of each feed-forward of a dense size."""

    experts: Count  # routed ones of a layer; report: 60 and 64
    top_k: Count  # of them that a token passes through; report: 4 and 8
    width: Positive = 0.25  # of an expert, over that of the dense feed-forward; report: 0.25, 0.14
    shared: Positive = 0.25  # of the shared expert, over the same; report: 1.0, 1.1

    @property
    def name(self) -> str:
        """What follows the name of the dense size."""
        return f"e{self.experts}k{self.top_k}-w{self.width:.3g}-s{self.shared:.3g}"

    def of(self, shape: ModelConfig) -> ModelConfig:
        """The mixture that this makes of a dense `shape`."""
        return replace(
            shape,
            num_experts=self.experts,
            num_experts_per_tok=self.top_k,
            moe_intermediate_size=_multiple_of_8(self.width * shape.intermediate_size),
            shared_expert_intermediate_size=_multiple_of_8(self.shared * shape.intermediate_size),
        )


class Spaced(Knobs):
    """Numbers from `low` to at most `high`, each `factor` times the one before."""

    low: Positive  # the first
    high: Positive  # that none is above
    factor: Annotated[float, Field(gt=1)] = 2.0  # of one over the one before

    def values(self) -> tuple[float, ...]:
        """All of them; both ends too, where the factor meets them."""
        steps = math.floor(math.log(self.high / self.low, self.factor) + 1e-9)
        return tuple(float(f"{self.low * self.factor**i:.6g}") for i in range(steps + 1))


Listed = Annotated[tuple[Positive, ...], Field(min_length=1)] | Spaced


@dataclass(frozen=True)
class Run:
    """One run of a sweep: what is trained, on how much, with which setting."""

    size: str  # its name among the sizes
    shape: ModelConfig
    tokens: int  # D that the cell asks for; the last step may go beyond
    batch: int  # tokens of a step
    length: int  # tokens of a row
    optim: Optim
    schedule: Schedule
    seed: int
    setting: str = ""  # who chose learning rate and batch, where it is no point of the grid

    @property
    def name(self) -> str:
        """Part of a file's name; no two runs of a recipe have the same."""
        how = self.setting or f"b{self.batch}-lr{self.optim.lr:g}"
        return f"{self.size}-d{self.tokens}-{how}-s{self.seed}"

    @property
    def cell(self) -> tuple[str, int]:
        """Its size and its tokens."""
        return self.size, self.tokens

    @property
    def steps(self) -> int:
        """Of the optimizer."""
        return math.ceil(self.tokens / self.batch)

    @property
    def parameters(self) -> int:
        """N: without the embeddings, with every expert."""
        return count.parameters(self.shape).non_embedding

    @property
    def active(self) -> int:
        """N of what one token passes through."""
        return int(Mixture.of(self.shape).active)

    @property
    def flops(self) -> float:
        """Of all its steps, the head's too."""
        return self.steps * self.batch * count.flops_per_token(self.shape, self.length)


def sizes(
    names: Sequence[str],
    ladder: Ladder | None,
    experts: Sequence[Experts],
    length: int,
    vocabulary: int,
) -> dict[str, ModelConfig]:
    """The shapes of a sweep by name, each dense and, for each of `experts`, as a mixture."""
    found = {name: SIZES[name] for name in names} | (ladder.shapes() if ladder else {})
    made = {f"{name}-{one.name}": one.of(shape) for name, shape in found.items() for one in experts}
    return {
        name: fitted(replace(shape, max_position_embeddings=length), vocabulary)
        for name, shape in (found | made).items()
    }


def budgets(
    shapes: Shapes, tokens: Sequence[int], per_parameter: Sequence[float]
) -> list[tuple[str, int]]:
    """The cells: every size on every number of tokens, given or by its active parameters."""
    cells = []
    for name, shape in shapes.items():
        active = Mixture.of(shape).active
        cells += [(name, d) for d in sorted({*tokens, *(round(r * active) for r in per_parameter)})]
    return cells


def planned(
    cells: Sequence[Run], rates: Listed, batches: Listed, max_flops: float | None = None
) -> list[Run]:
    """Every rate with every batch in each cell, cheapest cells first; no cell whose 6 N D is above
    `max_flops`.

    cells: a run of each, whose learning rate and batch are not read. The order is one of the
    recipe alone, and what is dear comes when the cheap has shown whether the grid is well placed.
    """
    runs = [
        replace(cell, batch=round(batch), optim=cell.optim.model_copy(update={"lr": rate}))
        for cell in cells
        for batch in _values(batches)
        for rate in _values(rates)
    ]
    kept = [run for run in runs if 6 * run.active * run.tokens <= (max_flops or math.inf)]
    return sorted(kept, key=lambda run: (run.active * run.tokens, run.size))


def smoothed(losses: Sequence[float | None], tokens: Sequence[float], window: float) -> float:
    """The mean loss of the last `window` tokens, each step's weighed by its own; NaN where one
    of those steps had none.

    losses, tokens: of every step so far. At least the last step counts.
    """
    total, seen = 0.0, 0.0
    for loss, own in zip(reversed(losses), reversed(tokens), strict=True):
        if seen >= window and seen > 0:
            break
        total += own * (math.nan if loss is None else loss)
        seen += own
    return total / seen if seen else math.nan


def rungs(steps: int, eta: int, count: int) -> list[int]:
    """The steps at which the runs of a cell are compared: steps / eta^count, ..., steps / eta."""
    return [math.ceil(steps / eta**power) for power in range(count, 0, -1)]


def best(losses: Mapping[str, float | None], eta: int) -> set[str]:
    """Names of the best 1 / eta of a cell's runs, at least one; none that has no loss."""
    order = sorted((loss, name) for name, loss in losses.items() if loss is not None)
    return {name for _, name in order[: max(1, len(losses) // eta)]}


def whole(tokens: float, length: int, micro_tokens: int) -> int:
    """The number of tokens of a step nearest to `tokens` that rows and micro-batches divide."""
    unit = length if tokens < micro_tokens else micro_tokens
    return max(1, round(tokens / unit)) * unit


def by_cell(runs: Sequence[Run]) -> dict[tuple[str, int], list[Run]]:
    """The runs of each cell, in their order."""
    found = defaultdict(list)
    for run in runs:
        found[run.cell].append(run)
    return dict(found)


def _values(listed: Listed) -> tuple[float, ...]:
    return listed.values() if isinstance(listed, Spaced) else listed


def _multiple_of_8(width: float) -> int:
    return max(8, round(width / 8) * 8)
