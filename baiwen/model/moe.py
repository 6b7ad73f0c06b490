"""Mixture of experts, as in Qwen1.5-MoE and Qwen2-57B-A14B (spec 1.4).

Softmax in fp32 over all experts, the top k of them (renormalised only when asked), which take the
token through grouped matmuls, and a shared expert behind a sigmoid gate. The router's record comes
back as a value, so that the balance loss can be taken over the global batch.

N tokens, C hidden size, I width of an expert, E experts, k experts a token, L sparse layers.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baiwen.model import kernels
from baiwen.model.config import ModelConfig
from baiwen.model.layers import MLP
from baiwen.model.mixture import Weights
from baiwen.model.routing import Routing, choose, record

Mix = Callable[[Tensor, Tensor, Tensor, Weights], Tensor]


class Experts(nn.Module):
    """E feed-forwards as three stacked weights; the files hold them one by one."""

    def __init__(self, experts: int, hidden_size: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Parameter(torch.empty(experts, width, hidden_size))
        self.up_proj = nn.Parameter(torch.empty(experts, width, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden_size, width))
        self.mix: Mix = kernels.mixture  # another one where ranks share the experts

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """x [N, C], experts chosen [N, k] and their weights -> [N, C], their weighted sum."""
        return self.mix(x, chosen, weights, Weights(self.gate_proj, self.up_proj, self.down_proj))


class MoE(nn.Module):
    """A feed-forward layer whose tokens choose k of E experts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.top_k, self.renormalise = config.num_experts_per_tok, config.norm_topk_prob
        self.gate = nn.Linear(size, config.num_experts, bias=False)
        self.experts = Experts(config.num_experts, size, config.moe_intermediate_size)
        self.shared_expert = MLP(size, config.shared_expert_intermediate_size)
        self.shared_expert_gate = nn.Linear(size, 1, bias=False)

    def forward(
        self, x: Tensor, real: Tensor | None = None, chosen: Tensor | None = None
    ) -> tuple[Tensor, Routing]:
        """[B, T, C] -> [B, T, C], and the router's record of the `real` tokens [B, T] (None: all).

        chosen [B, T, k]: the experts that tokens go to, whatever the router says (`routing.py`).
        """
        flat = x.flatten(0, 1)  # [N, C]
        logits = self.gate(flat).float()  # [N, E]
        probs = logits.softmax(-1)
        experts = choose(probs, self.top_k, chosen)  # [N, k]
        weights = probs.gather(1, experts)
        if self.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        out = self.experts(flat, experts, weights)
        out = out + F.sigmoid(self.shared_expert_gate(flat)) * self.shared_expert(flat)
        return out.view_as(x), record(logits, probs, experts.view(*x.shape[:-1], -1), real)
