"""Attention in parts against attention over all keys at once."""

import math

import pytest
import torch

from baiwen.model import parts
from baiwen.model.rectangles import Part, add, add_gradients, together


def draw(tokens, keys, heads=4, key_heads=2, size=8, rows=2, dtype=torch.float64):
    """A query's, key's, value's and output's gradient's worth of noise."""
    generator = torch.Generator().manual_seed(tokens + keys)
    shapes = [(tokens, heads), (keys, key_heads), (keys, key_heads), (tokens, heads)]
    return [
        torch.randn(rows, count, number, size, generator=generator, dtype=dtype)
        for count, number in shapes
    ]


def formula(q, k, v, seen):
    """Output and lse by the definition; seen [T, S] or [B, T, S]."""
    k, v = (x.repeat_interleave(q.shape[2] // k.shape[2], 2) for x in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    seen = seen if seen.ndim == 3 else seen[None]
    scores = scores.masked_fill(~seen[:, None], -math.inf)
    out = torch.einsum("bhts,bshd->bthd", scores.softmax(-1).nan_to_num(0), v)
    return out, scores.logsumexp(-1)


def gradients(q, k, v, grad, seen):
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    return torch.autograd.grad(formula(*inputs, seen)[0], inputs, grad)


def close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance)


CASES = [
    (7, 7, True),
    (5, 9, True),
    (6, 10, False),
    (1, 3, False),
    (50, 130, False),
    (70, 70, True),
]
DTYPES = [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)]


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES, ids=str)
@pytest.mark.parametrize(("tokens", "keys", "causal"), CASES)
def test_a_rectangle_is_the_formula_forward_and_backward(tokens, keys, causal, dtype, tolerance):
    q, k, v, grad = draw(tokens, keys, dtype=dtype)
    seen = torch.ones(tokens, keys, dtype=torch.bool)
    seen = seen.tril(keys - tokens) if causal else seen
    out, lse = parts.forward(q, k, v, causal)
    assert out.dtype == dtype
    assert lse.dtype == torch.promote_types(dtype, torch.float32)
    wide = [x.double() for x in (q, k, v, grad)]
    close((out, lse), formula(*wide[:3], seen), tolerance)
    found = parts.backward(grad, q, k, v, out, lse, causal)
    assert {x.dtype for x in found} == {dtype}
    close(found, gradients(*wide, seen), tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_query_that_sees_nothing_is_zero_and_moves_nothing(dtype, monkeypatch):
    q, k, v, grad = draw(6, 9, dtype=dtype)
    mask = torch.rand(2, 6, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[1, 2] = False
    monkeypatch.setattr(parts, "ENTRIES", 2 * 4 * 9 * 4)  # blocks of 4 queries
    out, lse = parts.forward(q, k, v, False, mask)
    assert lse[1, :, 2].isneginf().all()
    assert not out[1, 2].any()
    close((out, lse), formula(q, k, v, mask), 1e-5)
    found = parts.backward(grad, q, k, v, out, lse, False, mask)
    kept = grad.masked_fill(~mask.any(-1)[..., None, None], 0)
    mask |= ~mask.any(-1, keepdim=True)  # the formula has no gradient of nothing
    close(found, gradients(q, k, v, kept, mask), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_parts_of_the_keys_merge_to_all_of_them_with_gradients_that_add_up(dtype):
    q, k, v, grad = draw(12, 30, dtype=dtype)
    cuts = [(slice(0, 11), False), (slice(11, 18), False), (slice(18, 30), True)]
    done = [parts.forward(q, k[:, at], v[:, at], causal) for at, causal in cuts]
    out, lse = parts.merge(*zip(*done, strict=True))
    seen = torch.ones(12, 30, dtype=torch.bool).tril(18)
    close((out, lse), formula(q, k, v, seen), 1e-5)
    slopes = [parts.backward(grad, q, k[:, at], v[:, at], out, lse, causal) for at, causal in cuts]
    dq = sum(slope[0] for slope in slopes)
    dk, dv = (torch.cat([slope[n] for slope in slopes], 1) for n in (1, 2))
    close((dq, dk, dv), gradients(q, k, v, grad, seen), 1e-5)


def test_what_no_part_has_seen_stays_unseen():
    outs, lses = torch.zeros(2, 1, 3, 2, 4), torch.full((2, 1, 2, 3), -math.inf)
    out, lse = parts.merge(outs, lses)
    assert lse.isneginf().all()
    assert not out.any()


@pytest.mark.parametrize("alone", [3, 2])  # rows whose queries see themselves
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lists_of_rectangles_are_attention_by_their_mask(dtype, alone):
    """Two documents a row, and in the first and last row a rectangle between the two."""
    q, k, v, grad = draw(20, 20, rows=3, dtype=dtype)
    own = [((0, 8), (0, 8)), ((8, 20), (8, 20))]
    listed = [Part(a, b, True, (row, row + 1)) for a, b in own for row in range(alone)]
    listed += [Part((10, 16), (2, 7), False, (row, row + 1)) for row in (0, 2)]
    alike = together(listed)
    assert len(alike) == 4  # the causal ones of all rows, and two that are not neighbours
    seen = torch.zeros(3, 20, 20, dtype=torch.bool)
    for part in listed:
        block = torch.ones(*(b - a for a, b in (part.queries, part.keys)), dtype=torch.bool)
        at = slice(*part.rows), slice(*part.queries), slice(*part.keys)
        seen[at] = block.tril() if part.causal else block
    sums = parts.nothing(q)
    add(sums, q, k, v, alike)
    close(sums, formula(q, k, v, seen), 1e-5)
    slopes = tuple(torch.zeros_like(x) for x in (q, k, v))
    add_gradients(slopes, grad, q, k, v, *sums, alike)
    kept = grad.masked_fill(~seen.any(-1)[..., None, None], 0)
    seen |= ~seen.any(-1, keepdim=True)  # the formula has no gradient of nothing
    close(slopes, gradients(q, k, v, kept, seen), 1e-5)


def test_autocast_leaves_the_precision_of_the_inputs():
    q, k, v, _ = draw(9, 9, dtype=torch.float32)
    mask = torch.ones(1, 9, 9, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, _ = parts.forward(q, k, v, False, mask)
    close([out], [formula(q.double(), k.double(), v.double(), mask)[0]], 1e-6)
