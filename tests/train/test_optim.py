"""Which optimizer owns which parameter, and with which decay."""

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from baiwen.errors import UserError
from baiwen.train.muon import Muon, orthogonal
from baiwen.train.optim import Optim, build, clip, set_rate


def groups(optimizers):
    return [group for optimizer in optimizers for group in optimizer.param_groups]


@pytest.mark.parametrize("muon", [False, True])
def test_every_parameter_has_exactly_one_owner(tiny, muon):
    model = tiny.model(tiny.MOE)
    owned = [p for group in groups(build(model, Optim(muon=muon))) for p in group["params"]]
    assert sorted(map(id, owned)) == sorted(map(id, model.parameters()))


def test_decay_falls_on_matrices_only(tiny):
    model = tiny.model(tiny.MOE)
    for group in groups(build(model, Optim(weight_decay=0.3))):
        wanted = {p.ndim >= 2 for p in group["params"]}
        assert wanted == {group["weight_decay"] == 0.3}


def test_muon_takes_the_matrices_of_the_blocks(tiny):
    model = tiny.model()
    adam, muon = build(model, Optim(muon=True))
    names = {p: name for name, p in model.named_parameters()}
    taken = {names[p] for group in muon.param_groups for p in group["params"]}
    assert taken == {name for name in names.values() if name.endswith("proj.weight")}
    assert isinstance(muon, Muon) and isinstance(adam, torch.optim.AdamW)


def test_muon_is_refused_where_matrices_are_split(tiny):
    with pytest.raises(UserError, match=r"set optim\.muon = false"):
        build(tiny.model(), Optim(muon=True), sharded=True)


def test_a_step_equals_the_formula_of_adamw():
    """Loshchilov and Hutter (2019), algorithm 2, first step: m / sqrt(v) is the gradient's sign."""
    model = torch.nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimizers = build(model, Optim(lr=1e-2, weight_decay=0.5))
    set_rate(optimizers, 1e-3)
    model(torch.tensor([[1.0, -2.0, 3.0]])).sum().backward()
    optimizers[0].step()
    expected = before * (1 - 1e-3 * 0.5) - 1e-3 * torch.tensor([1.0, -1.0, 1.0])
    torch.testing.assert_close(model.weight.detach(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("shape", [(3, 8, 32), (2, 32, 8), (1, 16, 16)])
def test_orthogonal_brings_every_singular_value_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.min() > 0.3 and values.max() < 1.3


def test_a_step_of_muon_is_that_of_torch():
    """torch.optim.Muon multiplies in bf16, hence the tolerance."""
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(12, 48)) for _ in range(2))
    one = Muon([ours], lr=0.1, weight_decay=0.5, dtype=torch.bfloat16)
    other = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = torch.randn(12, 48)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=0, atol=5e-3)


def test_stacked_experts_are_orthogonalised_each_by_itself():
    gradients = torch.randn(3, 24, 8)
    stacked = torch.nn.Parameter(torch.zeros(3, 24, 8))
    apart = [torch.nn.Parameter(torch.zeros(24, 8)) for _ in range(3)]
    stacked.grad = gradients.clone()
    for one, gradient in zip(apart, gradients, strict=True):
        one.grad = gradient.clone()
    for parameters in ([stacked], apart):
        Muon(parameters, lr=0.1, weight_decay=0.0).step()
    torch.testing.assert_close(stacked.detach(), torch.stack([one.detach() for one in apart]))


@pytest.mark.parametrize("largest", [0.1, 100.0])
def test_clipping_in_one_process_is_that_of_torch(tiny, largest):
    one, other = tiny.model(), tiny.model()
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        ours.grad = torch.randn(ours.shape) / 50
        theirs.grad = ours.grad.clone()
    norm = clip(one.parameters(), largest)
    torch.testing.assert_close(norm, clip_grad_norm_(other.parameters(), largest))
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
