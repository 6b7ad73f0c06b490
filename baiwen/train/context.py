"""Context parallelism: the tokens of each row are spread over ranks, for rows that none could hold.

    with dist.session(layout=Layout(context=4)) as world:
        install(model, "ulysses", world)
        batches = [share(batch, "ulysses", world) for batch in batches]     # T / 4 tokens a row

All but attention works on each token alone, so a rank takes its tokens through the model at their
true positions; losses and gradients are sums over tokens, which the loop adds up over all ranks
anyway. Attention has two forms:

* `ulysses` (DeepSpeed-Ulysses, Jacobs et al., 2023): an all-to-all gives each rank all tokens of
  some heads, another one brings the outputs back. Any attention there is runs in between.
* `ring` (Liu et al., 2023; `ring.py`): keys and values go round, and each rank merges what its
  queries see of them. Needs no heads to divide.

B rows, T tokens of a row, R ranks, t = T / R tokens of each, H query heads, K key heads, D head
size.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

from baiwen.dist import Layout, World
from baiwen.errors import UserError
from baiwen.model import dca
from baiwen.model.attention import Attention, attend
from baiwen.model.config import ModelConfig
from baiwen.model.dca import Turns
from baiwen.model.documents import Documents
from baiwen.model.transformer import Model
from baiwen.train import ring
from baiwen.train.losses import Batch

Form = Literal["ulysses", "ring"]
B = TypeVar("B", bound=Batch)


@dataclass(frozen=True)
class Share(Documents):
    """Documents of which some tokens are here: lengths are of all tokens, [B, t] of those here."""

    whole: Documents = field(kw_only=True)
    here: tuple[slice, ...] = field(kw_only=True)  # places of the row

    @classmethod
    def of_whole(cls, whole: Documents, here: tuple[slice, ...]) -> "Share":
        """The tokens `here` of each row of these documents."""
        same = whole.ends, whole.lengths, whole.rows, whole.width, whole.padding, whole.trunks
        return cls(*same, whole=whole, here=here)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Share":
        """The same tokens of the same documents on `device`."""
        return self.of_whole(self.whole.to(device, non_blocking), self.here)

    def cut(self, x: Tensor) -> Tensor:
        """Of x [B, T] what is here: [B, t]."""
        return torch.cat([x[:, run] for run in self.here], 1)

    @cached_property
    def index(self) -> Tensor:
        """[B, t], the number of each token's document in the batch."""
        return self.cut(self.whole.index)

    @cached_property
    def positions(self) -> Tensor:
        """[B, t], the place of each token in its document."""
        return self.cut(self.whole.positions)

    @cached_property
    def real(self) -> Tensor | None:
        """[B, t] bool, true where a token is not padding; None where all are real."""
        return None if self.whole.real is None else self.cut(self.whole.real)


def share(batch: B, form: Form, world: World) -> B:
    """The tokens of a batch that this rank takes; the batch itself where no row is shared."""
    if world.context is None:
        return batch
    rank, ranks, width = world.context.rank(), world.context.size(), batch.documents.width
    runs: tuple[slice, ...] = (slice(rank * width // ranks, (rank + 1) * width // ranks),)
    if form == "ring":
        runs = ring.blocks(width, rank, ranks)
    documents = Share.of_whole(batch.documents, runs)
    names = ("tokens", "targets", "mask", "positions")
    here = {name: documents.cut(getattr(batch, name)) for name in names}  # [B, t] each
    count = float(here["mask"].sum(dtype=torch.float64))
    real = here["mask"].numel() if documents.real is None else int(documents.real.sum())
    record: Any = batch  # a dataclass, which a Protocol cannot say
    shared: B = replace(record, **here, documents=documents, count=count, real=real)
    return shared


def install(model: Model, form: Form, world: World) -> None:
    """Let the attention of `model` run over the ranks that share rows, on batches of `share`."""
    assert world.context is not None
    by_heads = partial(_by_heads, group=world.context, config=model.config)
    by_ring = partial(_by_ring, group=world.context)
    for module in model.modules():
        if isinstance(module, Attention):
            module.attend = by_heads if form == "ulysses" else by_ring


def check(config: ModelConfig, form: Form, layout: Layout) -> None:
    """Raise UserError where ranks that share rows cannot divide the heads of a model."""
    heads, ranks = config.num_attention_heads // layout.tensor, layout.context
    if form == "ulysses" and heads % ranks:
        raise UserError(
            f"parallel.context = {ranks} ranks share the {heads} heads of the model that a rank "
            f"has, which do not divide; use {math.gcd(heads, ranks)}, or "
            'parallel.context_form = "ring"'
        )


def _by_ring(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents | None,
    turning: Turns | None,
    *,
    group: ProcessGroup,
) -> Tensor:
    """q [B, t, H, D], k and v [B, t, K, D] -> [B, t, H, D]."""
    assert isinstance(documents, Share)
    return ring.attend(q, k, v, documents.whole, turning, group)


def _by_heads(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Documents | None,
    turning: Turns | None,
    *,
    group: ProcessGroup,
    config: ModelConfig,
) -> Tensor:
    """q [B, t, H, D], k and v [B, t, K, D] -> [B, t, H, D]; in between [B, T, H / R, D]."""
    assert isinstance(documents, Share)
    ranks = group.size()
    copies = ranks // math.gcd(k.shape[2], ranks)  # of a key head, where ranks share it
    k, v = (x.repeat_interleave(copies, 2) for x in (k, v))
    parts = [x.unflatten(2, (ranks, -1)) for x in (q, k, v)]  # [B, t, R, heads, D]
    sent = torch.cat(parts, 3).movedim(2, 0)  # [R, B, t, heads, D]
    here = _exchange(sent, group).movedim(0, 1).flatten(1, 2)  # [B, T, heads, D]
    mine = [part.shape[3] for part in parts]
    if turning is not None:  # that of the tokens here
        turning = dca.turns(config, documents.whole.positions)
    q, k, v = here.split(mine, 2)
    out = attend(q, k, v, documents.whole, turning)  # [B, T, H / R, D]
    back = _exchange(out.unflatten(1, (ranks, -1)).movedim(1, 0), group)  # [R, B, t, H / R, D]
    return back.movedim(0, 2).flatten(2, 3)


def _exchange(x: Tensor, group: ProcessGroup) -> Tensor:
    """x [R, ...]: the n-th part goes to rank n, and comes back as the n-th from it."""
    out = _AllToAll.apply(x, group)
    assert isinstance(out, Tensor)
    return out


class _AllToAll(torch.autograd.Function):
    """Its own transpose, so gradients go the same way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:  # noqa: ANN401
        ctx.group = group
        x = x.contiguous()
        out = torch.empty_like(x)
        torch.distributed.all_to_all_single(out, x, group=group)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return _AllToAll.forward(ctx, grad, ctx.group), None
