"""Tokens through the experts that they chose: sorted by expert, multiplied group by group, summed.

    out = grouped(x, chosen, weights, experts)      # sum_j weights[n, j] * expert chosen[n, j] of x

The plain form, and that of a GPU: all sizes but that of the result are the device's own knowledge,
so the host never waits. Rows change places by permutations, whose gradients are permutations too,
so sums have one order and a run repeats bit for bit.

N tokens, C hidden size, I width of an expert, E experts, k experts a token.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


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
        return cls(pairs, pairs.argsort(), chosen.shape[1])

    def take(self, x: Tensor) -> Tensor:
        """x [N, C] -> [N*k, C]: the token of each place."""
        return _taken(x, self.pairs, self.places, self.k)

    def give(self, x: Tensor, weights: Tensor | None) -> Tensor:
        """x [N*k, C] by place -> [N, C]: what each token's pairs gave, times weights [N, k]."""
        back = _taken(x, self.places, self.pairs, 1).unflatten(0, (-1, self.k))  # [N, k, C]
        return (back if weights is None else back * weights[..., None].to(back.dtype)).sum(1)


def count(chosen: Tensor, experts: int, kept: Tensor | None = None) -> Tensor:
    """How often each expert was chosen [E], by the tokens that are 1 in `kept` [N] (None: all)."""
    # scatter_add where bincount would make the host wait for a GPU.
    ones = torch.ones_like(chosen) if kept is None else kept[:, None].expand_as(chosen)
    zeros = torch.zeros(experts, dtype=ones.dtype, device=chosen.device)
    return zeros.scatter_add(0, chosen.flatten(), ones.flatten())


def grouped(
    x: Tensor, chosen: Tensor, weights: Tensor | None, experts: Weights, dtype: torch.dtype
) -> Tensor:
    """x [N, C], chosen and weights [N, k] (None: all 1) -> [N, C]; products are in `dtype`."""
    order = Order.of(chosen)
    ends = count(chosen, len(experts.gate)).cumsum(0).to(torch.int32)  # of each expert's rows
    sent = order.take(x).to(dtype)
    gate, up, down = (weight.to(dtype).transpose(1, 2) for weight in experts)
    hidden = F.silu(F.grouped_mm(sent, gate, offs=ends)) * F.grouped_mm(sent, up, offs=ends)
    return order.give(F.grouped_mm(hidden, down, offs=ends), weights)


def _taken(x: Tensor, index: Tensor, back: Tensor, k: int) -> Tensor:
    out = _Take.apply(x, index, back, k)
    assert isinstance(out, Tensor)
    return out


class _Take(torch.autograd.Function):
    """Rows index // k of x [N, C]; a row's k gradients stand at the k places `back` tells."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor, k: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(back)
        ctx.k = k
        return x.index_select(0, index // k if k > 1 else index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (back,) = ctx.saved_tensors
        grads = grad.index_select(0, back)
        return grads.unflatten(0, (-1, ctx.k)).sum(1) if ctx.k > 1 else grads, None, None, None
