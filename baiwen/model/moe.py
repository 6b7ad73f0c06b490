"""Mixture of experts, as in Qwen1.5-MoE and Qwen2-57B-A14B (spec 1.4).

Softmax in fp32 over all experts, the top k of them (renormalised only when asked), a grouped
matmul over tokens sorted by expert, and a shared expert behind a sigmoid gate. The router's record
comes back as a value, so that the balance loss can be taken over the global batch.

N tokens, C hidden size, I width of an expert, E experts, k experts a token, L sparse layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baiwen.model import kernels
from baiwen.model.config import ModelConfig
from baiwen.model.layers import MLP


@dataclass
class Routing:
    """What the routers did with N tokens: sums, so that ranks and micro-batches can be added up."""

    counts: Tensor  # [L, E], how many (token, slot) pairs went to each expert
    probs: Tensor  # [L, E], sum over tokens of the router's probability; carries the gradient
    z: Tensor  # [L], sum over tokens of logsumexp(router logits)^2, for a z-loss
    tokens: int  # N


def stack(routings: Sequence[Routing | None]) -> Routing | None:
    """The routings of single layers as one; None for a dense model."""
    sparse = [routing for routing in routings if routing is not None]
    if not sparse:
        return None
    return Routing(
        torch.stack([routing.counts for routing in sparse]),
        torch.stack([routing.probs for routing in sparse]),
        torch.stack([routing.z for routing in sparse]),
        sparse[0].tokens,
    )


def balance(counts: Tensor, probs: Tensor, tokens: Tensor | float) -> Tensor:
    """The load-balancing loss E * sum_e f_e P_e, with f and P averaged over layers and tokens.

    counts, probs [L, E] and tokens are sums over the whole batch, all ranks included. f_e is the
    number of assignments a token (it sums to k, so a perfect balance gives k) and P_e the mean
    probability, both over the L * tokens rows of all layers together, as transformers computes it
    (Switch Transformer, equations 4-6).
    """
    layers, experts = counts.shape
    rows = layers * tokens
    return experts * (counts.sum(0) / rows * (probs.sum(0) / rows)).sum()


class Experts(nn.Module):
    """E feed-forwards as three stacked weights; the files hold them one by one."""

    def __init__(self, experts: int, hidden_size: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Parameter(torch.empty(experts, width, hidden_size))
        self.up_proj = nn.Parameter(torch.empty(experts, width, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden_size, width))

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """x [N*k, C] sorted by expert, counts [E] rows of each -> [N*k, C]."""
        ends = counts.cumsum(0).to(torch.int32)
        hidden = kernels.swiglu(
            kernels.grouped_linear(x, self.gate_proj, ends),
            kernels.grouped_linear(x, self.up_proj, ends),
        )  # [N*k, I]
        return kernels.grouped_linear(hidden, self.down_proj, ends)


class MoE(nn.Module):
    """A feed-forward layer whose tokens choose k of E experts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.chosen, self.renormalise = config.num_experts_per_tok, config.norm_topk_prob
        self.gate = nn.Linear(size, config.num_experts, bias=False)
        self.experts = Experts(config.num_experts, size, config.moe_intermediate_size)
        self.shared_expert = MLP(size, config.shared_expert_intermediate_size)
        self.shared_expert_gate = nn.Linear(size, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """[B, T, C] -> [B, T, C], and the router's record."""
        flat = x.flatten(0, 1)  # [N, C]
        weights, experts, routing = self._route(flat)
        order = experts.flatten().argsort(stable=True)  # of the N*k (token, slot) pairs
        sent = self.experts(flat[order // self.chosen], routing.counts)  # [N*k, C]
        sent = sent * weights.flatten()[order, None].to(sent.dtype)
        out = torch.zeros_like(flat, dtype=sent.dtype).index_add(0, order // self.chosen, sent)
        shared = F.sigmoid(self.shared_expert_gate(flat)) * self.shared_expert(flat)
        return (out + shared).view_as(x), routing

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor, Routing]:
        """x [N, C] -> weights [N, k] and numbers [N, k] of the chosen experts, and the record."""
        logits = self.gate(x).float()  # [N, E]
        probs = logits.softmax(-1)
        weights, experts = probs.topk(self.chosen, dim=-1)
        if self.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        counts = torch.bincount(experts.flatten(), minlength=logits.shape[-1])
        z = logits.logsumexp(-1).square().sum()
        return weights, experts, Routing(counts, probs.sum(0), z, len(x))
