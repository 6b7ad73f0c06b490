"""The sparse layers that both sides of `moe.py` compute, their weights and what they are given.

N tokens, C hidden size, E experts, k experts a token.
"""

from collections.abc import Callable
from itertools import cycle
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.turns import Turn


class Shape(NamedTuple):
    """A sparse layer; sizes are hidden elements."""

    experts: int
    chosen: int
    hidden: int
    width: int  # of an expert
    shared: int  # of the shared expert


SHAPES = {  # the published ones are scaled down alike in both sizes
    "57B-A14B / 7": Shape(64, 8, 512, 368, 2944),
    "1.5-MoE-A2.7B / 4": Shape(60, 4, 512, 352, 1408),
    "fine-grained": Shape(64, 8, 512, 128, 512),
    "few experts": Shape(8, 2, 512, 896, 896),
    "tiny-moe": Shape(8, 2, 256, 128, 128),
}


class Case(NamedTuple):
    """A layer and its tokens."""

    layer: Callable[[Tensor], Tensor]  # [1, N, C] -> [1, N, C]
    module: nn.Module
    tokens: Tensor  # [1, N, C]
    slopes: Tensor  # [1, N, C], the gradient that comes back


def serve(settings: dict[str, Any], build: Callable[[Shape], tuple[nn.Module, Any]]) -> None:
    """A forward and a backward pass of the next case whenever told, over and over."""
    half = settings["dtype"] == "bfloat16"
    cases = {name: _cases(SHAPES[name], build, settings["tokens"]) for name in settings["shapes"]}
    listed = [(name, case) for name, some in cases.items() for case in some]
    turn = Turn()
    for name, case in cycle(listed):
        case.module.zero_grad()
        case.tokens.grad = None
        turn.wait()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = case.layer(case.tokens)
        out.backward(case.slopes.to(out.dtype))
        assert case.tokens.grad is not None
        checks = [out.detach().float().norm(), case.tokens.grad.float().norm()]
        checks += [sum(p.grad.norm() ** 2 for p in case.module.parameters()) ** 0.5]
        number = case.tokens.shape[1]
        turn.figures = {"shape": name, "tokens": number, "norms": [float(x) for x in checks]}


def _cases(
    shape: Shape, build: Callable[[Shape], tuple[nn.Module, Any]], numbers: list[int]
) -> list[Case]:
    module, layer = build(shape)
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randn(2, 1, number, shape.hidden, generator=generator) for number in numbers]
    return [Case(layer, module, x.clone().requires_grad_(), slopes) for x, slopes in drawn]


def weights(shape: Shape) -> dict[str, Tensor]:
    """From N(0, 0.02), by the names of the files."""
    experts, _, hidden, width, shared = shape
    generator = torch.Generator().manual_seed(0)
    sizes = {
        "gate.weight": (experts, hidden),
        "experts.gate_proj": (experts, width, hidden),
        "experts.up_proj": (experts, width, hidden),
        "experts.down_proj": (experts, hidden, width),
        "shared_expert.gate_proj.weight": (shared, hidden),
        "shared_expert.up_proj.weight": (shared, hidden),
        "shared_expert.down_proj.weight": (hidden, shared),
        "shared_expert_gate.weight": (1, hidden),
    }
    return {
        name: torch.empty(size).normal_(0, 0.02, generator=generator)
        for name, size in sizes.items()
    }
