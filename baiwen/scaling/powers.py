"""Sums of power laws fitted to losses: Huber on log loss, L-BFGS from a grid of starts.

    found = fit(design, np.log(loss), GRID)     # loss = sum over k of exp(design[k] @ weights)
    found.weights, found.draws

Every loss law here is such a sum: E, A / N^alpha and B / D^beta have the logarithms e, a - alpha n
and b - beta d, which are linear in the weights. Procedure: Hoffmann et al., 2022 (arXiv
2203.15556), section 3.3 and appendix D.2. The terms are summed in logarithms, so no start
overflows; resampled runs start where all of them ended. L-BFGS goes in coordinates in which the
Gauss-Newton Hessian of its start is the identity: four times fewer steps a resampling.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from operator import itemgetter

import numpy as np

from baiwen import log
from baiwen.errors import UserError

DELTA = 1e-3  # of the Huber loss: Chinchilla and Step Law
AT_ONCE = 1024  # points of the grid
STARTS, SHORT = 64, 40  # points of it, the best, from which L-BFGS goes on, by so many steps
KEPT, LONG = 8, 1000  # the best of those, and the most steps to their end
COST = itemgetter(0)
QUANTILES = 200  # of the distances of runs from a law
LEAST = 1e-6  # an exponent, where a resampled one is not above 0: its variable hardly helps


@dataclass(frozen=True)
class Fit:
    """What fits the runs best, what is left over, and the same of resampled runs."""

    weights: np.ndarray  # float64 [weights]
    huber: float  # sum over the runs
    residuals: np.ndarray  # float64 [runs]: log loss less the law's
    draws: np.ndarray  # float64 [draws, weights]


def log_loss(design: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The logarithm of the sum of terms: design [terms, runs, weights] -> [runs]."""
    return np.logaddexp.reduce(design @ weights, axis=0)


def fit(
    design: np.ndarray,
    logs: np.ndarray,
    grid: Sequence[Sequence[float]],
    draws: int = 0,
    seed: int = 0,
) -> Fit:
    """The weights of these runs, which they tell: design [terms, runs, weights], log losses [runs].

    grid: starts of each weight. draws: resampled fits; one that could not tell them is drawn again.
    UserError where alpha or beta, weights 3 and 4, are not above 0.
    """
    assert tells(design), "nothing that is resampled would tell the weights"
    every = np.array(list(itertools.product(*grid)))
    parts = np.array_split(every, 1 + len(every) // AT_ONCE)
    costs = np.concatenate([_costs(design, logs, part) for part in parts])
    starts = every[np.argsort(costs, kind="stable")[:STARTS]]
    near = sorted((_descend(start, design, logs, SHORT) for start in starts), key=COST)[:KEPT]
    cost, weights = min((_descend(start, design, logs) for _, start in near), key=COST)
    for name, power in zip(("N", "D"), weights[3:5], strict=True):
        if power <= 0:
            raise UserError(
                f"the loss does not fall with {name} in these runs: its exponent is {power:.3f}. "
                "Train each at its own best rate and batch, or over wider ranges of N and D"
            )
    chosen = log.track(_resamplings(design, draws, seed), "resampled fits")
    resampled = [_descend(weights, design[:, own], logs[own])[1] for own in chosen]
    left = logs - log_loss(design, weights)
    return Fit(weights, cost, left, np.array(resampled).reshape(draws, len(weights)))


def losses(design: np.ndarray, draws: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """What a run of `design` [terms, 1, weights] may lose: each drawn law with each distance.

    [QUANTILES, draws]. Distances from the law are those of Student's t with as many degrees of
    freedom as the fit left to its residuals: few runs say little of how far the next will be.
    """
    free = len(residuals) - design.shape[-1]
    spread = np.sqrt(residuals @ residuals / free)
    quantiles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    distances = spread * import_module("scipy.special").stdtrit(free, quantiles)
    return np.exp(log_loss(design, draws.T) + distances[:, None])


def tells(design: np.ndarray) -> bool:
    """Whether runs can tell the weights: as many as those, and no two weights act as one."""
    used = [term[:, np.any(term != 0, axis=0)] for term in design]
    many = len(np.unique(np.concatenate(design, axis=1), axis=0)) >= design.shape[-1]
    return many and all(np.linalg.matrix_rank(term) == term.shape[1] for term in used)


def _resamplings(design: np.ndarray, draws: int, seed: int) -> list[np.ndarray]:
    random, found = np.random.default_rng(seed), list[np.ndarray]()
    runs: int = design.shape[1]
    while len(found) < draws:
        chosen = random.integers(runs, size=runs)
        if tells(design[:, chosen]):
            found.append(chosen)
    return found


def _descend(
    start: np.ndarray, design: np.ndarray, logs: np.ndarray, steps: int = LONG
) -> tuple[float, np.ndarray]:
    """The sum of Huber losses and the weights where L-BFGS ends."""
    turn = _whitening(start, design)
    options = {"maxiter": steps, "ftol": 1e-14, "gtol": 1e-9}
    begin = np.linalg.solve(turn, start)
    # Imported where it is needed, here and for `stdtrit`: it takes most of a second of every start.
    minimize = import_module("scipy.optimize").minimize
    end = minimize(_huber, begin, (design @ turn, logs), "L-BFGS-B", jac=True, options=options)
    return float(end.fun), turn @ end.x


def _whitening(weights: np.ndarray, design: np.ndarray) -> np.ndarray:
    """The matrix W, [weights, weights], with W^T H W = 1 for the Gauss-Newton Hessian H there."""
    terms = design @ weights
    slopes = np.einsum("tr,trw->rw", np.exp(terms - np.logaddexp.reduce(terms, axis=0)), design)
    hessian = slopes.T @ slopes
    ridge = 1e-9 * np.trace(hessian) * np.eye(len(weights))
    return np.linalg.inv(np.linalg.cholesky(hessian + ridge)).T


def _costs(design: np.ndarray, logs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sum of Huber losses at each of several weights: [points, weights] -> [points]."""
    return _penalty(log_loss(design, weights.T) - logs[:, None]).sum(axis=0)


def _huber(weights: np.ndarray, design: np.ndarray, logs: np.ndarray) -> tuple[float, np.ndarray]:
    """The sum of Huber losses of log loss, and its gradient [weights]."""
    terms = design @ weights  # [terms, runs]
    found = np.logaddexp.reduce(terms, axis=0)
    apart = found - logs
    pull = np.clip(apart, -DELTA, DELTA) * np.exp(terms - found)
    return float(_penalty(apart).sum()), np.tensordot(pull, design, axes=2)


def _penalty(apart: np.ndarray) -> np.ndarray:
    size = np.abs(apart)
    return np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2))
