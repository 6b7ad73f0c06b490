"""Packed linears: weights of 16, 8 or 4 bits for inference on a CPU, with integer arithmetic.

    pack(model, weights="int8")     # in place; q, k, v become one linear, gate and up another
    model(tokens, cache=step)       # the same forward

What bounds a decode step is reading the weights, so they are stored in the order in which the
kernel reads them, and every row of a batch uses what was read (`native/linear.h`). A weight is
`scale * code`, a scale for 64 inputs of a row; activations become 16-bit integers with a scale per
64 as they come, and groups are multiplied as exact integers. So a token's result does not depend,
to the bit, on what else is in the batch. Per weight and in error:

    bf16   16.25 bits, 13-bit codes and a power of two: the 8 significant bits of bf16 exactly down
           to 1/16 of the largest of the 64, and 1/8192 of that for what is smaller
    int8    8.25 bits, codes of -127 ... 127, rounded to nearest
    int4    4.5 bits, codes of 0 ... 15 from the least weight up, the best of several ranges by
           squared error; the head and the embedding, on which most hangs, are int8
    fp32   as they are, only merged

A tied table is kept once and embeddings are looked up in it. Routers and experts of a mixture stay
as they are, its shared experts are packed. Without a compiler the same codes are multiplied by
PyTorch, from a table of fp32 weights: nothing is saved then but the results agree.

N outputs, K inputs, P panels of 16 outputs, G groups of 64 inputs.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baiwen.errors import UserError
from baiwen.model import kernels
from baiwen.model.attention import Attention
from baiwen.model.layers import MLP
from baiwen.model.native.build import library
from baiwen.model.paged import Step
from baiwen.model.transformer import Block, Transformer

Weights = Literal["fp32", "bf16", "int8", "int4"]
BITS = {"bf16": 16, "int8": 8, "int4": 4}
GROUP, PANEL = 64, 16  # inputs that share a scale, outputs that lie together: native/linear.h
LARGEST = {16: 4095, 8: 127}  # codes; 16-bit products of a group must add up within 32 bits
SHRINK = (1.0, 0.93, 0.86, 0.78)  # of a group's range, tried for 4 bits: the tails are clipped
ROWS = 256  # of a weight that are packed at a time, to stay in the cache


def pack(model: Transformer, weights: Weights = "bf16") -> None:
    """Swap the linears, the head and the embedding of `model` for packed ones, in place.

    Activations are fp32 from here on. The model cannot be trained or saved. Raises UserError for
    unknown `weights`, a model that is packed already, or one that is not on the CPU.
    """
    if weights not in get_args(Weights):
        raise UserError(f"weights={weights!r} is not one of {', '.join(get_args(Weights))}")
    if is_packed(model):
        raise UserError("the model is packed already; load it again to pack it differently")
    if model.model.norm.weight.device.type != "cpu":
        raise UserError("packed weights are for the CPU; leave the model as it is on other devices")
    model.requires_grad_(False).eval()
    for module in model.modules():
        if isinstance(module, Attention):
            merged = _merged(module.q_proj, module.k_proj, module.v_proj)
            module.qkv_proj = _linear(merged, weights)
            module.o_proj = _linear(module.o_proj, weights)
            del module.q_proj, module.k_proj, module.v_proj
        elif isinstance(module, MLP):
            merged = _merged(module.gate_proj, module.up_proj)
            module.gate_up_proj = _linear(merged, weights)
            module.down_proj = _linear(module.down_proj, weights)
            del module.gate_proj, module.up_proj
    _pack_tables(model, "int8" if weights == "int4" else weights)
    for block in model.model.layers:
        assert isinstance(block, Block)
        block.fused = FusedBlock(block) if FusedBlock.fits(block) else None
    for parameter in model.parameters():  # norms, routers and experts meet fp32 activations
        if parameter.numel():
            parameter.data = parameter.data.float()


def is_packed(model: Transformer) -> bool:
    """Whether `pack` was here."""
    return any(isinstance(m, Attention) and m.qkv_proj is not None for m in model.modules())


class Packed(nn.Linear):
    """A linear layer with packed weights; its `weight` is without elements, only a dtype."""

    def __init__(self, weight: Tensor, bias: Tensor | None, bits: int) -> None:
        outputs, inputs = weight.shape
        super().__init__(inputs, outputs, bias=False, device="meta")
        # Keys and values are cached in the dtype of the model, which the weight tells.
        self.weight = nn.Parameter(weight.new_empty(0), requires_grad=False)
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
        """The weights of outputs `ids` [...], fp32 [..., K]: an embedding."""
        native = library("linear")
        if native is None:
            assert self.dense is not None
            return self.dense[ids]
        out = torch.empty(*ids.shape, self.in_features)
        ids = ids.contiguous()
        native.packed_rows(self.bits, ids, ids.numel(), self.in_features, self.codes, out)
        return out


class FusedBlock:
    """A dense block of packed linears over a paged cache: two calls, and attention between them."""

    def __init__(self, block: Block) -> None:
        attention, mlp = block.self_attn, block.mlp
        assert isinstance(mlp, MLP)
        self.norms = block.input_layernorm, block.post_attention_layernorm
        self.layer, self.size = attention.layer, attention.head_dim
        self.queries, self.keys, _ = attention.counts
        linears = attention.qkv_proj, attention.o_proj, mlp.gate_up_proj, mlp.down_proj
        self.linears = [linear for linear in linears if isinstance(linear, Packed)]

    @classmethod
    def fits(cls, block: Block) -> bool:
        """Whether the kernels take this block, and are there."""
        if library("linear") is None or not isinstance(block.mlp, MLP):
            return False
        packed = [linear for linear in block.modules() if isinstance(linear, Packed)]
        whole = all(linear.out_features == linear.padded for linear in packed)
        return len(packed) == 4 and whole and block.self_attn.head_dim % 2 == 0

    def __call__(self, x: Tensor, rope: tuple[Tensor, Tensor], step: Step) -> Tensor:
        """x [1, N, C] fp32 -> [1, N, C], in the memory of x."""
        native = library("linear")
        assert native
        qkv, o, gate_up, down = self.linears
        before, after = self.norms
        bits, (_, count, hidden) = qkv.bits, x.shape
        keys, values = step.cache.layer(self.layer)
        q = x.new_empty(count, self.queries, self.size)
        native.block_heads(
            *(bits, x, count, hidden, before.weight, before.eps),
            *(qkv.codes, qkv.bias, qkv.padded, self.queries, self.keys, self.size),
            *(*rope, step.layout.slots, keys, values, keys.dtype == torch.bfloat16, q),
        )
        attended = kernels.paged(q, keys, values, step.layout)
        native.block_rest(
            *(bits, attended, o.in_features, x, count, hidden, o.codes),
            *(after.weight, after.eps, gate_up.codes, down.in_features, down.codes),
        )
        return x


class LookUp(nn.Embedding):
    """The embedding that a packed head holds."""

    def __init__(self, table: Packed) -> None:
        super().__init__(table.out_features, table.in_features, device="meta")
        self.table, self.weight = table, table.weight

    def forward(self, input: Tensor) -> Tensor:
        """[...] -> [..., C] fp32."""
        return self.table.rows(input)


def encode(weight: Tensor, bits: int) -> Tensor:
    """weight [N, K] -> int16 [P, G, words], as native/linear.h reads it; padding is zeros."""
    outputs, inputs = weight.shape
    panels, groups = -(-outputs // PANEL), -(-inputs // GROUP)
    words = GROUP * PANEL * bits // 16 + PANEL * (2 if bits == 4 else 1)
    packed = torch.empty(panels, groups, words, dtype=torch.int16)
    native, weight = library("pack"), weight.detach().contiguous()
    if native is None or weight.dtype not in (torch.float32, torch.bfloat16):
        return _encode(weight, bits, packed)
    half = weight.dtype == torch.bfloat16
    native.packed_encode(bits, weight, half, outputs, inputs, packed)
    return packed


def _encode(weight: Tensor, bits: int, packed: Tensor) -> Tensor:
    groups = packed.shape[1]
    for first in range(0, len(weight), ROWS):
        piece = weight[first : first + ROWS].float()
        missing = -len(piece) % PANEL
        padded = F.pad(piece, (0, groups * GROUP - piece.shape[1], 0, missing))
        end = first + len(padded)
        grouped = padded.unflatten(1, (groups, GROUP))
        packed[first // PANEL : end // PANEL] = _lay(grouped, bits)
    return packed


def decode(packed: Tensor, bits: int, outputs: int, inputs: int) -> Tensor:
    """The weights [N, K] fp32 that packed codes stand for: the inverse of `encode`."""
    panels, groups, _ = packed.shape
    fields, size = 16 // bits, GROUP * PANEL * bits // 16
    lanes = packed[..., :size].reshape(panels, groups, -1, PANEL, 2).int()  # [P, G, step, 16, 2]
    shifts = torch.arange(fields, dtype=torch.int32) * bits
    codes = (lanes[..., None, :] >> shifts[:, None]) & (2**bits - 1)  # [P, G, step, 16, fields, 2]
    if bits != 4:
        codes = codes - ((codes >> (bits - 1)) << bits)  # signed
    codes = codes.permute(0, 3, 1, 2, 4, 5).flatten(3)  # [P, 16, G, 64]
    tail = packed[..., size:].view(torch.bfloat16).float().unflatten(-1, (-1, PANEL))
    scales, *least = tail.permute(2, 0, 3, 1)[..., None]  # of [P, 16, G, 1]
    weight = codes * scales + (least[0] if least else 0)
    return weight.flatten(2).flatten(0, 1)[:outputs, :inputs].contiguous()


def _lay(grouped: Tensor, bits: int) -> Tensor:
    """Weights [N, G, 64] -> int16 [P, G, words]."""
    codes, *tails = _least_squares(grouped) if bits == 4 else _symmetric(grouped, bits)
    # Within a group input 2 * (step * fields + field) + parity is bits `field` of lane `parity`.
    split = codes.to(torch.int16 if bits == 16 else torch.int8).unflatten(-1, (-1, 16 // bits, 2))
    split = split.transpose(-1, -2)  # [N, G, step, 2, fields]
    if bits == 4:
        split = split[..., ::2] | split[..., 1::2] << 4
    lanes = split.contiguous().view(torch.int16).unflatten(0, (-1, PANEL)).squeeze(-1)
    lanes = lanes.permute(0, 2, 3, 1, 4).flatten(2)  # [P, G, step * 16 * 2]
    words = [tail.unflatten(0, (-1, PANEL)).transpose(1, 2).view(torch.int16) for tail in tails]
    return torch.cat([lanes, *words], dim=-1)


def _symmetric(grouped: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes [N, G, 64] and bf16 scales [N, G] of signed integers."""
    wanted = grouped.abs().amax(-1) / LARGEST[bits]
    if bits == 16:  # the next power of two: what has few significant bits stays exact
        mantissa, exponent = torch.frexp(wanted)
        scales = torch.ldexp(torch.ones_like(wanted), exponent - (mantissa == 0.5).int())
    else:  # rounded up, lest the largest weight be clipped
        scales = (wanted * (1 + 2**-8)).bfloat16().float()
    scales = scales.clamp_min(2.0**-100)  # of zeros
    codes = (grouped / scales[..., None]).round_().clamp_(-LARGEST[bits], LARGEST[bits])
    return codes, scales.bfloat16()


