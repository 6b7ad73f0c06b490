"""The CUDA forms of packed attention against the masked one."""

import pytest
import torch

from baiwen.model import kernels
from baiwen.model.documents import Documents

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

ROWS = [[130, 60, 66], [256], [1, 200, 55]]
DOCUMENTS = {
    "plain": Documents.of(ROWS),
    "trees": Documents.of(ROWS, trunks=[[-1, 0, 0], [-1], [-1, 0, 0]]),
}


def run(form, dtype: torch.dtype, documents: Documents):
    """The output and the gradients of `form` on fixed random tensors."""
    generator = torch.Generator("cuda").manual_seed(0)
    tensors = [
        torch.randn(3, 256, heads, 64, device="cuda", dtype=dtype, generator=generator)
        for heads in (4, 2, 2, 4)
    ]
    q, k, v, weights = (tensor.requires_grad_() for tensor in tensors)
    out = form(q, k, v, documents.to("cuda"))
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
@pytest.mark.parametrize("documents", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_fast_form_gives_the_masked_form_and_its_gradients(form, dtype, tolerance, documents):
    pairs = zip(run(form, dtype, documents), run(kernels.masked, dtype, documents), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
