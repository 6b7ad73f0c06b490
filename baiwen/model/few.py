"""The few tokens of a decoding step on a CPU, by fp32 weights where they lie: `native/few.cpp`.

    if few.fits(x, head):
        logits = few.linear(x, head)                         # x @ head.weight.T
    if few.fits_block(x, *parts, step):
        x, routing = few.block(x, *parts, rope, step)        # in the memory of x

A model that trains answers by its own weights, which change with every update: nothing of them is
packed or kept. Of a mixture the experts that no token chose are not read. What else is in a step
of so few tokens changes no bit of a token's result.

N tokens, C hidden size, O outputs.
"""

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
    x: Tensor, before: RMSNorm, attention: Attention, after: RMSNorm, mlp: MLP | MoE, step: Step
) -> bool:
    """Whether `block` takes these parts of one; a packed model's are linears of other kinds."""
    if attention.qkv_proj is not None or step.cache.slabs.dtype not in KEPT:
        return False
    layers = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    weights = [before.weight, after.weight]
    if isinstance(mlp, MoE):
        layers += [mlp.gate, mlp.shared_expert_gate]
        weights += mlp.experts.parameters()
    shared = mlp.shared_expert if isinstance(mlp, MoE) else mlp
    layers += [shared.gate_proj, shared.up_proj, shared.down_proj]
    together = all(weight.is_contiguous() for weight in weights)
    return together and fits(x, *layers) and takes("few", x, *weights)


def block(
    x: Tensor,
    before: RMSNorm,
    attention: Attention,
    after: RMSNorm,
    mlp: MLP | MoE,
    rope: tuple[Tensor, Tensor],
    step: Step,
) -> tuple[Tensor, Routing | None]:
    """x [1, N, C] through a block that keeps its keys in a cache: [1, N, C], in the memory of x.

    And the choice of its router, where it is a mixture of experts.
    """
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
    attended, output = step.read(attention.layer, q), attention.o_proj
    given = attended, output.in_features, x, count, hidden, output.weight, after.weight, after.eps
    if isinstance(mlp, MLP):
        native.few_rest(*given, *_feed_forward(mlp))
        return x, None
    number, width, _ = mlp.experts.gate_proj.shape
    chosen = x.new_empty(1, count, mlp.top_k, dtype=torch.int64)
    native.few_mixture(
        *(*given, mlp.gate.weight, number, mlp.top_k, mlp.renormalise),
        *(mlp.experts.gate_proj, mlp.experts.up_proj, mlp.experts.down_proj, width),
        *(mlp.shared_expert_gate.weight, *_feed_forward(mlp.shared_expert), chosen),
    )
    return x, Routing(chosen.to(kept_as(number)))


def _feed_forward(mlp: MLP) -> tuple[Tensor, Tensor, Tensor, int]:
    """As the kernels take it."""
    gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
    return gate.weight, up.weight, down.weight, down.in_features
