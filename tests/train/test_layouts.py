"""Ranks in any layout are one process: the loop's losses and gradient norms over gloo."""

import pytest
import torch
from safetensors.torch import load_file

from baiwen.errors import UserError
from baiwen.model.sizes import SIZES
from baiwen.train.parallel import Parallel


@pytest.fixture(scope="module")
def folder(made_by):
    """What one, two and four ranks made of the runs of `layouts.py`."""
    return made_by("layouts")


@pytest.mark.slow
def test_every_layout_of_ranks_has_the_losses_of_one_process(tiny, layouts, folder):
    """Of every objective, up to twenty steps; and of a run that four, two and one rank went on."""
    for (kind, name), steps in layouts.CASES.items():
        rows = [tiny.metrics(folder / kind / run)[:steps] for run in ("one", name)]
        assert [row["step"] for row in rows[1]] == list(range(1, steps + 1))
        for one, many in zip(*rows, strict=True):
            assert one.keys() == many.keys()
            for key in one:
                told = f"{key} of step {one['step']} of {kind} {name}"
                assert many[key] == pytest.approx(one[key], rel=1e-5, abs=1e-6), told


@pytest.mark.slow
def test_gradients_of_what_ranks_have_whole_are_summed_in_fp32(layouts, folder):
    parts = [layouts.part(rank) for rank in range(4)]
    expected = torch.stack(parts).float().sum(0).bfloat16()
    assert not sum(parts).equal(expected)
    torch.testing.assert_close(load_file(folder / "whole")["sum"], expected, rtol=1e-6, atol=1e-6)


def test_every_objective_and_dimension_is_asked_for(layouts):
    knobs = [set(knobs) for runs in layouts.RUNS.values() for knobs in runs.values()]
    assert set.union(*knobs) == {"replicate", "context", "tensor", "expert"}
    assert {turn for kind, _ in layouts.CASES for turn in layouts.TURNS[kind]} == set(
        layouts.OBJECTIVES
    )


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        (4, r"parallel\.tensor = 4 .* num_attention_heads = 14: 1 or 2 does"),
        (7, r"parallel\.tensor = 7 .* num_key_value_heads = 2"),
    ],
)
def test_sizes_that_do_not_divide_are_told_with_what_does(ranks, told):
    with pytest.raises(UserError, match=told):
        Parallel(tensor=ranks).fits(SIZES["0.5b"])
    Parallel(tensor=2).fits(SIZES["0.5b"])
    Parallel(tensor=8).fits(SIZES["72b"])


def test_ranks_that_share_matrices_cannot_be_compiled():
    with pytest.raises(ValueError, match="compile = true"):
        Parallel(tensor=2, compile=True)
