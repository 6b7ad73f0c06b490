"""Weights as integers of 12, 8, 6 or 4 bits, in the layout that `native/codes.h` describes.

    codes = encode(weight, bits=8)               # [N, K] -> int16 [P, G, words]
    weight = decode(codes, 8, outputs, inputs)   # what the codes stand for, fp32

A weight is `scale * code`, with a scale for 64 inputs of a row. Per weight and in error:

    12   12.25 bits, codes of -2047 ... 2047 and a power of two: the 8 significant bits of bf16
         exactly down to 1/8 of the largest of the 64, what is smaller to within 1/2048 of it
     8    8.25 bits, codes of -127 ... 127, rounded to nearest
     6    6.25 bits, codes of -31 ... 31, the same
     4    4.5 bits, codes of 0 ... 15 from the least weight up, the best of several ranges by
         squared error

A group with a weight that is NaN or infinite is NaN. `native/pack.cpp` encodes; its plain form is
here.

N outputs, K inputs, P panels of 16 outputs, G groups of 64 inputs.
"""

import ctypes
import mmap
from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import Tensor

from baiwen.model.native.build import FLOATS, library

GROUP, PANEL = 64, 16  # inputs that share a scale, outputs that lie together: native/codes.h
LARGEST = {12: 2047, 8: 127, 6: 31}  # codes; products of a group must add up within 32 bits
SHRINK = (1.0, 0.93, 0.86, 0.78)  # of a group's range, tried for 4 bits: the tails are clipped
FITS = 3  # of each range to the codes that it gives
ROWS = 256  # of a weight that are packed at a time, to stay in the cache


