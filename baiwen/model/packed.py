"""Packed linears: weights of 12, 8, 6 or 4 bits for inference on a CPU, by integer arithmetic.

    pack(model, weights="int8")     # in place; q, k, v become one linear, gate and up another
    model(tokens, cache=step)       # the same forward

What bounds a decode step is reading the weights, so they are few bits (`codes`), stored in the
order in which the kernel reads them, and every row of a batch uses what was read
(`native/codes.h`). Activations become integers with a scale per 64 as they come, of 15 bits
beside weights of 12, of 16 beside 8, of 8 beside 6 and 4, and groups are multiplied as exact
integers. So a token's result does not depend, to the bit, on what else is in the batch. With int4
the head and the embedding, on which most hangs, have 6 bits. A model of fp32 weights stays as it
is, and can be packed later.

A tied table is kept once and embeddings are looked up in it. Routers and experts of a mixture stay
as they are, its shared experts are packed. Without a compiler the same codes are multiplied by
PyTorch, from a table of fp32 weights: nothing is saved then, and the results agree but for the
rounding of activations.

N outputs, K inputs, P panels of 16 outputs, G groups of 64 inputs.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baiwen.errors import UserError
from baiwen.model.attention import Attention
from baiwen.model.codes import PANEL, decode, encode
from baiwen.model.count import BITS, TABLE_BITS
from baiwen.model.layers import MLP
from baiwen.model.native.build import FLOATS, library
from baiwen.model.paged import Step
from baiwen.model.paged_cpu import KEPT
from baiwen.model.transformer import Block, Transformer

Weights = Literal["fp32", "bf16", "int8", "int4"]


def pack(model: Transformer, weights: Weights = "bf16") -> None:
    """Swap the linears, the head and the embedding of `model` for packed ones, in place.

    Activations are fp32 from here on. The model cannot be trained or saved. Raises UserError for
    unknown `weights`, a model that is packed already, or one that is not on the CPU.
    """
    if weights not in get_args(Weights):
        raise UserError(f"weights={weights!r} is not one of {', '.join(get_args(Weights))}")
    if any(isinstance(module, Packed) for module in model.modules()):
        raise UserError("the model is packed already; load it again to pack it differently")
    if model.model.norm.weight.device.type != "cpu":
        raise UserError("packed weights are for the CPU; leave the model as it is on other devices")
    model.requires_grad_(False).eval()
    if weights != "fp32":
        _pack(model, weights)
    for parameter in model.parameters():  # norms, routers and experts meet fp32 activations
        if parameter.numel():
            parameter.data = parameter.data.float()


class Packed(nn.Linear):
    """A linear layer with packed weights; its `weight` is without elements, only a dtype."""

    def __init__(self, weight: Tensor, bias: Tensor | None, bits: int) -> None:
        outputs, inputs = weight.shape
        super().__init__(inputs, outputs, bias=False, device="meta")
        # Keys and values are cached in the dtype of the weight: the model's, if kernels have it.
        kept = weight.dtype if weight.dtype in FLOATS else torch.float32
        self.weight = nn.Parameter(weight.new_empty(0, dtype=kept), requires_grad=False)
        self.bits, self.padded = bits, -(-outputs // PANEL) * PANEL
        self.codes: Tensor
        self.register_buffer("codes", encode(weight, bits))  # int16 [P, G, words]
        if bias is not None:
            padded = F.pad(bias.detach().float(), (0, self.padded - outputs))
            self.bias = nn.Parameter(padded, requires_grad=False)
        self.dense: Tensor | None = None
        if library("linear") is None:
            self.dense = decode(self.codes, bits, outputs, inputs)

    def forward(self, input: Tensor) -> Tensor:
        """[..., K] -> [..., N], fp32 within and in the dtype of what comes in."""
        x, native = input, library("linear")
        if native is None:
            return self._plain(x)
        rows = x.float().reshape(-1, self.in_features)
        if rows.stride(1) != 1:
            rows = rows.contiguous()
        out = rows.new_empty(len(rows), self.padded)
        native.packed_linear(
            *(self.bits, rows, rows.stride(0), len(rows), self.in_features),
            *(self.codes, self.bias, out, self.padded),
        )
        return out[:, : self.out_features].view(*x.shape[:-1], self.out_features).to(x.dtype)

    def _plain(self, x: Tensor) -> Tensor:
        assert self.dense is not None
        bias = None if self.bias is None else self.bias[: self.out_features]
        return F.linear(x.float(), self.dense, bias).to(x.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        """The weights of outputs `ids` [...], fp32 [..., K]: an embedding. Raises IndexError."""
        native = library("linear")
        if native is None:
            assert self.dense is not None
            return F.embedding(ids, self.dense)
        ids = ids.long().contiguous()
        out = ids.new_empty(*ids.shape, self.in_features, dtype=torch.float32)
        sizes = ids.numel(), self.out_features, self.in_features
        if not native.packed_rows(self.bits, ids, *sizes, self.codes, out):
            raise IndexError(f"a token id is not in 0 ... {self.out_features - 1}")
        return out


class FusedBlock:
    """A dense block of packed linears over a paged cache: two calls, and attention between them."""

    def __init__(self, block: Block) -> None:
        attention, mlp = block.self_attn, block.mlp
        assert isinstance(mlp, MLP)
        before, after = block.input_layernorm, block.post_attention_layernorm
        linears = attention.qkv_proj, attention.o_proj, mlp.gate_up_proj, mlp.down_proj
        qkv, o, gate_up, down = (linear for linear in linears if isinstance(linear, Packed))
        self.layer, self.size = attention.layer, attention.head_dim
        self.queries, self.keys, _ = attention.counts
        self.bits, self.wide = qkv.bits, o.in_features
        # Found once, as modules take long to tell what they hold.
        self.first = before.weight, before.eps, qkv.codes, qkv.bias, qkv.padded
        self.second = o.codes, after.weight, after.eps, gate_up.codes, down.in_features, down.codes

    @classmethod
    def fits(cls, block: Block) -> bool:
        """Whether the kernels take this block, and are there."""
        if library("linear") is None or not isinstance(block.mlp, MLP):
            return False
        packed = [linear for linear in block.modules() if isinstance(linear, Packed)]
        whole = all(linear.out_features == linear.padded for linear in packed)
        return len(packed) == 4 and whole

    def __call__(self, x: Tensor, rope: tuple[Tensor, Tensor], step: Step) -> Tensor:
        """x [1, N, C] fp32 -> [1, N, C], in the memory of x."""
        native = library("linear")
        assert native
        _, count, hidden = x.shape
        keys, values = step.cache.layer(self.layer)
        scales = step.cache.scales_of(self.layer) or (None, None)
        assert x.is_contiguous() and x.dtype == torch.float32 and keys.dtype in KEPT
        q = x.new_empty(count, self.queries, self.size)
        native.block_heads(
            *(self.bits, x, count, hidden, *self.first, self.queries, self.keys, self.size),
            *(*rope, step.layout.slots, keys, values, *scales, keys.itemsize, q),
        )
        attended = step.read(self.layer, q)
        native.block_rest(self.bits, attended, self.wide, x, count, hidden, *self.second)
        return x


class LookUp(nn.Embedding):
    """The embedding that a packed head holds."""

    def __init__(self, table: Packed) -> None:
        super().__init__(table.out_features, table.in_features, device="meta")
        self.table, self.weight = table, table.weight

    def forward(self, input: Tensor) -> Tensor:
        """[...] -> [..., C] fp32."""
        return self.table.rows(input)


def _pack(model: Transformer, weights: Weights) -> None:
    bits = BITS[weights]
    for module in model.modules():
        if isinstance(module, Attention):
            module.qkv_proj = _merged(bits, module.q_proj, module.k_proj, module.v_proj)
            module.o_proj = Packed(module.o_proj.weight, None, bits)
            del module.q_proj, module.k_proj, module.v_proj
        elif isinstance(module, MLP):
            module.gate_up_proj = _merged(bits, module.gate_proj, module.up_proj)
            module.down_proj = Packed(module.down_proj.weight, None, bits)
            del module.gate_proj, module.up_proj
    _pack_tables(model, TABLE_BITS[weights])
    for block in model.model.layers:
        assert isinstance(block, Block)
        block.fused = FusedBlock(block) if FusedBlock.fits(block) else None


def _merged(bits: int, *linears: nn.Linear) -> Packed:
    """Linears of the same input as one, their outputs side by side."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
    return Packed(weight, torch.cat(biases) if biases else None, bits)


def _pack_tables(model: Transformer, bits: int) -> None:
    """The head and the embedding: one table where they are tied."""
    body = model.model
    table = Packed(body.embed_tokens.weight, None, bits)
    body.embed_tokens = LookUp(table)
    model.lm_head = table if model.lm_head is None else Packed(model.lm_head.weight, None, bits)
