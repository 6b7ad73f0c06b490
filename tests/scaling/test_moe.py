import numpy as np
import pytest

from baiwen.errors import UserError
from baiwen.scaling import moe
from baiwen.scaling.moe import PUBLISHED, Mixture, dense

WEIGHTS = np.array([*np.log([1.7, 400.0, 1500.0]), 0.34, 0.36, 0.34 * 0.4])


def made(noise=0.0):
    """Runs of a known law with kappa 0.4: dense ones, and with 2, 4 and 8 times the parameters."""
    grids = np.geomspace(1e7, 1e9, 4), np.array([1.0, 2, 4, 8]), np.geomspace(1e9, 1e11, 3)
    active, ratio, tokens = (x.ravel() for x in np.meshgrid(*grids))
    terms = 1.7 + 400 / (active * ratio**0.4) ** 0.34 + 1500 / tokens**0.36
    spread = np.exp(noise * np.random.default_rng(0).normal(size=len(active)))
    return active, active * ratio, tokens, terms * spread


@pytest.fixture(scope="module")
def law():
    return moe.fit(*made(), draws=1)


def test_a_law_is_recovered_from_its_own_losses(law):
    assert law.weights == pytest.approx(WEIGHTS, rel=2e-3)


def test_intervals_hold_kappa_the_loss_and_the_equal_dense_model():
    law = moe.fit(*made(noise=0.003), draws=30)
    assert law.interval[0] < 0.4 < law.interval[1]
    size = Mixture(3e8, 24e8)
    equal = law.parity(size, 1e10)
    assert equal.low < 3e8 * 8**0.4 < equal.high and not equal.beyond
    loss = law.predict(size, 1e10)
    assert loss.low < 1.7 + 400 / (3e8 * 8**0.4) ** 0.34 + 1500 / 1e10**0.36 < loss.high


def test_what_lies_beyond_the_runs_is_said(law):
    far = law.parity(Mixture(1e10, 16e10), 1e10).beyond
    assert far == {"active": pytest.approx(10), "ratio": pytest.approx(2)}


def test_an_equal_dense_model_has_the_same_loss(law):
    size = Mixture(3e8, 24e8)
    equal = law.parity(size, 1e10).value
    assert law.at(dense(equal), 1e10) == pytest.approx(law.at(size, 1e10))
    assert moe.parity(law.at, size, 1e10) == pytest.approx(equal)


def test_sizes_and_ratios_that_rise_together_are_refused():
    active, total, tokens, loss = made()
    along = np.isclose(active, 1e7) & (active == total) | np.isclose(total, 8e9)
    with pytest.raises(UserError, match="do not rise together"):
        moe.fit(*(np.tile(x[along], 2) for x in (active, total, tokens, loss)), draws=1)


def test_dense_runs_alone_are_refused():
    active, _, tokens, loss = made()
    with pytest.raises(UserError, match="1 ratios of total to active"):
        moe.fit(active, active, tokens, loss, draws=1)


@pytest.mark.parametrize(
    ("experts", "size", "data"),
    [(1, (30.364, -0.1817), (53.9838, -0.1965)), (32, (16.5424, -0.1557), (234.6726, -0.2652))],
)
def test_the_joint_law_is_chinchillas_of_each_number_of_experts(experts, size, data):
    """Table 4 of arXiv 2502.05172."""
    found = PUBLISHED["joint"].at(Mixture(1e9, 1e9, experts), 1e10)
    wanted = size[0] * 1e9 ** size[1] + data[0] * 1e10 ** data[1] + 1.3637
    assert found == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    ("flops", "experts", "active"), [(1e20, 1, 1.7e9), (1e20, 32, 669e6), (1e22, 8, 14.4e9)]
)
def test_the_joint_laws_optimum_is_the_published_one(flops, experts, active):
    """Table 1 of arXiv 2502.05172: active parameters of the least loss for 6 N D FLOPs."""
    sizes = np.geomspace(active / 4, active * 4, 2000)
    at = PUBLISHED["joint"].at
    losses = [at(Mixture(n, n, experts), flops / 6 / n) for n in sizes]
    assert sizes[np.argmin(losses)] == pytest.approx(active, rel=0.04)


def test_the_routed_law_stops_helping_where_its_paper_says():
    """Clark et al.: S-BASE brings nothing from about 900B parameters on."""
    at = PUBLISHED["routed"].at
    gain = [at(dense(n), 1) / at(Mixture(n, n, 64), 1) for n in (1e9, 9.4e11, 1e13)]
    assert gain[0] > 1.09 and gain[1] == pytest.approx(1, abs=0.01) and gain[2] < 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_mixture_and_its_equal_dense_model_are_found_from_either(name):
    at = PUBLISHED[name].at
    equal = moe.parity(at, Mixture(1e9, 6e9), 5e10)
    assert 1e9 < equal < 6e9
    again = moe.mixture_for(at, equal, 6, 5e10)
    assert (again.active, again.total) == pytest.approx((1e9, 6e9))
