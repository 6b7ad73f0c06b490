"""Attention over a paged cache in plain PyTorch: blocks are gathered, then SDPA does the rest.

The oracle of every faster form. Memory is bounded by what `Layout.groups` puts together: a piece of
at most 512 queries times the keys of its sequence, never a whole prompt times itself.

N tokens, g sequences of a group, T queries of each, S keys, H query and K key heads, D head size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.model.layout import Group, Layout


def attend(q: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Tensor:
    """q [N, H, D] over keys and values [blocks, block_size, K, D] -> [N, H, D]."""
    out = torch.empty_like(q)
    for group in layout.groups:
        out.index_copy_(0, group.rows, _together(q, keys, values, group))
    return out


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