def encode(weight: Tensor, bits: int) -> Tensor:
    """weight [N, K] -> int16 [P, G, words], as native/codes.h has it; padding is zeros."""
    outputs, inputs = weight.shape
    panels, groups = -(-outputs // PANEL), -(-inputs // GROUP)
    words = GROUP * PANEL * bits // 16 + PANEL * (2 if bits == 4 else 1)
    packed = weight.new_empty(panels, groups, words, dtype=torch.int16)
    _in_large_pages(packed)
    native, weight = library("pack"), weight.detach().contiguous()
    if native is None or weight.dtype not in FLOATS:
        return _encode(weight, bits, packed)
    half = weight.dtype == torch.bfloat16
    native.packed_encode(bits, weight, half, outputs, inputs, packed)
    return packed


def _in_large_pages(unwritten: Tensor) -> None:
    """Ask Linux for pages of 2 MiB: a step that reads all weights is a tenth faster by them."""
    page, start = mmap.PAGESIZE, unwritten.data_ptr()
    first, last = -(-start // page) * page, (start + unwritten.nbytes) // page * page
    with suppress(OSError, AttributeError):  # another system keeps its own ways
        madvise = ctypes.CDLL(None).madvise
        madvise(ctypes.c_void_p(first), ctypes.c_size_t(max(last - first, 0)), mmap.MADV_HUGEPAGE)


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
    size = GROUP * PANEL * bits // 16
    unlaid = _unlaid if bits > 6 else _unlaid_bytes
    codes = unlaid(packed[..., :size].reshape(panels, groups, -1), bits)  # [P, 16, G, 64]
    tail = packed[..., size:].view(torch.bfloat16).float().unflatten(-1, (-1, PANEL))
    scales, *least = tail.permute(2, 0, 3, 1)[..., None]  # of [P, 16, G, 1]
    weight = codes * scales + (least[0] if least else 0)
    return weight.flatten(2).flatten(0, 1)[:outputs, :inputs].contiguous()


def _unlaid(words: Tensor, bits: int) -> Tensor:
    """Signed codes [P, 16, G, 64] of 12 or 8 bits from words [P, G, words]."""
    lines = words.unflatten(-1, (-1, PANEL, 2)).int()
    if bits == 8:
        steps = torch.stack((lines << 24 >> 24, lines >> 8), 3)  # [P, G, line, 2, 16, 2]
    else:
        threes = lines.unflatten(2, (-1, 3))  # [P, G, four, 3, 16, 2]
        lower = (threes & 15).unbind(3)
        last = lower[0] | lower[1] << 4 | lower[2] << 28 >> 20
        steps = torch.cat((threes >> 4, last[:, :, :, None]), 3)
    return steps.flatten(2, 3).permute(0, 3, 1, 2, 4).flatten(3)


def _unlaid_bytes(words: Tensor, bits: int) -> Tensor:
    """The same of 6 bits, and codes 0 ... 15 of 4."""
    lines = words.contiguous().view(torch.uint8).unflatten(-1, (-1, PANEL, 4))
    if bits == 4:
        steps = torch.stack((lines & 15, lines >> 4), 3)  # [P, G, line, 2, 16, 4]
        return steps.flatten(2, 3).permute(0, 3, 1, 2, 4).flatten(3)
    threes = lines.unflatten(2, (-1, 3))  # [P, G, four, 3, 16, 4]
    upper = (threes >> 6).unbind(3)
    last = upper[0] | upper[1] << 2 | upper[2] << 4
    steps = torch.cat((threes & 63, last[:, :, :, None]), 3)
    return steps.flatten(2, 3).permute(0, 3, 1, 2, 4).flatten(3).int() - 32


def _lay(grouped: Tensor, bits: int) -> Tensor:
    """Weights [N, G, 64] -> int16 [P, G, words]."""
    codes, *tails = _least_squares(grouped) if bits == 4 else _symmetric(grouped, bits)
    codes = codes.unflatten(0, (-1, PANEL)).transpose(1, 2)  # [P, G, 16, 64]
    lanes = _laid(codes, bits) if bits > 6 else _laid_bytes(codes, bits)
    words = [tail.unflatten(0, (-1, PANEL)).transpose(1, 2).view(torch.int16) for tail in tails]
    return torch.cat([lanes, *words], dim=-1)


def _laid(codes: Tensor, bits: int) -> Tensor:
    """Codes [P, G, 16, 64] of 12 or 8 bits -> words [P, G, words]."""
    steps = codes.to(torch.int16).unflatten(-1, (-1, 2)).transpose(2, 3)  # [P, G, step, 16, 2]
    if bits == 8:
        lines = steps[:, :, ::2] & 255 | steps[:, :, 1::2] << 8
    else:
        *three, last = (steps[:, :, place::4] for place in range(4))
        pieces = [one << 4 | last >> 4 * place & 15 for place, one in enumerate(three)]
        lines = torch.stack(pieces, 3)  # [P, G, four, 3, 16, 2]
    return lines.flatten(2)


def _laid_bytes(codes: Tensor, bits: int) -> Tensor:
    """Codes [P, G, 16, 64] of 6 or 4 bits -> words [P, G, words]."""
    unsigned = (codes + (32 if bits == 6 else 0)).to(torch.uint8)
    steps = unsigned.unflatten(-1, (-1, 4)).transpose(2, 3)  # [P, G, step, 16, 4]
    if bits == 4:
        lines = steps[:, :, ::2] | steps[:, :, 1::2] << 4
    else:
        *three, last = (steps[:, :, place::4] for place in range(4))
        pieces = [one | (last >> 2 * place & 3) << 6 for place, one in enumerate(three)]
        lines = torch.stack(pieces, 3)  # [P, G, four, 3, 16, 4]
    return lines.flatten(2).view(torch.int16)


def _symmetric(grouped: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes [N, G, 64] and bf16 scales [N, G] of signed integers."""
    wanted = grouped.abs().amax(-1) / LARGEST[bits]
    if bits == 12:  # the next power of two: what has few significant bits stays exact
        mantissa, exponent = torch.frexp(wanted)
        scales = torch.ldexp(torch.ones_like(wanted), exponent - (mantissa == 0.5).int())
    else:  # rounded up, lest the largest weight be clipped
        scales = (wanted * (1 + 2**-8)).bfloat16().float()
    scales = scales.clamp_min(2.0**-100).where(wanted.isfinite(), torch.nan)  # at least: of zeros
    codes = (grouped / scales[..., None]).round_().clamp_(-LARGEST[bits], LARGEST[bits])
    return codes, scales.bfloat16()


def _least_squares(grouped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes 0 ... 15 [N, G, 64], bf16 scales and least weights [N, G] with least squared error.

    The range of a group is tried in several widths; scale and offset are then fitted to the codes,
    and the codes to them, a few times.
    """
    low, high = grouped.aminmax(dim=-1, keepdim=True)
    middle, width = (high + low) / 2, (high - low).clamp_min(2.0**-100)
    best = torch.full_like(low, torch.inf)
    codes, scales, least = torch.zeros_like(grouped), width.clone(), low.clone()
    for shrink in SHRINK:
        scale, start = width * (shrink / 15), middle - width * (shrink / 2)
        for _ in range(FITS):
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
