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

    counts: Tensor  # [L, E], how many (token, slot) pairs went to each expert; no gradient
    probs: Tensor  # [L, E], sum over tokens of the router's probability; carries the gradient
    z: Tensor  # [L], sum over tokens of logsumexp(router logits)^2, for a z-loss
    tokens: Tensor  # [], N without padding


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

    def forward(self, x: Tensor, real: Tensor | None = None) -> tuple[Tensor, Routing]:
        """[B, T, C] -> [B, T, C], and the router's record of the `real` tokens [B, T] (None: all).

        Tokens go to their experts and back by a permutation, whose gradient is another one, so the
        sums have one order and a run repeats bit for bit.
        """
        flat = x.flatten(0, 1)  # [N, C]
        logits = self.gate(flat).float()  # [N, E]
        probs = logits.softmax(-1)
        weights, experts = probs.topk(self.chosen, dim=-1)  # [N, k]
        if self.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        order = experts.flatten().argsort(stable=True)  # [N*k]
        sent = flat[:, None].expand(-1, self.chosen, -1).flatten(0, 1).index_select(0, order)
        done = self.experts(sent, _count(experts, probs.shape[1]))  # [N*k, C]
        back = done.index_select(0, order.argsort()).unflatten(0, (-1, self.chosen))  # [N, k, C]
        out = (back * weights[..., None].to(back.dtype)).sum(1)
        out = out + F.sigmoid(self.shared_expert_gate(flat)) * self.shared_expert(flat)
        return out.view_as(x), _record(logits, probs, experts, real)


def _count(experts: Tensor, number: int, kept: Tensor | None = None) -> Tensor:
    """How often each of `number` experts was chosen [E] by the tokens that are 1 in `kept` [N]."""
    # scatter_add where bincount would make the host wait for a GPU.
    chosen = torch.ones_like(experts) if kept is None else kept[:, None].expand_as(experts)
    zeros = torch.zeros(number, dtype=chosen.dtype, device=experts.device)
    return zeros.scatter_add(0, experts.flatten(), chosen.flatten())


def _record(logits: Tensor, probs: Tensor, experts: Tensor, real: Tensor | None) -> Routing:
    kept = probs.new_ones(len(probs)) if real is None else real.flatten().to(probs.dtype)  # [N]
    z = logits.logsumexp(-1).square()  # [N]
    # Sums, not the matmuls that they are: autocast would round those to its own dtype.
    probs_sum, z_sum = (kept[:, None] * probs).sum(0), (kept * z).sum()
    return Routing(_count(experts, probs.shape[1], kept), probs_sum, z_sum, kept.sum())
