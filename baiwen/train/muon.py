"""Muon: momentum whose update is orthogonalised (Jordan et al., 2024).

    m <- mu m + g            u <- g + mu m  (Nesterov)
    w <- (1 - lr decay) w - lr 0.2 sqrt(max(rows, columns)) orthogonal(u)

The last factor gives the update AdamW's usual root mean square, so that one learning rate and one
decay serve both (Liu et al., 2025, section 2.2). `torch.optim.Muon` does the same in bf16 always,
which a CPU without bf16 instructions multiplies ten times slower than fp32; here the dtype is the
caller's, and matrices of one shape are orthogonalised in one batched product, stacked experts each
by itself.

R rows, C columns, n matrices of one shape.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

# Coefficients of the quintic iteration, tuned for a steep slope at zero (Jordan et al., 2024).
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
RMS = 0.2  # root mean square of AdamW's updates


class Muon(Optimizer):
    """Muon over matrices [R, C] and stacks of them [E, R, C]; `dtype`: of the orthogonalisation."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for parameters in shapes.values():
                self._update(parameters, group["lr"], group["weight_decay"], group["momentum"])

    def _update(
        self, parameters: list[Tensor], lr: float, weight_decay: float, momentum: float
    ) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        moments = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_mul_(moments, momentum)
        torch._foreach_add_(moments, gradients)
        updates = torch._foreach_mul(moments, momentum)
        torch._foreach_add_(updates, gradients)
        every = torch.stack(updates)  # [n, R, C], or [n, E, R, C]
        turned = orthogonal(every.flatten(0, -3), self.dtype).reshape(every.shape)
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        rate = lr * RMS * max(parameters[0].shape[-2:]) ** 0.5
        torch._foreach_add_(parameters, turned.to(parameters[0].dtype).unbind(), alpha=-rate)


def orthogonal(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly: [n, R, C], singular values 0.7 to 1.2."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = A * x + torch.baddbmm(gram, gram, gram, beta=B, alpha=C) @ x
    return x.mT if tall else x
