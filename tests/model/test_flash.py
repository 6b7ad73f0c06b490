"""Attention in C++ against PyTorch's own: documents, odd sizes, gradients."""

import pytest
import torch
import torch.nn.functional as F

from baiwen.model import flash, kernels
from baiwen.model.documents import Documents
from baiwen.model.native.build import library

if not flash.fits(torch.empty(0)):
    pytest.skip("no C++ compiler", allow_module_level=True)

ROWS = [[[1]], [[5]], [[48]], [[49]], [[131]], [[3, 60, 1, 36], [100]], [[1] * 7]]


def draw(rows, tokens, heads=4, key_heads=2, size=16, keys=None):
    torch.manual_seed(0)
    k, v = torch.randn(2, rows, keys or tokens, key_heads, size).unbind()
    return torch.randn(rows, tokens, heads, size), k, v


def plain(q, k, v, mask):
    """SDPA with a mask of [B, 1, T, S] or [B, K, T, S]."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    mask = mask.repeat_interleave(q.shape[1] // mask.shape[1], 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).transpose(1, 2)


def results(function, *inputs):
    """Output and gradients."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = function(*inputs)
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return out.detach(), *torch.autograd.grad(out, inputs, slope)


def assert_close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("lengths", ROWS)
@pytest.mark.parametrize("heads", [(4, 2, 16), (3, 3, 24), (4, 1, 5)])
def test_output_and_gradients_are_those_of_double_precision(lengths, heads):
    inputs, documents = draw(len(lengths), sum(lengths[0]), *heads), Documents.of(lengths)
    found = results(lambda *qkv: flash.attend(*qkv, documents), *inputs)
    wide = (x.double() for x in inputs)
    assert_close(found, results(lambda *qkv: plain(*qkv, documents.mask), *wide), 5e-6)


@pytest.mark.parametrize("size", [64, 80, 128])
def test_bf16_is_rounded_once(size):
    inputs, documents = draw(1, 130, size=size), Documents.of([[30, 100]])
    half = [x.bfloat16() for x in inputs]
    found = results(lambda *qkv: flash.attend(*qkv, documents), *half)
    expected = results(lambda *qkv: plain(*qkv, documents.mask), *(x.double() for x in half))
    assert {x.dtype for x in found} == {torch.bfloat16}
    assert_close(found, expected, 2e-2)
    assert_close(found[:1], expected[:1], 2**-8)


def test_rows_are_documents_where_none_are_told():
    inputs = draw(3, 70)
    documents = Documents.of([[70]] * 3)
    assert torch.equal(flash.attend(*inputs), flash.attend(*inputs, documents))


@pytest.mark.parametrize("shape", [(2, 0), (0, 9)])
def test_no_tokens_have_gradients_of_their_shape(shape):
    inputs = draw(*shape)
    for found, given in zip(results(flash.attend, *inputs)[1:], inputs, strict=True):
        assert found.shape == given.shape


def test_the_default_device_is_no_matter():
    inputs, documents = draw(2, 9), Documents.of([[4, 5], [9]])
    expected = results(lambda *qkv: flash.attend(*qkv, documents), *inputs)
    inputs = [x.requires_grad_() for x in inputs]
    with torch.device("meta"):
        out = flash.attend(*inputs, documents)
    assert torch.equal(out, expected[0])


def test_the_number_of_threads_changes_no_bit():
    inputs, documents = draw(2, 300, 6, 2, 32), Documents.of([[100, 200], [7, 1, 292]])

    def run(threads):
        torch.set_num_threads(threads)
        return results(lambda *qkv: flash.attend(*qkv, documents), *inputs)

    before = torch.get_num_threads()
    try:
        for one, two, again in zip(run(1), run(2), run(2), strict=True):
            assert torch.equal(one, two)
            assert torch.equal(two, again)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FC00001, -1])
def test_any_nan_of_a_query_is_nan_in_its_output_alone(bits):
    q, k, v = draw(1, 60)
    whole = flash.attend(q, k, v)
    q[0, 30, 1, 2] = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    found = flash.attend(q, k, v)
    assert found[0, 30, 1].isnan().all()
    found[0, 30, 1] = whole[0, 30, 1]
    assert torch.equal(found, whole)


def test_heads_may_be_slices_of_one_product():
    q, k, v = torch.randn(2, 60, 8, 16).split([4, 2, 2], dim=2)
    documents = Documents.of([[60], [20, 40]])
    found = results(lambda *qkv: flash.attend(*qkv, documents), q, k, v)
    apart = results(
        lambda *qkv: flash.attend(*qkv, documents), *(x.contiguous() for x in (q, k, v))
    )
    assert_close(found, apart, 0)


def test_a_span_whose_keys_are_all_behind_it_sees_none():
    q, k, v = draw(1, 10, keys=30)
    spans = torch.tensor([(0, 0, 10, 35, 0, 0)], dtype=torch.int32)  # its places are 20 ... 29
    out, lse = flash.forward(q, k, v, spans)
    assert not out.any()
    assert lse.isneginf().all()


@pytest.mark.parametrize("tokens", [1, 50, 97])
def test_queries_may_be_the_last_of_the_keys(tokens):
    keys = 200
    q, k, v = draw(2, tokens, keys=keys)
    spans = torch.tensor([(0, 0, tokens, 0, 0, 0), (1, 0, tokens, 13, 0, 0)], dtype=torch.int32)
    out, lse = flash.forward(q, k, v, spans)
    places = torch.arange(keys - tokens, keys)[:, None]
    mask = (torch.arange(keys) <= places).expand(2, 1, -1, -1).clone()
    mask[1, ..., :13] = False
    assert_close([out], [plain(q, k, v, mask)], 5e-6)
    scores = torch.einsum("btkgd,bskd->bkgts", q.unflatten(2, (2, -1)), k).flatten(1, 2) / 4
    assert_close([lse], [scores.masked_fill(~mask, -torch.inf).logsumexp(-1)], 5e-6)


def test_large_scores_neither_overflow_nor_vanish():
    q, k, v = draw(1, 60)
    documents = Documents.of([[60]])
    found = results(lambda *qkv: flash.attend(*qkv, documents), 100 * q, k, v)
    wide = (x.double() for x in (100 * q, k, v))
    expected = results(lambda *qkv: plain(*qkv, documents.mask), *wide)
    assert_close(found[:1], expected[:1], 1e-4)
    assert all(x.isfinite().all() for x in found)


def test_a_nan_stays_in_its_document():
    q, k, v = draw(1, 60)
    v[0, 5] = torch.nan
    out = flash.attend(q, k, v, Documents.of([[30, 30]]))
    assert out[0, 5:30].isnan().all()
    assert out[0, 30:].isfinite().all()


def test_without_the_library_attention_is_sdpa(monkeypatch):
    q, k, v = draw(2, 40)
    documents = Documents.of([[40], [15, 25]])
    natively = kernels.attend(q, k, v, documents)
    monkeypatch.setenv("BAIWEN_NATIVE", "0")
    library.cache_clear()
    assert not flash.fits(q)
    torch.testing.assert_close(kernels.attend(q, k, v, documents), natively)
    monkeypatch.undo()
    library.cache_clear()
