"""Attention over a paged cache in plain PyTorch: keys are gathered, dense products do the rest.

The oracle of every faster form. Memory is bounded: `attend` by what `Layout.groups` puts together,
a piece of at most 512 queries times the keys of its sequence; `paged` by SCORES numbers, whatever
the lengths, since it goes on from piece to piece of the keys with a running maximum and sum
(FlashAttention; Dao et al., 2022). Where queries see a part of the keys, it gathers these alone.

N tokens, g sequences of a group, T queries of each, S keys, H query and K key heads, G = H / K,
D head size.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.model.layout import Group, Layout
from baiwen.model.pages import Lists, Pages

TILE = 64  # queries and keys of a block where lists choose
DENSE = 256  # queries of a block that sees all keys
SCORES = 2**22  # numbers at a time, 16 MiB
LOWEST = -1e30  # below every score, and finite: a difference of two is 0


def paged(
    q: Tensor,
    pages: Pages,
    place: int,
    first: int,
    last: int,
    lists: Lists | None = None,
    tile: int = TILE,
) -> tuple[Tensor, Tensor]:
    """Queries q [T, H, D] of one sequence over its keys: out [T, H, D] and lse [H, T], both fp32.

    Of the keys first ... last - 1 query t sees those up to place + t, and of these, with `lists`,
    what is listed for its block of `tile` queries. One that sees none gets 0, and -inf as lse.
    """
    count, heads, _ = q.shape
    out, lse = q.new_empty(q.shape, dtype=torch.float32), q.new_empty(heads, count).float()
    step, alone = (tile, lists.heads) if lists else (DENSE, 1)  # without lists all heads as one
    for start in range(0, count, step):
        end = min(start + step, count)
        for head in range(alone):
            places = torch.arange(first, last, device=q.device)
            if lists:
                places = lists.places(start // step * alone + head, tile)
            places = places[(first <= places) & (places < min(last, place + end))]
            asked = slice(head * heads // alone, (head + 1) * heads // alone)
            group = heads // pages.keys.shape[2]
            shared = slice(asked.start // group, -(-asked.stop // group))
            out[start:end, asked], lse[asked, start:end] = _over(
                q[start:end, asked], pages, shared, places, place + start
            )
    return out, lse


def _over(
    q: Tensor, pages: Pages, shared: slice, places: Tensor, place: int
) -> tuple[Tensor, Tensor]:
    """q [t, h, D], the first at `place`, over keys of the `shared` heads: [t, h, D] and [h, t]."""
    count, together, size = q.shape
    keys = shared.stop - shared.start
    stands = torch.arange(place, place + count, device=q.device).repeat(together // keys)  # [R]
    rows = q.float().unflatten(1, (keys, -1)).permute(1, 2, 0, 3).flatten(1, 2)  # [k, R, D]
    rows = rows / math.sqrt(size)
    out, total = torch.zeros_like(rows), rows.new_zeros(*rows.shape[:2], 1)
    most = torch.full_like(total, LOWEST)
    for piece in places.split(max(1, SCORES // total.numel())) if len(places) else ():
        k, v = (x[:, shared].transpose(0, 1) for x in pages.read(piece))  # [k, n, D]
        scores = rows @ k.transpose(1, 2)  # [k, R, n]
        if int(piece.max()) > place:
            scores.masked_fill_(piece > stands[:, None], -torch.inf)
        before, most = most, torch.maximum(most, scores.amax(-1, keepdim=True))
        shrink = (before - most).exp_()
        scores.sub_(most).exp_()
        total = total * shrink + scores.sum(-1, keepdim=True)
        out = torch.baddbmm(out.mul_(shrink), scores, v)
    out /= total.masked_fill(total == 0, 1)
    lse = torch.where(total > 0, most + total.log(), -torch.inf)  # [k, R, 1]
    parted = out.unflatten(1, (-1, count)).permute(2, 0, 1, 3).flatten(1, 2)
    return parted, lse.view(together, count)


def attend(q: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Tensor:
    """q [N, H, D] over keys and values [blocks, block_size, K, D] -> [N, H, D]."""
    out = torch.empty_like(q)
    fill(q, keys, values, layout.groups, out)
    return out


def fill(q: Tensor, keys: Tensor, values: Tensor, groups: Iterable[Group], out: Tensor) -> None:
    """The rows of `out` that belong to the groups."""
    for group in groups:
        out.index_copy_(0, group.rows, _together(q, keys, values, group).to(out.dtype))


def _together(q: Tensor, keys: Tensor, values: Tensor, group: Group) -> Tensor:
    """The outputs of one group, [g * T, H, D]."""
    k, v = (slab[group.tables].flatten(1, 2).transpose(1, 2) for slab in (keys, values))
    asked = q[group.rows].unflatten(0, (len(group.tables), -1))  # [g, T, H, D]
    if asked.shape[1] == 1:  # the heads that share a key head are queries of one call
        asked = asked.squeeze(1).unflatten(1, (k.shape[1], -1))  # [g, K, H / K, D]
        out = F.scaled_dot_product_attention(asked, k, v, attn_mask=group.mask)
        return out.flatten(1, 2)
    out = F.scaled_dot_product_attention(
        asked.transpose(1, 2), k, v, attn_mask=group.mask, enable_gqa=asked.shape[2] != k.shape[1]
    )  # [g, H, T, D]
    return out.transpose(1, 2).flatten(0, 1)
