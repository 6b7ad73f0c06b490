import numpy as np
import pytest

from baiwen.model.sizes import SIZES
from baiwen.scaling.presets import KAPLAN, LOSSES, PRESETS, Target, hyper


@pytest.mark.parametrize(
    ("parameters", "tokens", "lr", "batch"),
    [(357.9e6, 10e9, 1.68e-3, 0.30e6), (1.07e9, 100e9, 1.56e-3, 1.11e6)],
)
def test_step_law_gives_its_worked_values(parameters, tokens, lr, batch):
    found = next(hyper(Target(parameters, tokens)))
    assert found.lr == pytest.approx(lr, rel=0.01)
    assert found.tokens_per_step == pytest.approx(batch, rel=0.02)
    assert found.beyond is None


def test_deepseek_far_out_is_as_the_spec_worked_it_out_and_says_so():
    found = {one.law: one for one in hyper(Target(6.5e9, 18e12))}["deepseek"]
    assert found.lr == pytest.approx(3.3e-4, rel=0.02)
    assert found.tokens_per_step == pytest.approx(18e6, rel=0.03)
    assert "tokens" not in found.beyond and "above" in found.beyond


def test_more_experts_have_a_lower_rate():
    """Equation 8 of arXiv 2502.05172."""
    dense, mixture = Target(1e9, 1e10), Target(1e9, 1e10, ratio=6, experts=8)
    rates = [{one.law: one.lr for one in hyper(given)}["joint"] for given in (dense, mixture)]
    assert rates[0] == pytest.approx(np.exp(8.39 - 0.81 * np.log(1e9)))
    assert rates[1] / rates[0] == pytest.approx(8**-0.25)


def test_kaplans_law_of_both_is_near_its_laws_of_either():
    """(8.8e13 / N)^0.076 where data never ends, (5.4e13 / D)^0.095 where size does not."""
    for size in (1e7, 1.5e9):
        assert KAPLAN.predict(size, 1e18).value == pytest.approx((8.8e13 / size) ** 0.076, rel=0.06)
    for tokens in (1e9, 23e9):
        found = KAPLAN.predict(1e18, tokens).value
        assert found == pytest.approx((5.4e13 / tokens) ** 0.095, rel=0.06)


def test_laws_that_count_embeddings_are_given_them():
    """Those of Chinchilla's runs (arXiv 2406.12907), and a batch by their loss."""
    target = Target.of(SIZES["0.5b"], 1e10, 4096)
    assert (target.parameters, target.counted) == (357_898_112, 494_032_768)
    batches = [
        {one.law: one.tokens_per_step for one in hyper(given)}["minicpm"]
        for given in (target, Target(target.parameters, 1e10))
    ]
    losses = [LOSSES["epoch"].at(n, 1e10) for n in (target.counted, target.parameters)]
    assert batches[0] / batches[1] == pytest.approx((losses[1] / losses[0]) ** 6.24)


def test_minicpm_has_no_learning_rate_without_mup():
    assert PRESETS["minicpm"].lr is None


def test_the_compute_optimum_of_chinchilla_and_of_its_refit():
    budget = 5.76e23  # Gopher's
    for law in LOSSES.values():
        parameters, tokens = law.best(budget)
        assert 6 * parameters * tokens == pytest.approx(budget)
        around = [law.at(parameters * by, tokens / by) for by in (0.9, 1.1)]
        assert law.at(parameters, tokens) < min(around)
    parameters, tokens = LOSSES["epoch"].best(budget)
    assert parameters == pytest.approx(70e9, rel=0.1)  # Chinchilla itself: 70B on 1.4T tokens
    assert tokens / parameters == pytest.approx(20, rel=0.2)
