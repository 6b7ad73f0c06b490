"""The CUDA forms of packed attention against the masked one."""

import pytest
import torch

from baiwen.model import kernels
from baiwen.model.documents import Documents

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

ROWS = [[100, 156], [256], [1, 200, 55]]


def run(form, dtype: torch.dtype):
    """The output and the gradients of `form` on fixed random tensors."""
    generator = torch.Generator("cuda").manual_seed(0)
    tensors = [
        torch.randn(3, 256, heads, 64, device="cuda", dtype=dtype, generator=generator)
        for heads in (4, 2, 2, 4)
    ]
    q, k, v, weights = (tensor.requires_grad_() for tensor in tensors)
    out = form(q, k, v, Documents.of(ROWS).to("cuda"))
    return out, *torch.autograd.grad((out * weights).sum(), (q, k, v))


@pytest.mark.parametrize(
    ("form", "dtype", "tolerance"),
    [
        (kernels.varlen, torch.bfloat16, 3e-2),
        (kernels.flex, torch.bfloat16, 3e-2),
        (kernels.flex, torch.float32, 1e-2),  # TF32 in the reference or in the kernel
        (kernels.attend, torch.bfloat16, 3e-2),
    ],
)
def test_a_fast_form_gives_the_masked_form_and_its_gradients(form, dtype, tolerance):
    for found, expected in zip(run(form, dtype), run(kernels.masked, dtype), strict=True):
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
