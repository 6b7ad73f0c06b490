"""Attention over a paged cache in plain PyTorch: keys are gathered, dense products do the rest.

The oracle of every faster form. Memory is bounded: `fill` by what `Layout.groups` puts together,
a piece of at most 512 queries times the keys of its sequence; `paged` by KEYS keys at a time, whose
parts are merged (`parts.py`). Where queries see a part of the keys, it gathers these alone, for all
query heads that share them.

N tokens, g sequences of a group, T queries of each, S keys, H query and K key heads, G = H / K,
D head size.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.model import parts
from baiwen.model.layout import Group
from baiwen.model.pages import Lists, Pages, Scales, gather

TILE = 64  # queries and keys of a block where lists choose
DENSE = 512  # queries of a block that sees all keys
KEYS = 2**15  # that are gathered at a time


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
            out[start:end, asked], lse[asked, start:end] = _over(
                q[start:end, asked], pages, _key_heads(asked, heads, pages), places, place + start
            )
    return out, lse


def _key_heads(asked: slice, heads: int, pages: Pages) -> slice:
    """The key heads of some of the query heads."""
    group = heads // pages.keys.shape[2]
    return slice(asked.start // group, -(-asked.stop // group))


def _over(
    q: Tensor, pages: Pages, heads: slice, places: Tensor, place: int
) -> tuple[Tensor, Tensor]:
    """q [t, H, D], the first at `place`, over keys of some heads: [t, H, D] and lse [H, t]."""

    def part(places: Tensor, causal: bool, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        k, v = pages.read(places, heads=heads)  # [n, K, D]
        return parts.forward(q[None].float(), k[None], v[None], causal, mask)

    # Columns are all early, and blocks rise.
    early, late = places.tensor_split([int((places < place).sum())])
    stands = torch.arange(place, place + len(q), device=q.device)
    found = [part(piece, causal=False) for piece in early.split(KEYS) if len(piece)]
    if len(late):
        square = late.equal(stands)
        found.append(part(late, square, None if square else (late <= stands[:, None])[None]))
    outs, lses = zip(*found or [parts.nothing(q[None])], strict=True)
    out, lse = parts.merge(outs, lses) if len(found) > 1 else (outs[0], lses[0])
    return out[0], lse[0]


def fill(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    groups: Iterable[Group],
    out: Tensor,
    scales: Scales | None = None,
) -> None:
    """The rows of `out` that belong to the groups."""
    for group in groups:
        found = gather(keys, values, group.tables, scales)  # [g, S, K, D] each
        out.index_copy_(0, group.rows, _together(q.to(found[0].dtype), *found, group).to(out.dtype))


def _together(q: Tensor, k: Tensor, v: Tensor, group: Group) -> Tensor:
    """The outputs of one group, [g * T, H, D]."""
    k, v = k.transpose(1, 2), v.transpose(1, 2)
    asked = q[group.rows].unflatten(0, (len(group.tables), -1))  # [g, T, H, D]
    if asked.shape[1] == 1:  # the heads that share a key head are queries of one call
        asked = asked.squeeze(1).unflatten(1, (k.shape[1], -1))  # [g, K, H / K, D]
        out = F.scaled_dot_product_attention(asked, k, v, attn_mask=group.mask)
        return out.flatten(1, 2)
    out = F.scaled_dot_product_attention(
        asked.transpose(1, 2), k, v, attn_mask=group.mask, enable_gqa=asked.shape[2] != k.shape[1]
    )  # [g, H, T, D]
    return out.transpose(1, 2).flatten(0, 1)
