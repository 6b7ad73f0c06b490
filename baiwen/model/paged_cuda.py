"""A chunk of a prompt on CUDA: FlashAttention over all keys, FlexAttention over blocks in lists.

    if paged_cuda.reads(q, pages):
        out, lse = paged_cuda.paged(q, pages, place, first, last, lists)     # as kernels.prefill

The keys of a call are gathered once, in the dtype of the queries. Lists become a `BlockMask` of
blocks of TILE queries and keys, so only listed blocks are computed; keys alone are no blocks: they
are attended by products over what is gathered for each block of queries, and merged (`parts`).

T queries, S keys, H query heads, K key heads, G = H / K, D head size, n blocks of queries, L list
heads, b blocks of keys, C keys alone of a list.
"""

import math
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from baiwen.model import parts
from baiwen.model.pages import Lists, Pages

TILE = 128  # queries and keys of a block: what FlexAttention's kernels are tuned for


def reads(q: Tensor, pages: Pages) -> bool:
    """Whether `paged` takes these queries and pages: a GPU with bf16 FlashAttention, and Triton."""
    if not q.is_cuda or q.requires_grad or q.dtype not in (torch.bfloat16, torch.float16):
        return False
    return torch.cuda.get_device_capability(q.device) >= (8, 0) and find_spec("triton") is not None


def paged(
    q: Tensor, pages: Pages, place: int, first: int, last: int, lists: Lists | None = None
) -> tuple[Tensor, Tensor]:
    """As `kernels.prefill`, for lists whose blocks begin at `first` + a multiple of TILE."""
    last = max(first, min(last, place + len(q)))
    if first == last:  # before all of them
        return q.new_zeros(q.shape).float(), q.new_full(q.shape[1::-1], -math.inf).float()
    keys, values = pages.read(torch.arange(first, last, device=q.device), q.dtype)  # [S, K, D]
    if lists is None:
        return dense(q, keys, values, place - first)
    found = blocks(q, keys, values, block_mask(lists, q, len(keys), place, first), _compiled())
    if lists.columns is None:
        return found
    return parts.merge(*zip(found, columns(q, keys, values, lists, first), strict=True))


def dense(q: Tensor, keys: Tensor, values: Tensor, place: int) -> tuple[Tensor, Tensor]:
    """FlashAttention over keys and values [S, K, D]: query t sees those up to place + t."""
    count = len(q)
    inside = min(max(len(keys) - place, 0), count)  # queries that stand among the keys
    found = []
    for queries, window in ((q[:inside], (-1, 0)), (q[inside:], (-1, -1))):
        if len(queries):
            # A causal window ends with the last query at the last key.
            seen = place + inside if window == (-1, 0) else len(keys)
            found.append(_flash(queries, keys[:seen], values[:seen], window))
    outs, lses = zip(*found, strict=True)
    return torch.cat(outs), torch.cat(lses, 1)


