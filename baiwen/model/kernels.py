"""Everything that has a fast form: attention through one door, norm, SwiGLU, rotation, experts.

Each function is defined by its plain form; a faster one gives the same result and has a parity
test. `attend` is attention without a cache: on the CPU `flash`, in C++, on CUDA for packed
documents FlashAttention (`varlen_attn`) or FlexAttention with a block mask, and SDPA elsewhere, on
the documents themselves or on whole rows with a mask, whichever costs less. `paged` is attention
over a cache, by single queries and by `prefill`. What `torch.compile` traces is the plain form.

B batch, T tokens, S keys, H query heads, K key heads, D head size, n documents.
"""

import operator
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from baiwen.model import chunked, compiled, dca, flash, fused, gathered, paged_cpu, paged_cuda
from baiwen.model.dca import Turns
from baiwen.model.documents import Documents
from baiwen.model.layout import Layout
from baiwen.model.mixture import Order, Weights, count
from baiwen.model.pages import Lists, Pages, Scales, encode

# A further call of SDPA costs about as much as this many (query, key) pairs in a call of their own.
CALL = 4096


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight with fp32 statistics; [..., C], in autocast's dtype when that is on."""
    return add_rms_norm(x, None, weight, eps)[1]


def add_rms_norm(x: Tensor, y: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + y (x itself without a y), [..., C], and its `rms_norm`.

    A residual stream should go on with the first: then its gradient and the norm's are one pass.
    """
    dtype = _compute_dtype(x)
    if compiled.norm_fits(x, y, dtype):
        return compiled.add_rms_norm(x, y, weight, eps, dtype)
    total = x if y is None else x + y
    return total, fused.rms_norm(total, weight, eps, dtype)


def linears(x: Tensor, layers: Sequence[nn.Linear]) -> tuple[Tensor, ...]:
    """Several linear layers of one input: [..., C] -> [..., O] each."""
    if not chunked.fits(x, layers):
        return tuple(layer(x) for layer in layers)
    return chunked.linears(x, [one.weight for one in layers], [one.bias for one in layers])


def feed_forward(x: Tensor, gate: nn.Linear, up: nn.Linear, down: nn.Linear) -> Tensor:
    """down(silu(gate(x)) * up(x)), [..., C] -> [..., C], without biases."""
    if not chunked.fits(x, (gate, up, down)):
        return down(swiglu(gate(x), up(x)))
    return chunked.feed_forward(x, gate.weight, up.weight, down.weight)


def swiglu(gate: Tensor, up: Tensor, weights: Tensor | None = None) -> Tensor:
    """silu(gate) * up, [..., I], times the weights of the rows [...] where there are any."""
    if gate.shape == up.shape and compiled.fits(gate, up):
        return compiled.swiglu(gate, up, weights)
    hidden = F.silu(gate) * up
    return hidden if weights is None else hidden * weights[..., None].to(hidden.dtype)


def rotate(q: Tensor, k: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """q [B, T, H, D] and k [B, T, K, D] turned by `rope.tables` [B or 1, T, 1, D].

    The pairs that turn together are (i, i + D/2), the half-split layout of Qwen2.5's weights.
    """
    if compiled.fits(q, k):
        return compiled.rotate(q, k, cosine, sine)
    return fused.rotate(q, cosine, sine), fused.rotate(k, cosine, sine)


def _compute_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)  # none on meta
    return torch.get_autocast_dtype(kind) if on else x.dtype


def attend(q: Tensor, k: Tensor, v: Tensor, documents: Documents | None = None) -> Tensor:
    """Causal attention within each document: q [B, T, H, D], k and v [B, T, K, D] -> [B, T, H, D].

    A branch sees its trunk too. Without `documents` every row is one document.
    """
    if flash.fits(q, k, v):
        return flash.attend(q, k, v, documents)
    if documents is None or documents.whole_rows:
        return causal(q, k, v)
    return _choose(q, documents)(q, k, v, documents)


def causal(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """SDPA in our layout: [B, T, H, D] with K key heads, causal or by `mask` [B, 1, T, S]."""
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=q.shape[2] != k.shape[2],
    )  # [B, H, T, D]
    return out.transpose(1, 2)


def paged(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: Layout,
    turns: Turns | None = None,
    choose: Callable[..., Sequence[Lists | None]] | None = None,
    scales: Scales | None = None,
) -> Tensor:
    """Causal attention of many sequences over the blocks that hold their keys: [N, H, D].

    q [N, H, D] of a step's tokens, flattened; keys and values [blocks, block_size, K, D] with those
    of the step stored already; int8 has `scales`. With `turns` by dual chunk attention; `choose`
    says for the number of a sequence, some of its queries, its pages, the first query's place and a
    `dca.Piece` which keys each part of it sees.
    """
    out = q.new_empty(q.shape, dtype=torch.float32)
    _decode(q, keys, values, layout, turns, out, scales)
    for number in layout.long:
        rows, pages = layout.rows(number), Pages(keys, values, layout.tables[number], scales)
        place = int(layout.totals[number] - layout.counts[number])
        chosen = choose and partial(choose, number)
        turning = turns and turns.rows(rows)
        out[rows] = dca.prefill(q[rows], pages, place, turning, prefill, chosen)
    return out.to(q.dtype)


def _decode(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: Layout,
    turns: Turns | None,
    out: Tensor,
    scales: Scales | None,
) -> None:
    """Fill `out` fp32 for the sequences of a step that have few queries."""
    if paged_cpu.fits(q, keys):
        paged_cpu.decode(q, keys, values, layout, turns, out, scales)
    elif turns is not None:
        dca.decode(q, keys, values, layout, turns, out, scales)
    else:
        gathered.fill(q, keys, values, layout.few, out, scales)


def prefill(
    q: Tensor, pages: Pages, place: int, first: int, last: int, lists: Lists | None = None
) -> tuple[Tensor, Tensor]:
    """Queries q [T, H, D] of one sequence over its keys: out [T, H, D] and lse [H, T], both fp32.

    Of the keys first ... last - 1 query t sees those up to place + t, and of these, with `lists`,
    what is listed for its block of `tile` queries. One that sees none gets 0, and -inf as lse.
    """
    if flash.reads(q, pages):
        return flash.paged(q, pages, place, first, last, lists)
    if paged_cuda.reads(q, pages):
        return paged_cuda.paged(q, pages, place, first, last, lists)
    return gathered.paged(q, pages, place, first, last, lists, tile(q.device))


def tile(device: torch.device | str = "cpu") -> int:
    """Queries of a block that share a list, and keys of a block that is listed: see `prefill`."""
    if torch.device(device).type == "cuda":
        return paged_cuda.TILE
    return flash.tile() or gathered.TILE


def store(x: Tensor, slab: Tensor, slots: Tensor, scales: Tensor | None = None) -> None:
    """Put keys or values x [N, K, D] into the slots [N] of a slab [blocks, block_size, K, D].

    One of int8 has scales [blocks, block_size, K].
    """
    if paged_cpu.fits(x, slab):
        paged_cpu.store(x, slab, slots, scales)
    else:
        if scales is not None:
            x, found = encode(x)
            scales.flatten(0, 1).index_copy_(0, slots, found)
        slab.flatten(0, 1).index_copy_(0, slots, x.to(slab.dtype))


def _choose(q: Tensor, documents: Documents) -> Callable[..., Tensor]:
    """The form of packed attention for this device, dtype and batch."""
    if q.is_cuda:
        if q.dtype != torch.float32 and torch.cuda.get_device_capability(q.device) >= (8, 0):
            return varlen  # FlashAttention wants half precision and at least Ampere
        return flex if find_spec("triton") else masked
    if torch.compiler.is_compiling():
        return masked  # one graph for every batch
    together = documents.rows * documents.width**2
    alone = sum(map(operator.mul, documents.lengths, documents.seen))
    return separate if alone + CALL * len(documents.alike) < together else masked


def masked(q: Tensor, k: Tensor, v: Tensor, documents: Documents) -> Tensor:
    """All rows in one call of SDPA with a boolean mask."""
    return causal(q, k, v, documents.mask)


def separate(q: Tensor, k: Tensor, v: Tensor, documents: Documents) -> Tensor:
    """SDPA on the documents themselves, those of one length and length of trunk together."""
    pieces = [q.flatten(0, 1).split(documents.lengths)]  # n of [length, H, D]
    pieces += [_seen(x, documents).split(documents.seen) for x in (k, v)]
    done: list[Tensor] = [q] * len(documents.lengths)
    for (length, shared), numbers in documents.alike.items():
        mask = None
        if shared:  # the last of the queries is the last of the keys
            mask = q.new_ones(1, 1, length, shared + length, dtype=torch.bool).tril(shared)
        queries, keys, values = (torch.stack([x[number] for number in numbers]) for x in pieces)
        for number, out in zip(numbers, causal(queries, keys, values, mask), strict=True):
            done[number] = out  # [length, H, D]
    return torch.cat(done).view_as(q)


def varlen(q: Tensor, k: Tensor, v: Tensor, documents: Documents) -> Tensor:
    """FlashAttention over the flattened tokens, told where documents end.

    A branch's keys are gathered behind its trunk's: the last query stands at the last key.
    """
    # Imported where it is needed: it brings torch._dynamo, more than a second of every start.
    out = import_module("torch.nn.attention.varlen").varlen_attn(
        q.flatten(0, 1),  # [B*T, H, D]
        _seen(k, documents),
        _seen(v, documents),
        cu_seq_q=documents.ends,
        cu_seq_k=documents.key_ends,
        max_q=max(documents.lengths),
        max_k=documents.longest,
        window_size=(-1, 0),  # causal
        enable_gqa=q.shape[2] != k.shape[2],
    )
    assert isinstance(out, Tensor)
    return out.view_as(q)


def _seen(x: Tensor, documents: Documents) -> Tensor:
    """Keys or values [B, T, K, D] that each document sees, one after the other: [S, K, D]."""
    flat = x.flatten(0, 1)
    if not documents.trunks:
        return flat
    # In fp32, for the sums over branches in its backward pass.
    return flat.float().index_select(0, documents.keys).to(x.dtype)


def flex(q: Tensor, k: Tensor, v: Tensor, documents: Documents) -> Tensor:
    """FlexAttention, which skips the blocks between documents."""
    out = _compiled_flex()(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        block_mask=documents.block_mask,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return out.transpose(1, 2)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(flex_attention, dynamic=False)


def mixture(x: Tensor, chosen: Tensor, weights: Tensor, experts: Weights) -> Tensor:
    """x [N, C] through the experts chosen [N, k], times their weights [N, k], summed: [N, C].

    A token's weight is applied to the hidden layer, so that what single experts give is not kept.
    Autocast does not know grouped matmuls: its dtype is taken here.
    """
    dtype, order = _compute_dtype(x), Order.of(chosen)
    ends = count(chosen, len(experts.gate)).cumsum(0).to(torch.int32)  # of each expert's pairs
    gate, up, down = (weight.to(dtype).transpose(1, 2) for weight in experts)
    sent = order.take(x.to(dtype))  # [N*k, C]
    gates, ups = (F.grouped_mm(sent, weight, offs=ends) for weight in (gate, up))  # [N*k, I]
    hidden = swiglu(gates, ups, order.of_pairs(weights))
    return order.give(F.grouped_mm(hidden, down, offs=ends))
