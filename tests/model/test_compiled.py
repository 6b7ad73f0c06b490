"""The small layers in C++ against their formulas in double precision, in every layout and dtype."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from baiwen.model import compiled, kernels
from baiwen.model.native.build import library

if not compiled.fits(torch.empty(0)):
    pytest.skip("no C++ compiler", allow_module_level=True)

SIZES = [1, 5, 16, 250]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def results(function, *inputs):
    """Outputs and gradients, all weighted by the same random numbers."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    outs = function(*inputs)
    outs = outs if isinstance(outs, tuple) else (outs,)
    draws = torch.Generator().manual_seed(1)
    slopes = [torch.randn(out.shape, generator=draws).to(out.dtype) for out in outs]
    return *(out.detach() for out in outs), *torch.autograd.grad(outs, inputs, slopes)


def assert_close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance)


def wide(*inputs):
    return (x.double() for x in inputs)


def norm_of_sum(x, y, weight):
    total = x + y
    return total, total * (total.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def silu_times(gate, up):
    return F.silu(gate) * up


def rotation(q, k, cosine, sine):
    return tuple(x * cosine + x.roll(x.shape[-1] // 2, -1) * sine for x in (q, k))


def angles(rows, tokens, size):
    half = torch.rand(rows, tokens, 1, size // 2) * 6
    cosine, sine = half.cos(), half.sin()
    return torch.cat((cosine, cosine), -1), torch.cat((-sine, sine), -1)


@pytest.mark.parametrize("size", SIZES)
def test_norm_and_gradients_are_those_of_the_formula(size):
    x, y, weight = torch.randn(3, 50, size), torch.randn(3, 50, size), torch.randn(size)

    def ours(x, y, weight):
        return compiled.add_rms_norm(x, y, weight, 1e-6, torch.float32)

    expected = results(norm_of_sum, *wide(x, y, weight))
    assert_close(results(ours, x, y, weight), expected, 2e-5)
    assert_close(results(ours, x.mT.contiguous().mT, y, weight), expected, 2e-5)


def test_a_norm_alone_hands_its_input_on():
    x, weight = torch.randn(70, 24), torch.randn(24)
    found = results(lambda x, w: compiled.add_rms_norm(x, None, w, 1e-6, torch.float32), x, weight)
    expected = results(lambda x, w: norm_of_sum(x, torch.zeros_like(x), w), *wide(x, weight))
    assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("used", [0, 1])
def test_either_of_sum_and_norm_may_be_left_alone(used):
    x, y, weight = torch.randn(9, 24), torch.randn(9, 24), torch.randn(24)

    def whole(function):
        return lambda x, y, weight: function(x, y, weight)[used] + 0 * weight.sum()

    found = results(
        whole(lambda *xyw: compiled.add_rms_norm(*xyw, 1e-6, torch.float32)), x, y, weight
    )
    assert_close(found, results(whole(norm_of_sum), *wide(x, y, weight)), 2e-5)


@pytest.mark.parametrize("stream", [torch.float32, torch.bfloat16])
def test_norm_in_bf16_has_fp32_statistics(stream):
    x, y, weight = torch.randn(40, 70).to(stream), torch.randn(40, 70).bfloat16(), torch.randn(70)
    found = results(lambda *xyw: compiled.add_rms_norm(*xyw, 1e-6, torch.bfloat16), x, y, weight)
    assert [out.dtype for out in found[:2]] == [stream, torch.bfloat16]
    assert_close(found, results(norm_of_sum, *wide(x, y, weight)), 3e-2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swiglu_and_gradients_are_those_of_the_formula(size, dtype):
    gate, up = 4 * torch.randn(3, 50, size), torch.randn(3, 50, size)
    gate, up = gate.to(dtype), up.to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert_close(
        results(compiled.swiglu, gate, up), results(silu_times, *wide(gate, up)), tolerance
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swiglu_weighs_rows_and_has_the_gradient_of_the_weights(size, dtype):
    gate, up = (2 * torch.randn(2, 50, size)).to(dtype)
    weights = torch.rand(50)
    found = results(compiled.swiglu, gate, up, weights)
    expected = results(lambda g, u, w: silu_times(g, u) * w[:, None], *wide(gate, up, weights))
    assert found[3].dtype == torch.float32
    for one, other in zip(found, expected, strict=True):
        error = (one.double() - other).norm() / other.norm()
        assert error < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_of_rows_are_those_of_an_index(size, dtype):
    x, places = torch.randn(60, size).to(dtype), torch.randperm(60)
    found = compiled.sum_rows(x, places, 3)
    assert_close([found], [x.double()[places].view(20, 3, size).sum(1)], 2e-2)
    assert found.dtype == dtype and found.is_contiguous()


def test_swiglu_takes_halves_of_one_product_and_any_other_layout():
    both = torch.randn(2, 30, 64)
    gate, up = both.chunk(2, -1)
    assert torch.equal(
        compiled.swiglu(gate, up), compiled.swiglu(gate.contiguous(), up.contiguous())
    )
    turned = compiled.swiglu(gate.transpose(0, 1), up.transpose(0, 1))
    assert torch.equal(turned, compiled.swiglu(gate, up).transpose(0, 1))


def test_swiglu_of_large_gates_is_finite():
    gate = torch.tensor([-200.0, -90.0, 0.0, 90.0, 200.0])
    found = compiled.swiglu(gate, torch.ones(5))
    torch.testing.assert_close(found, F.silu(gate))
    assert compiled.swiglu(torch.tensor([torch.nan]), torch.ones(1)).isnan()


@pytest.mark.parametrize("size", [2, 6, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_and_gradients_are_those_of_the_formula(size, dtype):
    q, k = torch.randn(2, 40, 3, size).to(dtype), torch.randn(2, 40, 1, size).to(dtype)
    tables = angles(2, 40, size)
    found = results(lambda q, k: compiled.rotate(q, k, *tables), q, k)
    expected = results(lambda q, k: rotation(q, k, *wide(*tables)), *wide(q, k))
    assert_close(found, expected, 1e-5 if dtype == torch.float32 else 2e-2)


def test_rotation_takes_heads_of_one_product_and_any_other_layout():
    tables = angles(2, 20, 16)
    q, k, _ = torch.randn(2, 20, 8, 16).split([4, 2, 2], dim=2)
    for one, other in zip(
        compiled.rotate(q, k, *tables),
        compiled.rotate(
            q.mT.contiguous().mT, k.transpose(0, 1).contiguous().transpose(0, 1), *tables
        ),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_tables_of_one_row_serve_all_rows():
    q, k, tables = torch.randn(3, 20, 4, 16), torch.randn(3, 20, 2, 16), angles(1, 20, 16)
    for one, other in zip(compiled.rotate(q, k, *tables), rotation(q, k, *tables), strict=True):
        torch.testing.assert_close(one, other)


def test_other_shapes_and_dtypes_take_the_plain_form():
    x, weight = torch.randn(40, 64), torch.rand(64)
    for up in (torch.randn(64), torch.randn(40, 64).bfloat16()):
        torch.testing.assert_close(kernels.swiglu(x, up), F.silu(x) * up)
    expected = F.rms_norm(x, (64,), weight, 1e-6)
    torch.testing.assert_close(kernels.add_rms_norm(x, x[:1] * 0, weight, 1e-6)[1], expected)
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.equal(kernels.rms_norm(x, weight, 1e-6), expected.half())


def test_tensors_without_memory_are_not_taken():
    assert not compiled.fits(torch.empty(4, device="meta"))
    with FakeTensorMode():
        assert not compiled.fits(torch.empty(4))
    assert compiled.fits(torch.nn.Parameter(torch.empty(4)))


def test_the_default_dtype_and_device_are_no_matter():
    x, weight, tables = torch.randn(2, 9, 4, 8), torch.randn(8), angles(2, 9, 8)

    def layers(x, weight):
        total, normed = compiled.add_rms_norm(x, x, weight, 1e-6, torch.float32)
        return compiled.swiglu(*compiled.rotate(total, normed, *tables))

    expected = results(layers, x, weight)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            out = layers(x.requires_grad_(), weight.requires_grad_())
        assert torch.equal(out, expected[0])
        torch.autograd.grad(out.sum(), (x, weight))
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_number_of_threads_changes_no_bit():
    x, y, weight = torch.randn(700, 64), torch.randn(700, 64), torch.randn(64)

    def layers(x, y, weight):
        total, normed = compiled.add_rms_norm(x, y, weight, 1e-6, torch.float32)
        return compiled.swiglu(total, normed)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results(layers, x, y, weight)
        torch.set_num_threads(2)
        for one, two in zip(alone, results(layers, x, y, weight), strict=True):
            assert torch.equal(one, two)
    finally:
        torch.set_num_threads(before)


def test_without_the_library_the_plain_forms_give_the_same(monkeypatch):
    x, y, weight = torch.randn(2, 9, 32), torch.randn(2, 9, 32), torch.randn(32)
    q, k, tables = torch.randn(2, 9, 4, 8), torch.randn(2, 9, 2, 8), angles(2, 9, 8)

    def all_layers():
        return (
            *results(lambda *xyw: kernels.add_rms_norm(*xyw, 1e-6), x, y, weight),
            *results(kernels.swiglu, x, y),
            *results(lambda q, k: kernels.rotate(q, k, *tables), q, k),
        )

    natively = all_layers()
    monkeypatch.setenv("BAIWEN_NATIVE", "0")
    library.cache_clear()
    assert not compiled.fits(x)
    assert_close(all_layers(), natively, 2e-5)
    monkeypatch.undo()
    library.cache_clear()