def _least_squares(grouped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes 0 ... 15 [N, G, 64], bf16 scales and least weights [N, G] with least squared error.

    The range of a group is tried in several widths; scale and offset are then fitted to the codes,
    and the codes to them once more.
    """
    low, high = grouped.aminmax(dim=-1, keepdim=True)
    middle, width = (high + low) / 2, (high - low).clamp_min(2.0**-100)
    best = torch.full_like(low, torch.inf)
    codes, scales, least = torch.zeros_like(grouped), width.clone(), low.clone()
    for shrink in SHRINK:
        scale, start = width * (shrink / 15), middle - width * (shrink / 2)
        scale, start = _fitted(grouped, _rounded(grouped, scale, start))
        found = _rounded(grouped, scale, start)
        error = (found * scale).add_(start).sub_(grouped).square_().sum(-1, keepdim=True)
        better = error < best
        best = torch.where(better, error, best)
        codes = torch.where(better, found, codes)
        scales, least = torch.where(better, scale, scales), torch.where(better, start, least)
    return codes, scales.squeeze(-1).bfloat16(), least.squeeze(-1).bfloat16()


def _rounded(grouped: Tensor, scale: Tensor, start: Tensor) -> Tensor:
    return (grouped - start).div_(scale).round_().clamp_(0, 15)


def _fitted(grouped: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """The line through (code, weight) of each group, as bf16 holds it: [N, G, 1] twice."""
    mean, centre = grouped.mean(-1, keepdim=True), codes.mean(-1, keepdim=True)
    spread = (codes - centre).square_().sum(-1, keepdim=True)
    scale = ((codes - centre) * grouped).sum(-1, keepdim=True) / spread.clamp_min(1e-6)
    scale = scale.clamp_min(2.0**-100).bfloat16().float()
    return scale, (mean - scale * centre).bfloat16().float()


def _linear(linear: nn.Linear, weights: Weights) -> nn.Linear:
    if weights == "fp32":
        return linear.float()
    return Packed(linear.weight, linear.bias, BITS[weights])


def _merged(*linears: nn.Linear) -> nn.Linear:
    """Linears of the same input as one, their outputs side by side."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    whole = nn.Linear(weight.shape[1], weight.shape[0], linears[0].bias is not None, device="meta")
    whole.weight = nn.Parameter(weight, requires_grad=False)
    if linears[0].bias is not None:
        bias = torch.cat([linear.bias.detach() for linear in linears])
        whole.bias = nn.Parameter(bias, requires_grad=False)
    return whole


def _pack_tables(model: Transformer, weights: Weights) -> None:
    """The head and the embedding: one table where they are tied."""
    if weights == "fp32":
        return
    body, bits = model.model, BITS[weights]
    table = Packed(body.embed_tokens.weight, None, bits)
    body.embed_tokens = LookUp(table)
    model.lm_head = table if model.lm_head is None else Packed(model.lm_head.weight, None, bits)
