"""The two small layers: RMSNorm and the SwiGLU feed-forward."""

import torch
from torch import Tensor, nn

from baiwen.model import kernels


class RMSNorm(nn.Module):
    """x / rms(x) * weight, statistics in fp32 (Zhang and Sennrich, 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C], in the dtype that the next matmul wants."""
        return kernels.rms_norm(x, self.weight, self.eps)

    def add(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """x + y, or x itself, and its norm: what a residual stream is, and what branches off."""
        return kernels.add_rms_norm(x, y, self.weight, self.eps)


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x)), no biases (Shazeer, 2020)."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)
        self.gate_up_proj: nn.Linear | None = None  # for both, in a packed model

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        if self.gate_up_proj is None:
            return kernels.feed_forward(x, self.gate_proj, self.up_proj, self.down_proj)
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(kernels.swiglu(gate, up))
