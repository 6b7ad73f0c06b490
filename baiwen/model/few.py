"""The few tokens of a decoding step on a CPU, by fp32 weights where they lie: `native/few.cpp`.

    if few.fits(x, head):
        logits = few.linear(x, head)                         # x @ head.weight.T
    if few.fits_block(x, *parts, step):
        x = few.block(x, *parts, rope, step)                 # in the memory of x

A model that trains answers by its own weights, which change with every update: nothing of them is
packed or kept. What else is in a step of so few tokens changes no bit of a token's result.

N tokens, C hidden size, O outputs.
"""

import torch
from torch import Tensor, nn

from baiwen.model.attention import Attention
from baiwen.model.layers import MLP, RMSNorm
from baiwen.model.native.build import library, takes
from baiwen.model.paged import Step
from baiwen.model.paged_cpu import KEPT

MOST = 64  # tokens: a general product of more is as fast
PLAIN = (nn.Linear, nn.Embedding)  # what only looks like one, as an adapter does, is not


def fits(x: Tensor, *layers: nn.Linear | nn.Embedding) -> bool:
    """Whether x [..., C] is few tokens, without a gradient, and the layers' weights are fp32."""
    if torch.is_grad_enabled() or x.numel() > MOST * x.shape[-1]:
        return False
    if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if not all(type(layer) in PLAIN and layer.weight.is_contiguous() for layer in layers):
        return False
    return takes("few", x, *(layer.weight for layer in layers))


def linear(x: Tensor, layer: nn.Linear | nn.Embedding) -> Tensor:
    """x [..., C] by a weight [O, C], plus a bias if it has one: [..., O]."""
    native = library("few")
    assert native
    x, bias = x.contiguous(), getattr(layer, "bias", None)
    out = x.new_empty(*x.shape[:-1], len(layer.weight))
    rows = x.numel() // x.shape[-1]
    native.few_linear(x, rows, x.shape[-1], layer.weight, bias, out.shape[-1], out)
    return out


def fits_block(
    x: Tensor, before: RMSNorm, attention: Attention, after: RMSNorm, mlp: MLP, step: Step
) -> bool:
    """Whether `block` takes these parts of one; a packed model's are linears of other kinds."""
    if attention.qkv_proj is not None or attention.head_dim % 2:
        return False
    if step.cache.slabs.dtype not in KEPT:
        return False
    layers = attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
    more = mlp.gate_proj, mlp.up_proj, mlp.down_proj
    return fits(x, *layers, *more) and takes("few", x, before.weight, after.weight)


def block(
    x: Tensor,
    before: RMSNorm,
    attention: Attention,
    after: RMSNorm,
    mlp: MLP,
    rope: tuple[Tensor, Tensor],
    step: Step,
) -> Tensor:
    """x [1, N, C] through a block that keeps its keys in a cache: [1, N, C], in the memory of x."""
    native = library("few")
    assert native and x.is_contiguous()
    _, count, hidden = x.shape
    queries, key_heads, _ = attention.counts
    layers = attention.q_proj, attention.k_proj, attention.v_proj
    keys, values = step.cache.layer(attention.layer)
    scales = step.cache.scales_of(attention.layer) or (None, None)
    q = x.new_empty(count, queries, attention.head_dim)
    native.few_heads(
        *(x, count, hidden, before.weight, before.eps),
        *(tensor for one in layers for tensor in (one.weight, one.bias)),
        *(queries, key_heads, attention.head_dim, *rope),
        *(step.layout.slots, keys, values, *scales, keys.itemsize, q),
    )
    attended = step.read(attention.layer, q)
    native.few_rest(
        *(attended, attention.o_proj.in_features, x, count, hidden, attention.o_proj.weight),
        *(after.weight, after.eps, mlp.gate_proj.weight, mlp.up_proj.weight),
        *(mlp.down_proj.in_features, mlp.down_proj.weight),
    )
    return x
