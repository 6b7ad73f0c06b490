"""The routers' losses: the balance of experts over the global batch, and a z-loss.

    routers = Routers(model.config, tokens_of_the_step, world, z_loss=1e-3)
    loss = loss + sum(routers(outputs.routing).values())    # for every micro-batch of the step

The balance (Qwen's global-batch load balancing, 2025) is coefficient * E * sum_e f_e P_e, where f_e
is the share of assignments that expert e got and P_e its mean probability (baiwen/model/moe.py);
only P_e has a gradient. f_e is taken over all ranks and over the micro-batches of the step so far:
with one micro-batch a rank it is exactly that of the global batch; with several, the first ones go
by a sample of it, as in Megatron-LM's global balance (the exact shares would cost a second forward
pass).

The z-loss (ST-MoE, Zoph et al. 2022, equation 5: 1e-3) is z * mean(logsumexp(router logits)^2) over
all tokens and sparse layers; it keeps the logits small, where softmax is exact.
"""

from torch import Tensor

from baiwen.dist import World, sum_over
from baiwen.model import moe
from baiwen.model.config import ModelConfig
from baiwen.model.moe import Routing


class Routers:
    """The routers' losses of one step; remembers the assignments of its micro-batches."""

    def __init__(
        self, config: ModelConfig, tokens: Tensor, world: World, z_loss: float = 0.0
    ) -> None:
        self.coefficient, self.z_loss = config.router_aux_loss_coef, z_loss
        self.tokens, self.world = tokens, world
        self.seen: Tensor | float = 0.0  # tokens so far, over all ranks
        self.counts: Tensor | float = 0.0  # [L, E] assignments of them

    def __call__(self, routing: Routing) -> dict[str, Tensor]:
        """This micro-batch's parts of the step's losses, weighted; the parts of a step add up."""
        self.seen = self.seen + sum_over(self.world, routing.tokens)
        self.counts = self.counts + sum_over(self.world, routing.counts)
        expected = self.counts * (self.tokens / self.seen)
        balance = self.coefficient * moe.balance(expected, routing.probs, self.tokens)
        if not self.z_loss:
            return {"balance": balance}
        rows = len(routing.z) * self.tokens  # of all layers together, as for the balance
        return {"balance": balance, "router_z": self.z_loss * routing.z.sum() / rows}