def _flash(q: Tensor, k: Tensor, v: Tensor, window: tuple[int, int]) -> tuple[Tensor, Tensor]:
    # Imported where it is needed: it brings torch._dynamo, more than a second of every start.
    varlen = import_module("torch.nn.attention.varlen")
    ends = [torch.tensor([0, len(x)], dtype=torch.int32, device=q.device) for x in (q, k)]
    out, lse = varlen.varlen_attn(
        *(q, k, v, *ends, len(q), len(k)),
        return_aux=varlen.AuxRequest(lse=True),
        window_size=window,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    # lse is [H, T], as the operation's own fake says; +inf where a query sees no key.
    return out.float(), lse.masked_fill(lse.isposinf(), -math.inf)


def blocks(
    q: Tensor, keys: Tensor, values: Tensor, mask: BlockMask, attend: Callable[..., tuple]
) -> tuple[Tensor, Tensor]:
    """FlexAttention over the blocks of a mask: out [T, H, D] and lse [H, T]."""
    out, aux = attend(
        *(x.transpose(0, 1)[None] for x in (q, keys, values)),  # [1, H or K, T or S, D]
        block_mask=mask,
        enable_gqa=q.shape[1] != keys.shape[1],
        return_aux=AuxRequest(lse=True),
    )
    return out[0].transpose(0, 1).float(), aux.lse[0]


@cache
def _compiled() -> Callable[..., tuple]:
    """For all lengths: every chunk of a prompt sees more keys than the one before."""
    return torch.compile(flex_attention, dynamic=True)


def block_mask(lists: Lists, q: Tensor, keys: int, place: int, first: int) -> BlockMask:
    """What the lists' blocks are to FlexAttention; whole blocks apart from those it must mask."""
    count, heads, _ = q.shape
    listed = _table(lists, -(-count // TILE), -(-keys // TILE), first)  # [L, n, b]
    begins = torch.arange(0, count, TILE, device=q.device)[:, None] + (place - first)  # [n, 1]
    starts = torch.arange(0, keys, TILE, device=q.device)  # [b]
    whole = starts + TILE - 1 <= begins
    some = (starts <= begins + TILE - 1) & ~whole
    apart = torch.tensor(place - first, device=q.device)  # a tensor: no number to compile anew for

    def seen(_row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return key <= query + apart

    spread = listed.repeat_interleave(heads // lists.heads, 0)[None]  # [1, H, n, b]
    return BlockMask.from_kv_blocks(
        *_numbered(spread & some),
        *_numbered(spread & whole),
        BLOCK_SIZE=TILE,
        mask_mod=seen,
        seq_lengths=(count, keys),
    )


def _table(lists: Lists, many: int, wide: int, first: int) -> Tensor:
    """Whether a block of queries lists a block of keys: [L, many, wide] bool."""
    numbers = torch.repeat_interleave(lists.ends.diff())  # of the list of each block
    chosen = (lists.firsts - first).div(TILE, rounding_mode="floor").long()
    inside = (chosen >= 0) & (chosen < wide)
    table = lists.firsts.new_zeros(many * lists.heads, wide, dtype=torch.bool)
    table[numbers[inside], chosen[inside]] = True
    return table.unflatten(0, (many, lists.heads)).transpose(0, 1)


def _numbered(table: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks each row of a table has, and their numbers first: [...], [..., b] int32."""
    order = table.byte().argsort(dim=-1, descending=True, stable=True)
    return table.sum(-1, dtype=torch.int32), order.int()


def columns(
    q: Tensor, keys: Tensor, values: Tensor, lists: Lists, first: int
) -> tuple[Tensor, Tensor]:
    """Attention over the keys alone of each list: out [T, H, D] and lse [H, T]."""
    assert lists.columns is not None and lists.column_ends is not None
    count, _, size = q.shape
    many = lists.column_ends.diff()  # [n * L]
    within = torch.arange(int(many.max()), device=q.device)  # [C]
    real = within < many[:, None]
    chosen = lists.columns[(lists.column_ends[:-1, None] + within).where(real, 0)].long() - first
    real = (real & (chosen >= 0) & (chosen < len(keys))).unflatten(0, (-1, lists.heads))
    chosen = chosen.view_as(real).where(real, 0)  # [n, L, C]
    owners = torch.arange(lists.heads, device=q.device)[:, None] * keys.shape[1] // lists.heads
    k, v = keys[chosen, owners], values[chosen, owners]  # [n, L, C, D]
    padded = F.pad(q, (0, 0, 0, 0, 0, -count % TILE)).unflatten(0, (-1, TILE))
    asked = padded.unflatten(2, (lists.heads, -1)).permute(0, 2, 3, 1, 4)  # [n, L, H/L, TILE, D]
    scores = (asked.flatten(2, 3) @ k.transpose(-1, -2)).float() / math.sqrt(size)
    scores.masked_fill_(~real[:, :, None], -math.inf)  # [n, L, H/L * TILE, C]
    lse = scores.logsumexp(-1, keepdim=True)
    shares = (scores - lse.masked_fill(lse.isneginf(), 0)).exp().to(v.dtype)
    out = (shares @ v).float().unflatten(2, (-1, TILE)).permute(0, 3, 1, 2, 4)
    logs = lse.unflatten(2, (-1, TILE)).squeeze(-1).permute(1, 2, 0, 3)  # [L, H/L, n, TILE]
    return (
        out.flatten(2, 3).flatten(0, 1)[:count],
        logs.flatten(0, 1).flatten(1)[:, :count],
    )
