"""Chunked log-probabilities against torch's own log-softmax."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from baiwen.train import logprobs as module
from baiwen.train.logprobs import logprobs

B, T, C, V = 3, 40, 32, 300


def tensors(seed=0):
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(B, T, C, generator=g).requires_grad_()
    head = (0.3 * torch.randn(V, C, generator=g)).requires_grad_()
    targets = torch.randint(0, V, (B, T), generator=g)
    mask = torch.rand(B, T, generator=g) * (torch.rand(B, T, generator=g) > 0.4)
    return hidden, head, targets, mask


def plain(hidden, head, targets, mask, temperature=1.0):
    """All logits at once."""
    kept = mask != 0
    logps = (F.linear(hidden, head)[kept].float() / temperature).log_softmax(-1)
    entropies = -(logps.exp() * logps).sum(-1)
    return logps.gather(1, targets[kept][:, None])[:, 0], entropies


def gradients(logps, hidden, head):
    """Of a sum in which every token has another weight."""
    weights = torch.linspace(-2, 3, len(logps))
    return torch.autograd.grad((logps.exp() * weights).sum(), (hidden, head))


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.fixture(params=["kept", "made again"])
def _either(request, monkeypatch):
    if request.param == "made again":
        monkeypatch.setattr(module, "KEPT_ENTRIES", 0)


@pytest.mark.usefixtures("_either")
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [1, 7, None])
def test_values_and_gradients_are_those_of_log_softmax(chunk, temperature):
    hidden, head, targets, mask = tensors()
    expected = plain(hidden, head, targets, mask, temperature)
    found = logprobs(hidden, head, targets, mask, temperature=temperature, chunk=chunk)
    assert not found[1].requires_grad
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours, theirs) < 1e-6
    pairs = zip(
        gradients(found[0], hidden, head), gradients(expected[0], hidden, head), strict=True
    )
    assert all(relative(ours, theirs) < 3e-6 for ours, theirs in pairs)


@pytest.mark.usefixtures("_either")
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_bf16_is_as_near_to_fp32_as_the_plain_bf16_form_is(temperature):
    hidden, head, targets, mask = tensors()
    exact = plain(hidden, head, targets, mask, temperature)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = logprobs(hidden, head, targets, mask, temperature=temperature, chunk=16)
        theirs = plain(hidden, head, targets, mask, temperature)
    for mine, plains, right in zip(ours, theirs, exact, strict=True):
        assert mine.dtype == torch.float32
        assert relative(mine, right) < 1.5 * relative(plains, right)
    for mine, plains, right in zip(
        *(gradients(logps, hidden, head) for logps, _ in (ours, theirs, exact)), strict=True
    ):
        assert mine.dtype == torch.float32
        assert relative(mine, right) < 1.5 * relative(plains, right)


def test_slopes_made_again_are_the_kept_ones(monkeypatch):
    hidden, head, targets, mask = tensors()
    kept = gradients(logprobs(hidden, head, targets, mask, chunk=9)[0], hidden, head)
    monkeypatch.setattr(module, "KEPT_ENTRIES", 0)
    again = gradients(logprobs(hidden, head, targets, mask, chunk=9)[0], hidden, head)
    assert all(map(torch.equal, kept, again))


@pytest.mark.usefixtures("_either")
def test_masked_tokens_touch_neither_values_nor_gradient():
    hidden, head, targets, mask = tensors()
    clean, _ = logprobs(hidden, head, targets, mask)
    poisoned = torch.where(mask[..., None] > 0, hidden, torch.nan).detach().requires_grad_()
    logps, entropies = logprobs(poisoned, head, targets, mask)
    assert logps.equal(clean) and entropies.isfinite().all()
    by_hidden, by_head = gradients(logps, poisoned, head)
    assert by_head.isfinite().all()
    assert (by_hidden[mask == 0] == 0).all()


@pytest.mark.usefixtures("_either")
def test_of_no_tokens_there_are_no_values_and_no_gradient():
    hidden, head, targets, mask = tensors()
    logps, entropies = logprobs(hidden, head, targets, torch.zeros_like(mask))
    assert logps.shape == entropies.shape == (0,)
    assert all((g == 0).all() for g in gradients(logps, hidden, head))


def test_a_confident_model_has_exact_values():
    logits = torch.tensor([[100.0, 0.0, -100.0]])
    for target, expected in ((0, 0.0), (1, -100.0), (2, -200.0)):
        logps, entropies = logprobs(
            torch.ones(1, 1, 1), logits.T, torch.tensor([[target]]), torch.ones(1, 1)
        )
        assert logps.item() == expected
        assert entropies.item() == 0


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


@pytest.mark.usefixtures("_either")
def test_logits_of_all_tokens_never_exist():
    hidden, head, targets, _ = tensors()
    with Largest() as largest:
        logps, _ = logprobs(hidden, head, targets, torch.ones(B, T), chunk=8)
        logps.sum().backward()
    assert largest.numel == max(8 * V, V * C, B * T * C)


class Matmuls(TorchDispatchMode):
    """Counts the matrix products."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten.mm.default, torch.ops.aten.addmm_.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("entries", "products"), [(2**26, 3), (0, 4)])
def test_few_logits_are_kept_and_many_made_again(monkeypatch, entries, products):
    monkeypatch.setattr(module, "KEPT_ENTRIES", entries)
    hidden, head, targets, mask = tensors()
    with Matmuls() as matmuls:
        logprobs(hidden, head, targets, mask, chunk=B * T)[0].sum().backward()
    assert matmuls.count == products


def test_without_gradient_the_values_are_the_same():
    hidden, head, targets, mask = tensors()
    expected = logprobs(hidden, head, targets, mask)
    with torch.no_grad():
        found = logprobs(hidden, head, targets, mask)
    assert all(map(torch.equal, found, expected))
    assert not found[0].requires_grad
