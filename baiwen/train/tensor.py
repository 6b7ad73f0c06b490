"""Tensor parallelism: ranks share each matrix, and between the matrices the tokens of each row.

    with dist.session(layout=Layout(tensor=2)) as world:
        install(model, world)                     # both are what parallel.shard does:
        distribute(block, world.meshes)           # each unit, before FSDP2 splits it on

Attention and feed-forward are split as Megatron-LM splits them (Shoeybi et al., 2019): a rank has
some heads, and some of the feed-forward's inner width, of q, k, v, gate and up the rows, of o and
down the columns. In between, a rank has some of each row's tokens (sequence parallelism,
Korthikanti et al., 2022): norms, residual stream and sparse layers work on those alone.

    tokens [B, t, C] -> all-gather -> q k v, or gate up [B, T, ./R] -> o or down -> reduce-scatter

Each is the other's transpose, so gradients go the same way back. The embedding and the head are
split over the vocabulary: the embedding is another sum over ranks that is scattered to tokens, and
the head stays a DTensor in `Outputs`, of which the losses take this rank's rows (`vocabulary.py`).

Every parameter becomes a DTensor, whole on each rank where it is not split; a forward pass sees its
local part, and a whole one's gradient is the sum over ranks, since each has other tokens.

B rows, T tokens of a row, R ranks, t = ceil(T / R) tokens of each, C hidden size.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from baiwen.dist import Meshes, World
from baiwen.model.documents import Documents
from baiwen.model.layers import MLP
from baiwen.model.moe import Experts
from baiwen.model.reward import RewardModel
from baiwen.model.routing import Routing
from baiwen.model.transformer import Block, Model
from baiwen.train import vocabulary
from baiwen.train.local import local
from baiwen.train.sequence import gather, mine, scatter

# The dimension of which a rank has a part: outputs are its own, or inputs, and outputs are summed.
# What is not here, a sparse layer among it, is whole on each rank.
SPLIT = {
    "embed_tokens": 0,
    "lm_head": 0,
    "self_attn.q_proj": 0,
    "self_attn.k_proj": 0,
    "self_attn.v_proj": 0,
    "self_attn.o_proj": 1,
    "mlp.gate_proj": 0,
    "mlp.up_proj": 0,
    "mlp.down_proj": 1,
}


def install(model: Model, world: World) -> None:
    """Let `model` run over the ranks that share matrices, once `distribute` has split its units."""
    assert world.meshes is not None
    # It tells every rank that gathering what is split twice takes two steps; this happens seldom.
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    group = world.meshes.weights.get_group("tensor")
    decoder = model.model
    scored = isinstance(model, RewardModel)  # by every rank alike, from whole states
    _wrap(model, "states", _states, group, scored)
    _wrap(decoder.embed_tokens, "forward", _embed, decoder.embed_tokens, group)
    _wrap(decoder.norm, "forward", _norm, decoder.norm)
    for block in decoder.layers:
        assert isinstance(block, Block)
        _wrap(block.self_attn, "forward", _attend, group)
        if isinstance(block.mlp, MLP):
            _wrap(block.mlp, "forward", _feed_forward, group)
        _wrap(block, "forward", _block, block, group)
    if scored:
        _wrap(model, "rewards", _rewards, model)


def distribute(unit: nn.Module, meshes: Meshes) -> None:
    """Make each parameter a DTensor on the mesh "tensor": this rank's part of it, or all.

    unit: a block, or the model behind its blocks; what is a DTensor already stays.
    """
    mesh = meshes.weights["tensor"]
    for path, module in unit.named_modules():
        if isinstance(module, Experts):  # they have a mesh of their own: `expert.py`
            continue
        dim = SPLIT.get(path.removeprefix("model."))
        placement = Replicate() if dim is None else Shard(dim)
        for name, parameter in module.named_parameters(recurse=False):
            if not isinstance(parameter, DTensor):
                placed = distribute_tensor(parameter.data, mesh, [placement], src_data_rank=None)
                made = nn.Parameter(placed, requires_grad=parameter.requires_grad)
                module.register_parameter(name, made)


def _wrap(module: nn.Module, name: str, wrapper: Callable[..., Any], *given: Any) -> None:  # noqa: ANN401
    """Let `wrapper(inner, *given, ...)` answer for the method `inner` of a module."""
    setattr(module, name, partial(wrapper, getattr(module, name), *given))


@dataclass(frozen=True)
class Here:
    """What a block is told of documents: attention reads them all, a sparse layer what is here."""

    documents: Documents | None
    tokens: Tensor  # [B, t, C] of this rank
    width: int  # T
    group: ProcessGroup

    @property
    def real(self) -> Tensor | None:
        """[B, t] bool, true where a token is not padding; None where all are real."""
        real = None if self.documents is None else self.documents.real
        if real is None and self.width % self.group.size():
            whole = len(self.tokens), self.width
            real = torch.ones(whole, dtype=torch.bool, device=self.tokens.device)
        return None if real is None else mine(real, self.group)


def _states(
    states: Callable[..., tuple[Tensor, Routing | None]],
    group: ProcessGroup,
    alike: bool,
    tokens: Tensor,
    positions: Tensor | None = None,
    documents: Documents | None = None,
    cache: None = None,
    chosen: Tensor | None = None,
) -> tuple[Tensor, Routing | None]:
    """`Model.states`: all tokens on each rank, and what the routers did with those of this one."""
    assert cache is None  # an engine has whole models
    if chosen is not None:
        chosen = torch.stack([mine(layer, group) for layer in chosen])
    hidden, routing = states(tokens, positions, documents, None, chosen)
    return gather(hidden, tokens.shape[1], group, alike=alike), routing


def _embed(
    _: Callable[[Tensor], Tensor], layer: nn.Embedding, group: ProcessGroup, tokens: Tensor
) -> Tensor:
    """tokens [B, T] -> [B, t, C]: a rank looks up those of its rows, and adds zeros for others."""
    part, split = vocabulary.here(layer.weight)
    places = tokens - split.first
    absent = (places < 0) | (places >= len(part))
    found = F.embedding(places.masked_fill(absent, 0), part)
    return scatter(found.masked_fill(absent[..., None], 0.0), group)


def _norm(forward: Callable[[Tensor], Tensor], norm: nn.Module, x: Tensor) -> Tensor:
    with local(norm):
        return forward(x)


def _rewards(rewards: Callable[[Tensor], Tensor], model: RewardModel, states: Tensor) -> Tensor:
    with local(model.score, alike=True):
        return rewards(states)


def _block(
    forward: Callable[..., tuple[Tensor, Routing | None]],
    block: Block,
    group: ProcessGroup,
    x: Tensor,
    rope: tuple[Tensor, Tensor],
    documents: Documents | None = None,
    *given: Any,  # noqa: ANN401
) -> tuple[Tensor, Routing | None]:
    """[B, t, C] -> [B, t, C], of rotary tables and documents of all tokens."""
    with local(block):
        return forward(x, rope, Here(documents, x, rope[0].shape[1], group), *given)


def _attend(
    forward: Callable[..., Tensor],
    group: ProcessGroup,
    x: Tensor,
    rope: tuple[Tensor, Tensor],
    here: Here,
    *given: Any,  # noqa: ANN401
) -> Tensor:
    """Attention by this rank's heads: [B, t, C] -> [B, t, C]."""
    whole = gather(x, here.width, group)
    return scatter(forward(whole, rope, here.documents, *given), group)


def _feed_forward(forward: Callable[[Tensor], Tensor], group: ProcessGroup, x: Tensor) -> Tensor:
    """[B, t, C] -> [B, t, C]; what pads the rows is zero before and after."""
    return scatter(forward(gather(x, x.shape[1] * group.size(), group)), group)
