"""Grouped-query attention with rotary positions (Ainslie et al., 2023).

B batch, T tokens, C hidden size, H query heads, K key heads, D head size.
"""

from collections.abc import Callable

from torch import Tensor, nn

from baiwen.model import dual, kernels
from baiwen.model.config import ModelConfig
from baiwen.model.dca import Turns
from baiwen.model.documents import Documents
from baiwen.model.paged import Step

Attend = Callable[[Tensor, Tensor, Tensor, Documents | None, Turns | None], Tensor]


def attend(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents | None, turns: Turns | None
) -> Tensor:
    """Causal attention within documents, dual chunk attention with `turns`, without a cache.

    q [B, T, H, D], k and v [B, T, K, D] -> [B, T, H, D].
    """
    if turns is None:
        return kernels.attend(q, k, v, documents)
    return dual.attend(q, k, v, documents, turns)


class Attention(nn.Module):
    """Biases on q, k and v only; H query heads share K key heads."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        keys = config.num_key_value_heads
        self.counts = [config.num_attention_heads, keys, keys]  # of the heads of q, k, v
        size, key_size = config.hidden_size, keys * config.head_dim
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(size, key_size)
        self.v_proj = nn.Linear(size, key_size)
        self.o_proj = nn.Linear(size, size, bias=False)
        self.qkv_proj: nn.Linear | None = None  # for all three, in a packed model
        self.attend: Attend = attend  # another one where ranks share rows

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        documents: Documents | None = None,
        cache: Step | None = None,
        turns: Turns | None = None,
    ) -> Tensor:
        """[B, T, C] -> [B, T, C]; with a cache the tokens also see what it holds.

        With `turns` by dual chunk attention; a cache knows its own.
        """
        q, k, v = self._heads(x)  # [B, T, H or K, D]
        q, k = kernels.rotate(q, k, *rope)
        if cache is not None:
            out = cache.attend(self.layer, q, k, v)
        else:
            out = self.attend(q, k, v, documents, turns)
        return self.o_proj(out.flatten(2))

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.qkv_proj is not None:
            heads = self.qkv_proj(x).unflatten(-1, (-1, self.head_dim))
            return heads.split(self.counts, dim=2)
        projected = kernels.linears(x, (self.q_proj, self.k_proj, self.v_proj))
        return tuple(part.unflatten(-1, (-1, self.head_dim)) for part in projected)
