"""The routers' losses: the balance of experts over the global batch, and a z-loss; and their load.

    routers = Routers(model.config, world, z_loss=1e-3)
    routers.begin(tokens_of_the_step)
    loss = loss + routers(outputs.routing)      # for every micro-batch of the step
    routers.metrics()                           # what they cost, and how even the load was

The balance (Qwen's global-batch load balancing, Qiu et al. 2025, 2501.11873) is coefficient * E *
sum_e f_e P_e, where f_e is the share of assignments that expert e got and P_e its mean probability
(baiwen/model/routing.py); only P_e has a gradient. f_e is taken over all ranks and over the
micro-batches of the step so far: with one micro-batch a rank it is exactly that of the global
batch; with several, the first ones go by a sample of it, as in Megatron-LM's global balance (the
exact shares would cost a second forward pass). With `micro`, the same of each micro-batch alone
comes to it, times `micro`: experts are then loaded more evenly in every forward pass, which is
faster where ranks share them (the same paper: 0.01). It is no balance within each sequence, as
DeepSeek-V3 has it: a micro-batch is all rows that are computed at once.

The z-loss (ST-MoE, Zoph et al. 2022, equation 5: 1e-3) is z * mean(logsumexp(router logits)^2) over
all tokens and sparse layers; it keeps the logits small, where softmax is exact.

L sparse layers, E experts.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from baiwen import log
from baiwen.dist import World, sum_all
from baiwen.model.config import ModelConfig
from baiwen.model.routing import Routing, Sums, balance

EXPERTS = "experts.jsonl"  # the load of each expert, now and then
IDLE = 0.1  # of the mean load, below which an expert counts as idle


class Routers:
    """The routers' losses and the load of the experts, of one step after the other."""

    def __init__(
        self, config: ModelConfig, world: World, z_loss: float = 0.0, micro: float = 0.0
    ) -> None:
        self.coefficient, self.z_loss, self.micro = config.router_aux_loss_coef, z_loss, micro
        self.world = world
        self.counts: Tensor | None = None  # [L, E] assignments of the step so far, over all ranks

    def begin(self, tokens: Tensor) -> None:
        """A step of so many real tokens, over all micro-batches and ranks."""
        self.tokens = tokens
        self.counts = None
        self._seen: Tensor | float = 0.0  # tokens so far, over all ranks
        self._sums: dict[str, Tensor] = {}  # of this rank's tokens

    def __call__(self, routing: Routing) -> Tensor:
        """This micro-batch's part of the step's losses, weighted; the parts of a step add up."""
        sums = routing.sums
        assert sums is not None, "losses are for gradients"
        counts = sum_all(self.world, sums.counts)
        self.counts = counts if self.counts is None else self.counts + counts
        self._seen = self._seen + sum_all(self.world, sums.tokens)
        rows = len(sums.z) * self.tokens  # of all layers together
        expected = self.counts * (self.tokens / self._seen)
        losses = {"balance": self.coefficient * balance(expected, sums.probs, self.tokens)}
        if self.micro:
            losses["micro_balance"] = self.coefficient * self.micro * self._alone(sums)
        if self.z_loss:
            losses["router_z"] = self.z_loss * sums.z.sum() / rows
        for name, value in {**losses, "router_entropy": sums.entropy.sum() / rows}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        return torch.stack(list(losses.values())).sum()

    def metrics(self) -> dict[str, Tensor]:
        """What the losses of the step were, the routers' mean entropy, and the load; else {}."""
        if self.counts is None:
            return {}
        over_ranks = sum_all(self.world, torch.stack(list(self._sums.values())))
        return {**dict(zip(self._sums, over_ranks.unbind(), strict=True)), **load(self.counts)}

    def _alone(self, sums: Sums) -> Tensor:
        """The balance within this micro-batch, as a part of the mean over those of the step."""
        counts, tokens = sums.counts, sums.tokens
        if self.world.meshes is not None:
            for name in ("context", "tensor"):  # the ranks that have other tokens of its rows
                counts, tokens = (
                    sum_all(self.world, x, self.world.meshes.rows.get_group(name))
                    for x in (counts, tokens)
                )
        # An empty micro-batch, of a rank that found no more answers, has no tokens.
        return balance(counts, sums.probs, tokens.clamp(min=1)) * tokens / self.tokens


def load(counts: Tensor) -> dict[str, Tensor]:
    """How unevenly assignments [L, E] are spread over the experts of each layer.

    expert_violation: largest load / mean load - 1 (MaxVio of Wang et al. 2024, 2408.15664), the
    mean over layers; expert_violation_worst: of the worst layer; idle_experts: the share of all
    experts with less than a tenth of the mean.
    """
    relative = counts / counts.mean(1, keepdim=True)  # [L, E]
    violation = relative.amax(1) - 1  # [L]
    return {
        "expert_violation": violation.mean(),
        "expert_violation_worst": violation.amax(),
        "idle_experts": (relative < IDLE).float().mean(),
    }


class Loads:
    """The file of loads: {"step": 100, "counts": [[...], ...]}, assignments by layer and expert."""

    def __init__(self, folder: Path, start: int, world: World) -> None:
        self.path, self.main = folder / EXPERTS, world.main
        if self.main:  # a run that is resumed takes later steps again
            log.cut(self.path, start)

    def write(self, step: int, counts: Tensor | None) -> None:
        """Add the assignments [L, E] of a step, if there are experts; the host waits for them."""
        if counts is None or not self.main:
            return
        row = {"step": step, "counts": counts.round().int().tolist()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
