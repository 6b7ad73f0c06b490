import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad

from baiwen.errors import UserError
from baiwen.scaling import loss, powers
from baiwen.scaling.presets import LOSSES


def made(law, noise=0.0):
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6)))
    found = np.array([law.at(*pair) for pair in zip(n, d, strict=True)])
    return n, d, found * np.exp(noise * np.random.default_rng(1).normal(size=len(n)))


def test_a_law_is_recovered_from_its_own_losses():
    law = LOSSES["epoch"]
    assert loss.fit(*made(law)).weights == pytest.approx(law.weights, rel=1e-3)


def test_the_gradient_is_that_of_the_loss():
    n, d, found = made(LOSSES["chinchilla"], noise=0.01)
    runs = loss._design(n, d), np.log(found)
    apart = check_grad(
        lambda w: powers._huber(w, *runs)[0],
        lambda w: powers._huber(w, *runs)[1],
        LOSSES["epoch"].weights,
    )
    assert apart < 1e-5


def test_intervals_hold_the_law():
    law = LOSSES["epoch"]
    found = loss.fit(*made(law, noise=0.002), draws=40)
    for name, (low, high) in found.intervals.items():
        assert low < law.named[name] < high


def test_an_interval_holds_runs_that_were_not_fitted():
    """Of laws of 12 runs each, about 95 % of others that scatter alike."""
    law, held = LOSSES["epoch"], []
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e8, 1e9, 4), np.geomspace(1e9, 1e10, 3)))
    clean = np.array([law.at(*pair) for pair in zip(n, d, strict=True)])
    for seed in range(3):
        random = np.random.default_rng(seed)
        found = loss.fit(n, d, clean * np.exp(0.003 * random.normal(size=12)), draws=30)
        for *size, right in zip(n, d, clean, strict=True):
            ends, others = found.predict(*size), right * np.exp(0.003 * random.normal(size=50))
            held.append(np.mean((ends.low < others) & (others < ends.high)))
    assert 0.85 < np.mean(held) < 0.99


def test_a_size_for_a_loss_is_the_inverse_of_the_loss():
    law = LOSSES["epoch"]
    assert law.parameters_for(law.at(7e10, 1.4e12), 1.4e12) == pytest.approx(7e10)
    with pytest.raises(UserError, match="no size reaches"):
        law.parameters_for(1.8, 1e12)


def test_too_few_runs_are_refused():
    with pytest.raises(UserError, match="cannot tell the five numbers"):
        loss.fit(np.ones(9), np.arange(1.0, 10), np.ones(9))


def test_the_published_refit_of_chinchillas_runs(shared):
    with (shared / "scaling/chinchilla_svg_extracted.csv").open() as file:
        rows = list(csv.DictReader(file))
    n, flops, found = (
        np.array([float(row[name]) for row in rows])
        for name in ("Model Size", "Training FLOP", "loss")
    )
    kept = np.argsort(flops / n**2)[5:]  # without the five of least data a parameter, as published
    law = loss.fit(n[kept], (flops / 6 / n)[kept], found[kept], draws=20)
    for name, published in LOSSES["epoch"].named.items():
        low, high = law.intervals[name]
        assert low < published < high
        assert law.named[name] == pytest.approx(published, rel=0.03)


def test_runs_of_few_pairs_are_refused():
    """Seven runs of four pairs: no resampling of them would tell five numbers."""
    n, d = np.array([1e7, 1e7, 1e8, 1e8] * 2)[:7], np.array([1e9, 1e10] * 4)[:7]
    with pytest.raises(UserError, match="in 5 pairs of both"):
        loss.fit(n, d, np.linspace(3, 2, 7), draws=1)


@pytest.mark.parametrize(("name", "power"), [("N", (0.1, -0.3)), ("D", (-0.3, 0.1))])
def test_a_loss_that_rises_is_no_law(name, power):
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e7, 1e9, 3), np.geomspace(1e9, 1e11, 3)))
    with pytest.raises(UserError, match=f"does not fall with {name}"):
        loss.fit(n, d, 1 + (n / 1e7) ** power[0] + (d / 1e9) ** power[1])


def test_an_optimum_that_resampled_laws_cannot_tell_has_a_wide_interval():
    """Where data did not help in some draws, all may go into the size."""
    law = LOSSES["epoch"]
    draws = np.tile(law.weights, (20, 1))
    draws[:4, 4] = -0.01
    size, tokens = replace(law, draws=draws).optimum(1e21)
    assert size.low == pytest.approx(size.value) and size.high > 1e4 * size.value
    assert tokens.low < 1e-4 * tokens.value and tokens.high == pytest.approx(tokens.value)
