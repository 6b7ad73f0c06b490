"""Planning a sweep: sizes, cells, grid, order, cost and the rungs of halving."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from baiwen.model import count
from baiwen.scaling import proof, sweep
from baiwen.scaling.sweep import Experts, Ladder, Run, Spaced
from baiwen.train.optim import Optim
from baiwen.train.schedule import Schedule

LADDER = Ladder(widths=(32, 64), layers=(2,))


def shapes(*experts, names=()):
    return sweep.sizes(names, LADDER, experts, length=16, vocabulary=300)


def cell(size="w32-l2", tokens=1000, **knobs):
    return replace(Run(size, shapes()[size], tokens, 64, 16, Optim(), Schedule(), seed=0), **knobs)


def test_a_ladder_has_a_shape_for_each_width():
    found = shapes(names=("tiny",))
    assert list(found) == ["tiny", "w32-l2", "w64-l2"]
    assert [one.hidden_size for one in found.values()] == [128, 32, 64]
    assert {one.vocab_size for one in found.values()} == {384}  # to the next multiple of 128


def test_experts_keep_the_width_that_a_token_meets():
    """2 experts and the shared one, of 32, 32 and 32 columns, are as wide as 96."""
    found = shapes(Experts(experts=8, top_k=2, width=1 / 3, shared=1 / 3))
    found = found["w32-l2-e8k2-w0.333-s0.333"]
    dense = shapes()["w32-l2"]
    assert (found.num_experts, found.num_experts_per_tok) == (8, 2)
    width = 2 * found.moe_intermediate_size + found.shared_expert_intermediate_size
    assert width == dense.intermediate_size
    assert cell(shape=found).active < cell(shape=found).parameters


def test_mixtures_that_differ_in_the_width_of_an_expert_alone_are_two_sizes():
    fine = [Experts(experts=8, top_k=2, width=width) for width in (0.25, 0.5)]
    assert len(shapes(*fine)) == 3 * len(LADDER.widths)


def test_parameters_leave_the_embeddings_out():
    run = cell()
    tables = run.shape.vocab_size * run.shape.hidden_size
    assert run.parameters == run.active == count.parameters(run.shape).total - tables


def test_budgets_are_given_or_follow_from_the_active_parameters():
    made = sweep.budgets(shapes(), tokens=(500,), per_parameter=(2.0,))
    assert made[:2] == [("w32-l2", 500), ("w32-l2", 2 * cell().active)]
    assert len(made) == 4


def test_spaced_values_have_both_ends():
    assert Spaced(low=1e-3, high=8e-3).values() == approx((1e-3, 2e-3, 4e-3, 8e-3))
    assert Spaced(low=256, high=1000).values() == (256, 512)


def test_every_rate_meets_every_batch_cheapest_cells_first():
    cells = [cell("w64-l2", 500), cell("w32-l2", 1000), cell("w32-l2", 500)]
    runs = sweep.planned(cells, (1e-3, 2e-3, 4e-3), (32.0, 64.0))
    assert len(runs) == len({run.name for run in runs}) == 18
    assert list(sweep.by_cell(runs)) == [("w32-l2", 500), ("w32-l2", 1000), ("w64-l2", 500)]
    assert {(run.optim.lr, run.batch) for run in runs[:6]} == {
        (lr, batch) for lr in (1e-3, 2e-3, 4e-3) for batch in (32, 64)
    }


def test_cells_that_cost_too_much_are_left_out():
    cells = [cell(tokens=500), cell(tokens=1000)]
    least = 6 * cells[0].active * 500
    runs = sweep.planned(cells, (1e-3,), (64.0,), max_flops=1.5 * least)
    assert [run.tokens for run in runs] == [500]


def test_a_run_costs_its_steps():
    run = cell(tokens=1000, batch=64)
    assert run.steps == 16
    assert run.flops == 16 * 64 * count.flops_per_token(run.shape, 16)


def test_the_smoothed_loss_is_the_mean_over_the_last_tokens():
    losses, tokens = [9.0, 3.0, 2.0, 1.0], [10.0, 10.0, 20.0, 10.0]
    assert sweep.smoothed(losses, tokens, window=30) == approx((2 * 20 + 1 * 10) / 30)
    assert sweep.smoothed(losses, tokens, window=0.1) == 1.0
    assert math.isnan(sweep.smoothed([3.0, None], [10, 10], window=20))
    assert sweep.smoothed([None, 3.0], [10, 10], window=10) == 3.0


@given(steps=st.integers(1, 10_000), eta=st.integers(2, 5), count_=st.integers(1, 4))
def test_rungs_rise_and_end_before_the_run_does(steps, eta, count_):
    found = sweep.rungs(steps, eta, count_)
    assert found == sorted(found)
    assert len(found) == count_
    assert all(1 <= rung <= steps for rung in found)
    assert found[-1] == math.ceil(steps / eta)


def test_the_best_of_a_rung_go_on_and_none_without_a_loss():
    losses = {"a": 3.0, "b": None, "c": 1.0, "d": 2.0, "e": 4.0, "f": 5.0}
    assert sweep.best(losses, 3) == {"c", "d"}
    assert sweep.best({"a": None, "b": None}, 3) == set()
    assert sweep.best({"a": 2.0, "b": 1.0}, 3) == {"b"}


def test_a_batch_of_the_law_becomes_rows_and_micro_batches():
    assert sweep.whole(700, length=128, micro_tokens=2048) == 640
    assert sweep.whole(5000, length=128, micro_tokens=2048) == 4096
    assert sweep.whole(1, length=128, micro_tokens=2048) == 128


def row(setting, seed, loss):
    flops = 30.0 if setting else 10.0
    known = {"active N": 7, "D": 100, "lr": 0.1, "bs": 2, "sequence": 4}
    return known | {"setting": setting, "seed": seed, "heldout loss": loss, "FLOPs": flops}


def test_the_proof_compares_seed_by_seed():
    proven = [row("law", 0, 1.0), row("other", 0, 1.5), row("law", 1, 2.0), row("other", 1, 2.1)]
    told = proof.compared([row("", 0, 3.0)], proven)
    other = told["settings"]["other"]
    assert (told["times"], told["settings"]["law"]["heldout loss"]) == (3.0, 1.5)
    assert other["lead"] == approx(0.3)
    assert other["standard_error"] == approx(0.2)  # of 0.5 and 0.1
    assert other["tokens_per_step"] == 8


def test_a_setting_that_diverged_has_no_lead():
    proven = [row("law", 0, 1.0), row("other", 0, None)]
    told = proof.compared([row("", 0, 3.0)], proven)["settings"]["other"]
    assert (told["heldout loss"], told["lead"], told["losses"]) == (None, None, [None])


@pytest.mark.parametrize("layers", [(2, 2, 2), ()])
def test_layers_must_fit_the_widths(layers):
    with pytest.raises(ValueError, match="layers"):
        Ladder(widths=(32, 64), layers=layers)
