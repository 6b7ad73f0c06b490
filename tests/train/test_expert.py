"""Experts that two ranks share are those of one, however uneven the choice; what cannot be shared.

Whole runs are compared in test_layouts.py.
"""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import Parameter

from baiwen.errors import UserError
from baiwen.model import kernels
from baiwen.train import expert
from baiwen.train.parallel import Parallel


@pytest.fixture(scope="module")
def folder(made_by):
    """What two ranks made of the cases of `spread_experts.py`."""
    return made_by("spread_experts")


def alone(script, name, dtype):
    """Each rank's tokens by all experts in one process; gradients of experts are summed."""
    found = [
        script.results(kernels.mixture, name, rank, script.experts(), dtype)
        for rank in range(script.RANKS)
    ]
    for key in ("gate", "up", "down"):
        parts = sum(one[key] for one in found).chunk(script.RANKS)
        for one, part in zip(found, parts, strict=True):
            one[key] = part
    return found


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["any", "one_rank", "one_way"])
def test_experts_of_two_ranks_are_those_of_one(name, dtype, spread_experts, folder):
    """No token is dropped, whatever the ranks choose, and a rank may get none."""
    for rank, expected in enumerate(alone(spread_experts, name, dtype)):
        found = load_file(folder / f"{name}-{dtype}-first-{rank}")
        assert found.keys() == expected.keys()
        for key, one in expected.items():
            error = (found[key].float() - one.float()).norm()
            assert error <= (1e-6 if dtype == "float32" else 1e-2) * one.float().norm(), key


@pytest.mark.slow
def test_tokens_that_travel_repeat_bit_for_bit(folder):
    for first in folder.glob("*-first-*"):
        second = load_file(first.with_name(first.name.replace("first", "second")))
        assert all(torch.equal(second[key], one) for key, one in load_file(first).items())


def test_a_dense_model_has_no_experts_to_spread(tiny):
    with pytest.raises(UserError, match=r"parallel\.expert = 2, but the model is dense"):
        Parallel(expert=2).fits(tiny.CONFIG)


def test_experts_that_do_not_divide_are_told_with_their_number(tiny):
    with pytest.raises(UserError, match=r"parallel\.expert = 3 does not divide the 4 experts"):
        Parallel(expert=3).fits(tiny.MOE)
    Parallel(expert=2).fits(tiny.MOE)


def test_what_ranks_exchange_is_not_compiled():
    with pytest.raises(ValueError, match="expert must be 1"):
        Parallel(expert=2, compile=True)


@pytest.mark.parametrize(
    ("shape", "ranks", "dim"),
    [((8, 6, 5), 4, 0), ((8, 6, 5), 3, 1), ((8, 6, 5), 5, 2), ((8, 6, 5), 7, 0)],
)
def test_fsdp_divides_experts_where_they_divide(shape, ranks, dim):
    """Or whole experts, with padding."""
    assert expert.place(Parameter(torch.empty(shape)), ranks=ranks).dim == dim
