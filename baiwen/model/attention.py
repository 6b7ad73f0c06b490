"""Grouped-query attention with rotary positions (Ainslie et al., 2023).

B batch, T tokens, C hidden size, H query heads, K key heads, D head size.
"""

from torch import Tensor, nn

from baiwen.model import kernels
from baiwen.model.config import ModelConfig
from baiwen.model.documents import Documents
from baiwen.model.paged import Step


class Attention(nn.Module):
    """Biases on q, k and v only; H query heads share K key heads."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        size, key_size = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(size, key_size)
        self.v_proj = nn.Linear(size, key_size)
        self.o_proj = nn.Linear(size, size, bias=False)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        documents: Documents | None = None,
        cache: Step | None = None,
    ) -> Tensor:
        """[B, T, C] -> [B, T, C]; with a cache the tokens also see what it holds."""
        q, k, v = (
            project(x).unflatten(-1, (-1, self.head_dim))  # [B, T, H or K, D]
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = kernels.rotate(q, k, *rope)
        if cache is None:
            out = kernels.attend(q, k, v, documents)
        else:
            out = cache.attend(self.layer, q, k, v)
        return self.o_proj(out.flatten(2))
