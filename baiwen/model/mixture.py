"""Tokens and the experts that they chose: pairs, sorted by expert, and the sums of what comes back.

    order = Order.of(chosen)               # [N, k] -> the pairs (token, choice), expert by expert
    sent = order.take(x)                   # [N, C] -> [N*k, C]
    out = order.give(done)                 # [N*k, C] -> [N, C], the sum of each token's pairs

`take` and `give` are each other's transposes and so each other's gradients. Every sum has one
order, so a run repeats bit for bit, and all that the host needs to know are the sizes it has: it
never waits for a GPU.

N tokens, C hidden size, I width of an expert, E experts, k experts a token.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from baiwen.model import compiled


class Weights(NamedTuple):
    """E feed-forwards down(silu(gate x) * up x), stacked."""

    gate: Tensor  # [E, I, C]
    up: Tensor  # [E, I, C]
    down: Tensor  # [E, C, I]


@dataclass(frozen=True)
class Order:
    """The pairs (token, choice), numbered token * k + choice, sorted by expert."""

    pairs: Tensor  # [N*k], the number of the pair that stands at each place
    places: Tensor  # [N*k], the place at which each pair stands
    k: int

    @classmethod
    def of(cls, chosen: Tensor) -> "Order":
        """That of the experts chosen [N, k]; the pairs of one expert keep the order of tokens."""
        pairs = chosen.flatten().argsort(stable=True)
        numbers = torch.arange(len(pairs), device=pairs.device)
        places = torch.empty_like(pairs).scatter_(0, pairs, numbers)
        return cls(pairs, places, chosen.shape[1])

    def take(self, x: Tensor) -> Tensor:
        """x [N, C] -> [N*k, C]: the token of each place."""
        if not torch.is_grad_enabled():
            return _taken(x, self.pairs, self.k)
        return _applied(_Take, x, self)

    def give(self, x: Tensor) -> Tensor:
        """x [N*k, C] by place -> [N, C]: the sum of each token's pairs."""
        if not torch.is_grad_enabled():
            return _given(x, self.places, self.k)
        return _applied(_Give, x, self)

    def of_pairs(self, x: Tensor) -> Tensor:
        """x [N, k] -> [N*k], by place."""
        return x.flatten().index_select(0, self.pairs)


def count(chosen: Tensor, experts: int, kept: Tensor | None = None) -> Tensor:
    """How often each expert was chosen [E], by the tokens that are 1 in `kept` [N] (None: all)."""
    # scatter_add where bincount would make the host wait for a GPU.
    ones = torch.ones_like(chosen) if kept is None else kept[:, None].expand_as(chosen)
    zeros = torch.zeros(experts, dtype=ones.dtype, device=chosen.device)
    return zeros.scatter_add(0, chosen.flatten(), ones.flatten())


def _applied(function: type[torch.autograd.Function], x: Tensor, order: Order) -> Tensor:
    out = function.apply(x, order.pairs, order.places, order.k)
    assert isinstance(out, Tensor)
    return out


def _taken(x: Tensor, pairs: Tensor, k: int) -> Tensor:
    return x.index_select(0, pairs // k if k > 1 else pairs)


def _given(x: Tensor, places: Tensor, k: int) -> Tensor:
    if compiled.fits(x):
        return compiled.sum_rows(x, places, k)
    return x.index_select(0, places).unflatten(0, (-1, k)).sum(1)


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pairs: Tensor, places: Tensor, k: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(places)
        ctx.k = k
        return _taken(x, pairs, k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (places,) = ctx.saved_tensors
        return _given(grad, places, ctx.k), None, None, None


class _Give(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pairs: Tensor, places: Tensor, k: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(pairs)
        ctx.k = k
        return _given(x, places, k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (pairs,) = ctx.saved_tensors
        return _taken(grad, pairs, ctx.k), None, None, None
