"""The balance of experts over the global batch (Qwen's global-batch load balancing, 2025).

    balance = Balance(model.config, tokens_of_the_step, world)
    loss = loss + balance(outputs.routing)              # for every micro-batch of the step

The loss is coefficient * E * sum_e f_e P_e, where f_e is the share of assignments that expert e
got and P_e its mean probability (baiwen/model/moe.py); only P_e has a gradient. f_e is taken over
all ranks and over the micro-batches of the step so far: with one micro-batch a rank it is exactly
that of the global batch; with several, the first ones go by a sample of it, as in Megatron-LM's
global balance (the exact shares would cost a second forward pass).
"""

from torch import Tensor

from baiwen.dist import World, sum_over
from baiwen.model import moe
from baiwen.model.config import ModelConfig
from baiwen.model.moe import Routing


class Balance:
    """The balance loss of one step; remembers the assignments of its micro-batches."""

    def __init__(self, config: ModelConfig, tokens: Tensor, world: World) -> None:
        self.coefficient, self.tokens, self.world = config.router_aux_loss_coef, tokens, world
        self.seen: Tensor | float = 0.0  # tokens so far, over all ranks
        self.counts: Tensor | float = 0.0  # [L, E] assignments of them

    def __call__(self, routing: Routing) -> Tensor:
        """This micro-batch's part of the step's balance loss; the parts of a step add up."""
        self.seen = self.seen + sum_over(self.world, routing.tokens)
        self.counts = self.counts + sum_over(self.world, routing.counts)
        expected = self.counts * (self.tokens / self.seen)
        return self.coefficient * moe.balance(expected, routing.probs, self.tokens)
