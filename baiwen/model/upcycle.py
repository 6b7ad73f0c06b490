"""A dense model turned into a mixture of fine-grained experts, as Qwen2-57B-A14B was (spec 1.4).

    knobs = Upcycle(experts=64, top_k=8, expert_size=2560, shared=8)
    config = moe_config(read_config("Qwen2-7B"), knobs)
    state = dict(upcycled(stream("Qwen2-7B"), read_config("Qwen2-7B"), knobs))

Every feed-forward is copied until its copies hold all experts, each copy is shuffled along its
intermediate dimension (gate, up and down alike), the copies are cut into experts in a row, and
half of each expert is drawn anew (Qwen2's report, section 2.2.2). All other weights stay. What the
report leaves open is a knob.

The sum of all slices of a feed-forward is the feed-forward, but a router weighs them by a few per
cent each. With `scaled`, the down projections are multiplied so that, under an even router, routed
and shared experts together give on average what the dense layer gives, each by its active width.

E experts, I the dense width, W an expert's width, C hidden size.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
import xxhash
from torch import Tensor

from baiwen.errors import UserError
from baiwen.model.config import ModelConfig

DOWN = "down_proj"  # whose columns are the intermediate dimension; of gate and up the rows
Start = Literal["shuffled", "copied", "preserved"]
Fresh = Literal["rows", "elements"]


@dataclass(frozen=True)
class Upcycle:
    """The mixture to make of a dense model."""

    experts: int  # E; report: 64 (57B-A14B)
    top_k: int  # experts of a token; report: 8
    expert_size: int  # W, intermediate elements of an expert; report: 2,560
    shared: int = 0  # experts that see every token, as one of `shared` times W; report: 8
    # shuffled: the report's way. copied: not shuffled and nothing drawn anew. preserved: the shared
    # expert holds the dense layer and routed experts give 0, so outputs are the dense model's.
    start: Start = "shuffled"
    fresh: float = 0.5  # share of each routed expert that is drawn anew; report: 0.5
    fresh_by: Fresh = "rows"  # whole intermediate elements, or single weights; not reported
    std: float = 0.02  # of what is drawn anew, and of the routers; not reported
    scaled: bool = True  # down projections, for the router's small weights; not reported
    normalised: bool = False  # the chosen experts' weights sum to 1; report: false
    seed: int = 0


def moe_config(dense: ModelConfig, knobs: Upcycle) -> ModelConfig:
    """The configuration of the mixture; UserError where `knobs` do not fit the dense model."""
    if dense.is_moe or dense.reward:
        raise UserError(f"only a dense language model is upcycled; this is a {dense.architecture}")
    if not 0 < knobs.top_k <= knobs.experts or knobs.expert_size < 1 or knobs.shared < 0:
        raise UserError(
            f"a token cannot choose {knobs.top_k} of {knobs.experts} experts of "
            f"{knobs.expert_size} elements, beside {knobs.shared} shared ones"
        )
    if not 0 <= knobs.fresh <= 1:
        raise UserError(f"fresh is {knobs.fresh}: give a share between 0 and 1")
    if not 0 <= knobs.std < math.inf:
        raise UserError(f"std is {knobs.std}: give a number from 0 up")
    if knobs.shared == 0:
        raise UserError("Qwen2-MoE always has a shared expert: give shared = 1 or more")
    wide = knobs.shared * knobs.expert_size
    if knobs.start == "preserved" and wide < dense.intermediate_size:
        raise UserError(
            f"start = preserved needs a shared expert that holds the dense layer: shared * "
            f"expert_size is {wide}, and intermediate_size {dense.intermediate_size}"
        )
    return replace(
        dense,
        num_experts=knobs.experts,
        num_experts_per_tok=knobs.top_k,
        moe_intermediate_size=knobs.expert_size,
        shared_expert_intermediate_size=wide,
        norm_topk_prob=knobs.normalised,
    )


def upcycled(
    tensors: Iterable[tuple[str, Tensor]], dense: ModelConfig, knobs: Upcycle
) -> Iterator[tuple[str, Tensor]]:
    """The state dict of the mixture from that of the dense model, one tensor at a time.

    Each layer and each tensor draws by a seed of its own, so the order does not matter.
    """
    moe_config(dense, knobs)
    for name, tensor in tensors:
        prefix, mlp, leaf = name.partition(".mlp.")
        if not mlp:
            yield name, tensor
            continue
        layer, leaf = int(prefix.rsplit(".", 1)[1]), leaf.removesuffix(".weight")
        yield f"{prefix}.mlp.experts.{leaf}", _experts(tensor, leaf, layer, knobs)
        yield f"{prefix}.mlp.shared_expert.{leaf}.weight", _shared(tensor, leaf, layer, knobs)
        if leaf == DOWN:
            yield from _routers(tensor, f"{prefix}.mlp", layer, knobs)


def _experts(weight: Tensor, leaf: str, layer: int, knobs: Upcycle) -> Tensor:
    """The routed experts' [E, W, C], or [E, C, W] of the down projections."""
    rows = weight.T if leaf == DOWN else weight  # [I, C]
    places = _places(len(rows), knobs.experts * knobs.expert_size, layer, "routed", knobs)
    found = rows.new_empty(knobs.experts, knobs.expert_size, rows.shape[1])
    factor = _factor(len(rows), knobs) if leaf == DOWN else 1.0
    for expert, own in enumerate(places.view(knobs.experts, -1)):
        torch.mul(rows[own], factor, out=found[expert])
        _redraw(found[expert], leaf, layer, expert, knobs)
    if leaf == DOWN:
        found = found.mT.contiguous()
        if knobs.start == "preserved":
            found.zero_()
    return found


