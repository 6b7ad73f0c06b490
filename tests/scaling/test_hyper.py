import numpy as np
import pytest

from baiwen.errors import UserError
from baiwen.scaling import hyper
from baiwen.scaling.grid import Runs, cells, read


def made(sizes, tokens, noise=0.0, seed=0):
    """A grid whose loss is least at lr = 2 N^-0.7 D^0.3 and batch = 0.6 D^0.57."""
    random, rows = np.random.default_rng(seed), []
    for n in sizes:
        for d in tokens:
            best = np.log(2 * n**-0.7 * d**0.3), np.log(0.6 * d**0.57)
            for lr, batch in random.normal(0, 0.4, (400, 2)):
                loss = 3 + 0.05 * (lr**2 + batch**2) + noise * random.normal()
                rows.append((n, d, np.exp(best[0] + lr), np.exp(best[1] + batch), loss))
    return Runs(*np.array(rows).T)


def test_a_law_is_recovered_from_runs_around_it():
    laws = hyper.fit(made([1e8, 3e8, 1e9], [1e9, 1e10, 1e11]), draws=100)
    assert laws.lr.exponents == pytest.approx((-0.7, 0.3), abs=0.03)
    assert laws.batch.exponents == pytest.approx((0.57,), abs=0.02)
    found = laws.lr.predict(3e8, 1e10)
    assert found.low < 2 * 3e8**-0.7 * 1e10**0.3 < found.high
    assert not found.beyond


def test_what_lies_beyond_the_runs_is_said():
    laws = hyper.fit(made([1e8, 1e9], [1e9, 1e10]), draws=20)
    assert laws.lr.predict(7e9, 1e10).beyond == {"parameters": pytest.approx(7)}
    assert laws.batch.predict(1e8, 1e8).beyond == {"tokens": pytest.approx(0.1)}
    assert laws.lr.predict(1e8, 1e9).beyond == laws.lr.predict(1e9, 1e10).beyond == {}


def test_runs_of_one_size_give_no_exponent_of_size():
    laws = hyper.fit(made([1e8], [1e9, 1e10]), draws=20)
    assert laws.lr.variables == ("tokens",)


def test_a_mixture_has_a_rate_of_its_own():
    dense = made([1e8, 1e9], [1e9, 1e10])
    total, lr = (
        np.concatenate(x)
        for x in ((dense.parameters, 8 * dense.parameters), (dense.lr, dense.lr * 8**-0.25))
    )
    both = {name: np.tile(x, 2) for name, x in vars(dense).items() if x is not None}
    law = hyper.fit(Runs(**both | {"lr": lr, "total": total}), draws=5).lr
    assert law.variables == ("parameters", "tokens", "ratio")
    assert law.exponents[2] == pytest.approx(-0.25, abs=0.02)
    found = law.predict(1e9, 1e10, ratio=4).value
    assert found == pytest.approx(law.predict(1e9, 1e10).value * 4 ** law.exponents[2])


def test_sizes_and_tokens_that_rise_together_are_refused():
    runs = made([1e8, 1e9], [1e9, 1e10])
    along = runs[np.isclose(runs.tokens, 10 * runs.parameters)]
    with pytest.raises(UserError, match="rise together"):
        hyper.fit(along)


@pytest.mark.parametrize("share", [-0.1, np.nan, np.inf])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(UserError, match="a fraction of a loss"):
        hyper.fit(made([1e8], [1e9]), share)


def test_the_same_seed_draws_the_same_interval():
    runs = made([1e8, 1e9], [1e9, 1e10])
    first, again = (hyper.fit(runs, draws=20).lr.predict(1e9, 1e9) for _ in range(2))
    assert first == again


def test_step_laws_small_cells_agree_with_its_law(shared):
    """Two sizes 1.25x apart tell little of N; D and the batch are told well."""
    laws = hyper.fit(read(shared / "scaling/steplaw_dense_small.csv.gz"))
    (size, tokens), (size_error, tokens_error) = laws.lr.exponents, laws.lr.errors
    assert abs(size + 0.713) < size_error < 0.5
    assert abs(tokens - 0.307) < 0.04 and tokens_error < 0.08
    assert laws.batch.exponents[0] == pytest.approx(0.571, abs=2 * laws.batch.errors[0])


def above_best(cell, laws):
    """How far, of its loss, the run next to what `laws` predict is above the best of its cell."""
    size = cell.parameters[0], cell.tokens[0]
    lr, batch = laws.lr.predict(*size), laws.batch.predict(*size)
    apart = np.log(cell.lr / lr.value) ** 2 + np.log(cell.batch / batch.value) ** 2
    return cell.loss[apart.argmin()] / cell.loss.min() - 1


def test_a_cell_is_predicted_from_the_others(shared):
    runs = read(shared / "scaling/steplaw_dense_small.csv.gz")
    for own in cells(runs):
        rest = runs[np.setdiff1d(np.arange(len(runs)), own)]
        assert above_best(runs[own], hyper.fit(rest, draws=2)) <= 0.0015


def test_larger_cells_are_predicted_from_the_smallest(shared):
    """From the three cells of least FLOPs the other three, of 1.2 to 2.2 times the tokens."""
    runs = read(shared / "scaling/steplaw_dense_small.csv.gz")
    order = sorted(cells(runs), key=lambda own: runs.parameters[own[0]] * runs.tokens[own[0]])
    laws = hyper.fit(runs[np.concatenate(order[:3])], draws=2)
    assert all(above_best(runs[own], laws) <= 0.0005 for own in order[3:])
