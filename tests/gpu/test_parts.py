"""Attention in parts on a GPU, by FlashAttention, against the formulas."""

import pytest
import torch

from baiwen.model import parts

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.mark.parametrize(("tokens", "keys", "causal"), [(200, 200, True), (130, 300, False)])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_a_rectangle_is_the_formula_forward_and_backward(tokens, keys, causal, key_heads):
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = [(tokens, 4), (keys, key_heads), (keys, key_heads), (tokens, 4)]
    q, k, v, grad = (
        torch.randn(2, *shape, 64, generator=generator, device="cuda", dtype=torch.bfloat16)
        for shape in shapes
    )
    wide = [x.double() for x in (q, k, v)]
    out, lse = parts.forward(*wide, causal)
    expected = out, lse, *parts.backward(grad.double(), *wide, out, lse, causal)
    out, lse = parts.forward(q, k, v, causal)
    found = out, lse, *parts.backward(grad, q, k, v, out, lse, causal)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=3e-2, rtol=3e-2)
