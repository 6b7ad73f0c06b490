"""The chunked head against the plain one."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from baiwen.train.losses import head_loss

B, T, C, V = 3, 40, 32, 300


def tensors(seed=0):
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(B, T, C, generator=g).requires_grad_()
    head = (0.3 * torch.randn(V, C, generator=g)).requires_grad_()
    targets = torch.randint(0, V, (B, T), generator=g)
    mask = torch.rand(B, T, generator=g) * (torch.rand(B, T, generator=g) > 0.4)
    return hidden, head, targets, mask


def plain(hidden, head, targets, mask, z_loss=0.0):
    """All logits at once, by torch's own cross-entropy."""
    logits = F.linear(hidden, head).float()
    entropy = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    entropy = (entropy.view_as(mask) * mask).sum()
    return entropy + z_loss * (mask * logits.logsumexp(-1) ** 2).sum(), entropy


def gradients(loss, *of):
    return torch.autograd.grad(loss / 7, of)


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("chunk", [1, 7, None])
def test_loss_and_gradients_equal_the_plain_cross_entropy(z_loss, chunk):
    hidden, head, targets, mask = tensors()
    expected, entropy = plain(hidden, head, targets, mask, z_loss)
    total, told = head_loss(hidden, head, targets, mask, z_loss=z_loss, chunk=chunk)
    assert relative(total, expected) < 1e-6
    assert relative(told, entropy) < 1e-6
    pairs = zip(gradients(total, hidden, head), gradients(expected, hidden, head), strict=True)
    assert all(relative(ours, theirs) < 2e-6 for ours, theirs in pairs)


def test_bf16_is_as_near_to_fp32_as_the_plain_bf16_loss_is():
    hidden, head, targets, mask = tensors()
    exact, _ = plain(hidden, head, targets, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, _ = head_loss(hidden, head, targets, mask, chunk=16)
        theirs, _ = plain(hidden, head, targets, mask)
    assert relative(ours, exact) < 2 * relative(theirs, exact) + 1e-4
    wanted = gradients(exact, hidden, head)
    for mine, plains, right in zip(
        gradients(ours, hidden, head), gradients(theirs, hidden, head), wanted, strict=True
    ):
        assert mine.dtype == torch.float32
        assert relative(mine, right) < 1.5 * relative(plains, right)


def test_masked_tokens_touch_neither_loss_nor_gradient():
    hidden, head, targets, mask = tensors()
    clean, _ = head_loss(hidden, head, targets, mask)
    poisoned = torch.where(mask[..., None] > 0, hidden, torch.nan).detach().requires_grad_()
    total, _ = head_loss(poisoned, head, targets, mask)
    assert total == clean
    by_hidden, by_head = gradients(total, poisoned, head)
    assert by_head.isfinite().all()
    assert (by_hidden[mask == 0] == 0).all()


def test_nothing_to_learn_is_a_loss_of_zero():
    hidden, head, targets, mask = tensors()
    total, _ = head_loss(hidden, head, targets, torch.zeros_like(mask))
    assert total == 0
    assert all((g == 0).all() for g in gradients(total, hidden, head))


def test_a_confident_model_has_exact_losses():
    logits = torch.tensor([[100.0, 0.0, -100.0]])
    for target, expected in ((0, 0.0), (1, 100.0), (2, 200.0)):
        total, _ = head_loss(
            torch.ones(1, 1, 1), logits.T, torch.tensor([[target]]), torch.ones(1, 1)
        )
        assert total == expected


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_logits_of_all_tokens_never_exist():
    hidden, head, targets, _ = tensors()
    with Largest() as largest:
        total, _ = head_loss(hidden, head, targets, torch.ones(B, T), chunk=8)
        total.backward()
    assert largest.numel == max(8 * V, V * C, B * T * C)


def test_without_gradient_only_the_loss_is_computed():
    hidden, head, targets, mask = tensors()
    expected, _ = head_loss(hidden, head, targets, mask)
    with torch.no_grad():
        total, _ = head_loss(hidden, head, targets, mask)
    assert total == expected and not total.requires_grad