def _shared(weight: Tensor, leaf: str, layer: int, knobs: Upcycle) -> Tensor:
    """The shared expert's [S, C], or [C, S] of the down projection; its gate stands at 1/2."""
    rows = weight.T if leaf == DOWN else weight
    width, wanted = len(rows), knobs.shared * knobs.expert_size
    if knobs.start == "preserved":
        found = rows.new_zeros(wanted, rows.shape[1])
        found[:width] = rows * (2.0 if leaf == DOWN else 1.0)
    else:
        found = rows[_places(width, wanted, layer, "shared", knobs)]
        if leaf == DOWN and knobs.scaled:
            found = found * (_active(knobs)[1] * 2 * width / wanted)
    return found.T.contiguous() if leaf == DOWN else found


def _routers(down: Tensor, mlp: str, layer: int, knobs: Upcycle) -> Iterator[tuple[str, Tensor]]:
    """The router [E, C], drawn, and the shared expert's gate [1, C], at zero: a weight of 1/2."""
    drawn = torch.empty(knobs.experts, down.shape[0])
    drawn.normal_(0, knobs.std, generator=_draws(knobs.seed, layer, "router", 0))
    yield f"{mlp}.gate.weight", drawn.to(down.dtype)
    yield f"{mlp}.shared_expert_gate.weight", down.new_zeros(1, down.shape[0])


def _places(width: int, wanted: int, layer: int, of: str, knobs: Upcycle) -> Tensor:
    """Which intermediate elements, `wanted` in all, of copy after copy: int64 [wanted]."""
    copies = []
    for copy in range(-(-wanted // width)):
        draws = _draws(knobs.seed, layer, of, copy)
        shuffled = knobs.start == "shuffled"
        copies.append(torch.randperm(width, generator=draws) if shuffled else torch.arange(width))
    return torch.cat(copies)[:wanted]


def _redraw(expert: Tensor, leaf: str, layer: int, number: int, knobs: Upcycle) -> None:
    """Draw a share of an expert's weights [W, C] anew, in place; by rows, the same of all three."""
    if knobs.start != "shuffled" or not knobs.fresh:
        return
    values = _draws(knobs.seed, layer, leaf, number)
    if knobs.fresh_by == "rows":
        order = torch.randperm(len(expert), generator=_draws(knobs.seed, layer, "rows", number))
        chosen = order[: round(knobs.fresh * len(expert))]
        drawn = torch.empty(len(chosen), expert.shape[1]).normal_(0, knobs.std, generator=values)
        expert[chosen] = drawn.to(expert.dtype)
    else:
        drawn = torch.empty(expert.shape).normal_(0, knobs.std, generator=values)
        taken = torch.rand(expert.shape, generator=values) < knobs.fresh
        expert[taken] = drawn[taken].to(expert.dtype)


def _factor(width: int, knobs: Upcycle) -> float:
    """By what the routed experts' down projections are multiplied."""
    if not knobs.scaled:
        return 1.0
    # Under an even router each of the k chosen weighs 1/E, or 1/k; k slices of W elements give on
    # average k W / I of the dense layer.
    weight = 1 / (knobs.top_k if knobs.normalised else knobs.experts)
    return _active(knobs)[0] * width / (weight * knobs.top_k * knobs.expert_size)


def _active(knobs: Upcycle) -> tuple[float, float]:
    """The shares of the active width that are routed and shared."""
    total = knobs.top_k + knobs.shared
    return knobs.top_k / total, knobs.shared / total


def _draws(seed: int, layer: int, what: str, number: int) -> torch.Generator:
    """Draws for one use, apart from all others."""
    named = xxhash.xxh3_64_intdigest(f"{seed}/{layer}/{what}/{number}".encode())
    return torch.Generator().manual_seed(named >> 1)
