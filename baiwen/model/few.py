"""The few tokens of a decoding step on a CPU, by fp32 weights where they lie: `native/few.cpp`.

    if few.fits(x, head):
        logits = few.linear(x, head)                         # x @ head.weight.T
    done = few.block(x, block, rope, step)                   # x and its routing, or None

A model that trains answers by its own weights, which change with every update: nothing of them is
packed or kept. Of a mixture the experts that no token chose are not read. What else is in a step
of so few tokens changes no bit of a token's result.

N tokens, C hidden size, O outputs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baiwen.model.attention import Attention
from baiwen.model.layers import MLP, RMSNorm
from baiwen.model.moe import MoE
from baiwen.model.native.build import library, takes
from baiwen.model.paged import Step
from baiwen.model.paged_cpu import KEPT
from baiwen.model.routing import Routing, kept_as

MOST = 64  # tokens: a general product of more is as fast
PLAIN = (nn.Linear, nn.Embedding)  # what only looks like one, as an adapter does, is not
PARTS = "input_layernorm", "self_attn", "post_attention_layernorm", "mlp"
MIXTURE = "gate", "shared_expert_gate", "experts", "shared_expert"
FEED_FORWARD = "gate_proj", "up_proj", "down_proj"


def fits(x: Tensor, *layers: nn.Module, beside: Sequence[Tensor] = ()) -> bool:
    """Whether x [..., C] is few tokens, without a gradient, and layers and other weights fp32."""
    if torch.is_grad_enabled() or x.numel() > MOST * x.shape[-1]:
        return False
    if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if not all(type(layer) in PLAIN for layer in layers):
        return False
    weights = [*_weights(*layers), *beside]
    return all(weight.is_contiguous() for weight in weights) and takes("few", x, *weights)


def linear(x: Tensor, layer: nn.Linear | nn.Embedding) -> Tensor:
    """x [..., C] by a weight [O, C], plus a bias if it has one: [..., O]."""
    native = library("few")
    assert native
    x, bias = x.contiguous(), getattr(layer, "bias", None)
    out = x.new_empty(*x.shape[:-1], len(layer.weight))
    rows = x.numel() // x.shape[-1]
    native.few_linear(x, rows, x.shape[-1], layer.weight, bias, out.shape[-1], out)
    return out


def block(
    x: Tensor, block: nn.Module, rope: tuple[Tensor, Tensor], step: Step
) -> tuple[Tensor, Routing | None] | None:
    """x [1, N, C] through a `transformer.Block` over a cache: [1, N, C] in the memory of x.

    And what its router chose, where it is a mixture of experts. None where the kernels do not take
    the block, as a packed model's; x is untouched then.
    """
    before, attention, after, mlp = _parts(block, *PARTS)
    if type(mlp) not in (MLP, MoE) or attention.qkv_proj is not None:
        return None
    *heads, output = _parts(attention, "q_proj", "k_proj", "v_proj", "o_proj")
    routers, experts, shared = [], [], mlp
    if isinstance(mlp, MoE):
        *routers, stacked, shared = _parts(mlp, *MIXTURE)
        experts = [stacked._parameters[name] for name in FEED_FORWARD]
    linears = _parts(shared, *FEED_FORWARD)
    beside = [*_weights(before, after), *experts]
    kept = step.cache.slabs.dtype in KEPT
    if not kept or not fits(x, *heads, output, *routers, *linears, beside=beside):
        return None
    attended = _attended(x, before, attention, heads, rope, step)
    sizes = attended, output.in_features, x, *x.shape[1:]
    given = *sizes, *_weights(output, after), after.eps
    weights = *_weights(*linears), linears[-1].in_features
    native = library("few")
    assert native
    if not routers:
        native.few_rest(*given, *weights)
        return x, None
    (router, gate), (number, width, _) = _weights(*routers), experts[0].shape
    chosen = x.new_empty(*x.shape[:-1], mlp.top_k, dtype=torch.int64)
    choice = router, number, mlp.top_k, mlp.renormalise
    native.few_mixture(*given, *choice, *experts, width, gate, *weights, chosen)
    return x, Routing(chosen.to(kept_as(number)))


def _attended(
    x: Tensor,
    before: RMSNorm,
    attention: Attention,
    heads: Sequence[nn.Linear],
    rope: tuple[Tensor, Tensor],
    step: Step,
) -> Tensor:
    """What the heads of attention give for x [1, N, C], before the output's product: [N, H, D]."""
    native = library("few")
    assert native and x.is_contiguous()
    _, count, hidden = x.shape
    queries, key_heads, _ = attention.counts
    keys, values = step.cache.layer(attention.layer)
    scales = step.cache.scales_of(attention.layer) or (None, None)
    q = x.new_empty(count, queries, attention.head_dim)
    native.few_heads(
        *(x, count, hidden, *_weights(before), before.eps),
        *(layer._parameters[name] for layer in heads for name in ("weight", "bias")),
        *(queries, key_heads, attention.head_dim, *rope),
        *(step.layout.slots, keys, values, *scales, keys.itemsize, q),
    )
    return step.read(attention.layer, q)


# A module that is asked by name for what it holds takes ten times as long as its dictionaries.


def _parts(module: nn.Module, *names: str) -> list[Any]:
    return [module._modules[name] for name in names]


def _weights(*layers: nn.Module) -> list[Any]:
    return [layer._parameters["weight"] for layer in layers]
