"""The transformer: embedding, blocks of attention and feed-forward, final norm, head.

Pre-norm, decoder-only (spec 1.1). Modules carry the names of the published safetensors, so that
loading is a loop over names.

    model = Transformer(SIZES["tiny"])
    model.init_weights(seed=0)
    logits = model.logits(tokens)              # [B, T] -> [B, T, V]

B batch, T tokens, C hidden size, V vocabulary, L sparse layers, E experts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from baiwen.model import dca, few
from baiwen.model.attention import Attention
from baiwen.model.config import ModelConfig
from baiwen.model.dca import Turns
from baiwen.model.documents import Documents
from baiwen.model.layers import MLP, RMSNorm
from baiwen.model.moe import MoE
from baiwen.model.paged import Step
from baiwen.model.routing import Routing, stack

FusedBlock = Callable[[Tensor, tuple[Tensor, Tensor], Step], Tensor]


@dataclass
class Outputs:
    """What one forward gives: no logits, so that a loss may take them in pieces."""

    hidden: Tensor  # [B, T, C], after the final norm
    head: Tensor  # [V, C], the weight of `project`, for losses; empty in a packed model
    routing: Routing | None = None  # of the sparse layers


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp: MoE | MLP
        if config.sparse(layer):
            self.mlp = MoE(config)
        else:
            self.mlp = MLP(config.hidden_size, config.intermediate_size)
        self.fused: FusedBlock | None = None  # what a packed model does with a cache

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        documents: Documents | None = None,
        cache: Step | None = None,
        turns: Turns | None = None,
        chosen: Tensor | None = None,
    ) -> tuple[Tensor, Routing | None]:
        """[B, T, C] -> [B, T, C], and what a sparse layer's router did; chosen: as `MoE` has it."""
        if cache is not None:
            if self.fused is not None:
                return self.fused(x, rope, cache), None
            if (done := few.block(x, self, rope, cache)) is not None:
                return done
        x, normed = self.input_layernorm.add(x, None)
        attended = self.self_attn(normed, rope, documents, cache, turns)
        x, normed = self.post_attention_layernorm.add(x, attended)
        if isinstance(self.mlp, MLP):
            return x + self.mlp(normed), None
        out, routing = self.mlp(normed, documents.real if documents else None, chosen)
        return x + out, routing


class Decoder(nn.Module):
    """The body of the model; a module of its own because the files call it `model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Model(nn.Module):
    """The decoder and its configuration: what models with any head on top have in common."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.checkpoint_blocks = False  # recompute each block in backward instead of storing it

    def states(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        documents: Documents | None = None,
        cache: Step | None = None,
        chosen: Tensor | None = None,
    ) -> tuple[Tensor, Routing | None]:
        """tokens [B, T] -> hidden states [B, T, C] after the final norm, and the routers' record.

        positions [B, T] default to those of `documents` or 0 ... T-1; a cache knows its own.
        chosen [L, B, T, k]: the experts that tokens go to in each sparse layer (`routing.py`).
        """
        turns = None
        if cache is not None:
            angles = cache.tables(tokens.shape[1])
        else:
            positions = _positions(tokens, documents) if positions is None else positions
            angles, turns = dca.angles(self.config, positions, documents)
        x = self.model.embed_tokens(tokens)  # [B, T, C]
        routings = []
        recompute = self.checkpoint_blocks and torch.is_grad_enabled() and cache is None
        layers = iter(() if chosen is None else chosen)
        for block in self.model.layers:
            mine = next(layers) if chosen is not None and isinstance(block.mlp, MoE) else None
            if recompute:
                x, routing = _recomputed(block, x, angles, documents, turns, mine)
            else:
                x, routing = block(x, angles, documents, cache, turns, mine)
            routings.append(routing)
        return self.model.norm(x), stack(routings)

    @torch.no_grad()
    def init_weights(self, seed: int = 0) -> None:
        """Matrices from N(0, initializer_range), norms 1, biases 0; the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                drawn = torch.empty(parameter.shape).normal_(
                    0, self.config.initializer_range, generator=generator
                )
                parameter.copy_(drawn)
            else:
                parameter.fill_(0 if name.endswith("bias") else 1)


class Transformer(Model):
    """Qwen2/Qwen2.5, dense or mixture of experts: a language model."""

    def __init__(self, config: ModelConfig) -> None:
        assert not config.reward  # that is `reward.RewardModel`'s
        super().__init__(config)
        self.lm_head: nn.Linear | None = None
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        documents: Documents | None = None,
        cache: Step | None = None,
        chosen: Tensor | None = None,
    ) -> Outputs:
        """tokens [B, T] -> hidden states; the rest as `states` takes it."""
        hidden, routing = self.states(tokens, positions, documents, cache, chosen)
        head = self.lm_head or self.model.embed_tokens
        return Outputs(hidden, head.weight, routing)

    def logits(self, tokens: Tensor) -> Tensor:
        """[B, T] -> [B, T, V], each row one document."""
        return self.project(self(tokens).hidden)

    def project(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., C] after the final norm -> logits [..., V]."""
        head = self.lm_head or self.model.embed_tokens
        if few.fits(hidden, head):
            return few.linear(hidden, head)
        return head(hidden) if self.lm_head else F.linear(hidden, head.weight)


def _recomputed(
    block: nn.Module,
    x: Tensor,
    angles: tuple[Tensor, Tensor],
    documents: Documents | None,
    turns: Turns | None,
    chosen: Tensor | None,
) -> tuple[Tensor, Routing | None]:
    """The block, of which backward computes all again but the choice of experts."""

    def run(x: Tensor) -> tuple[Tensor, Routing | None]:
        nonlocal chosen
        out, routing = block(x, angles, documents, None, turns, chosen)
        if routing is not None:
            chosen = routing.experts
        return out, routing

    found: tuple[Tensor, Routing | None] = checkpoint(run, x, use_reentrant=False)
    return found


def _positions(tokens: Tensor, documents: Documents | None) -> Tensor:
    if documents is not None:
        return documents.positions
    return torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
