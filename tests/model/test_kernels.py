"""Attention over packed documents against brute force, in every form that a CPU has."""

import pytest
import torch

from baiwen.errors import UserError
from baiwen.model import kernels
from baiwen.model.documents import Documents

ROWS = [[3, 13, 1, 7], [24], [8, 8, 8]]


def brute_force(q, k, v, lengths):
    """Softmax attention, one query at a time, over what it may see."""
    out = torch.empty_like(q)
    group = q.shape[2] // k.shape[2]
    for row, documents in enumerate(lengths):
        ends = torch.tensor(documents).cumsum(0).tolist()
        for token in range(q.shape[1]):
            start = max([0, *(end for end in ends if end <= token)])
            for head in range(q.shape[2]):
                keys = k[row, start : token + 1, head // group]
                scores = keys @ q[row, token, head] / q.shape[-1] ** 0.5
                out[row, token, head] = scores.softmax(0) @ v[row, start : token + 1, head // group]
    return out


def draw(rows, width, heads=4, kv_heads=2, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, width, count, size) for count in (heads, kv_heads, kv_heads))
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("form", [kernels.attend, kernels.separate, kernels.masked])
def test_packed_documents_attend_as_by_brute_force(form):
    q, k, v = draw(3, 24)
    expected = brute_force(q, k, v, ROWS)
    torch.testing.assert_close(form(q, k, v, Documents.of(ROWS)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", [kernels.separate, kernels.masked])
def test_gradients_of_packed_documents_are_those_of_brute_force(form):
    tensors, weights = draw(3, 24), torch.randn(3, 24, 4, 8)
    wanted = torch.autograd.grad((brute_force(*tensors, ROWS) * weights).sum(), tensors)
    found = torch.autograd.grad((form(*tensors, Documents.of(ROWS)) * weights).sum(), tensors)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("width", [5, 192, 250])
def test_rows_of_one_document_are_plainly_causal(width):
    q, k, v = draw(2, width)
    with torch.no_grad():
        expected = kernels.masked(q, k, v, Documents.of([[width], [width]]))
    for documents in (None, Documents.of([[width], [width]])):
        found = kernels.attend(q, k, v, documents)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_documents_know_their_places():
    documents = Documents.of([[3, 5], [8]], padding=[2, 0])
    assert documents.ends.tolist() == [0, 3, 8, 16]
    assert documents.positions.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4], list(range(8))]
    assert documents.longest == 8
    assert documents.real.sum(1).tolist() == [6, 8]
    assert Documents.of([[3, 5], [8]]).real is None


@pytest.mark.parametrize("lengths", [[[3, 5], [7]], [[8, 0], [8]], []])
def test_rows_that_documents_do_not_fill_are_refused(lengths):
    with pytest.raises(UserError, match="fill"):
        Documents.of(lengths)


def test_norm_keeps_fp32_statistics_under_autocast():
    x, weight = torch.randn(4, 64) * 1e4, torch.rand(64)
    expected = torch.nn.functional.rms_norm(x, (64,), weight, 1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = kernels.rms_norm(x, weight, 1e-6)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.bfloat16())
    torch.testing.assert_close(kernels.rms_norm(x, weight, 1e-6), expected)
